"""Put the results of several folders into one: of shards, or of several machines.

All is compared before anything is written. Files are written one by one, each whole or not at all,
and nothing that is there is changed; so the same command goes on where it was stopped.

Cells, weights and runs have the same name only if they are of the same work, and must be equal
then: who is to say which of two is right. What tells of a work (a run's JSON, a training's history)
has times and machines in it; the first is kept.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.arrays import Damaged, digest, read_arrays
from harness.storage.contents import Contents, files_of, list_contents
from harness.storage.files import PUBLISHED, canonical, refuse_published, write_bytes
from harness.storage.json_files import read_json
from harness.storage.packing import unpacked
from harness.storage.published import verify
from harness.storage.results import read_run
from harness.storage.spelling import name_of_images

KINDS = ("cells", "weights", "runs", "histories", "answers")
CURE = "Keep the folders apart, or remove the wrong one of the two."
OF_THE_WORK = ("wall_s", "command", "environment")  # what a history says beside its training


@dataclass
class Merged:
    """What became of a merge.

    Args:
        new: How many of each kind were written; `there` how many were there before.
        notes: What was left out, a sentence each.
    """

    new: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def sentence(self, to: Path) -> str:
        """Say what was written."""
        counts = ", ".join(f"{self.new[kind]} {kind}" for kind in KINDS if self.new[kind])
        same = sum(self.there.values())
        return f"{to}: {counts or 'nothing'} added; {same} were there."


def merge(sources: Sequence[Path], to: Path) -> Merged:
    """Write to one folder what several hold; packs (`packing.pack`) are folders as well.

    Raises:
        Refusal: Two folders contradict each other, or one is damaged; nothing was written.
        Refusal: A file cannot be written; what was written stays.
    """
    refuse_published(to)
    merged = Merged()
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(_opened(source, to)) for source in sources]
        stack.enter_context(_naming(dict(zip(folders, sources, strict=True)), merged.notes))
        union = _Union(merged.notes)
        if to.exists():
            union.add(to, list_contents(to), own=True)
        for source, folder in zip(sources, folders, strict=True):
            if to.exists() and folder.resolve() == to.resolve():
                continue
            contents = list_contents(folder)
            if contents.empty:
                raise Refusal(f"{source} holds no results. Check its name.")
            union.add(folder, contents)
        union.check_images()
        for kind, name, path in union.chosen():
            (merged.there if name in union.own[kind] else merged.new)[kind] += 1
            if name not in union.own[kind]:
                _copy(kind, path, to / name)
    return merged


@contextlib.contextmanager
def _opened(source: Path, to: Path) -> Iterator[Path]:
    """A source as a folder."""
    if source.is_file():
        beside = to.absolute().parent
        while not beside.is_dir():
            beside = beside.parent
        with unpacked(source, beside) as folder:
            yield folder
        return
    if (source / PUBLISHED).is_file():
        verify(source)
    yield source


@contextlib.contextmanager
def _naming(sources: Mapping[Path, Path], notes: list[str]) -> Iterator[None]:
    """Name packs in sentences, and not the temporary folders that they lie in."""

    def named(text: str) -> str:
        for folder, source in sources.items():
            text = text.replace(str(folder), str(source))
        return text

    try:
        yield
    except Refusal as refusal:
        raise Refusal(named(str(refusal))) from None
    finally:
        notes[:] = map(named, notes)


def _copy(kind: str, path: Path, target: Path) -> None:
    for file in files_of(path) if kind == "runs" else [path]:
        write_bytes(
            target.with_suffix(file.suffix) if kind == "runs" else target, file.read_bytes()
        )


class _Union:
    """What is to lie in the merged folder: of each name the first that was added.

    Args:
        notes: Gets sentences on what is left out.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._found: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS}
        self.own: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self._images: dict[tuple[str, str], tuple[str, Path]] = {}
        self._told: list[tuple[str, Path, Mapping[str, Any]]] = []

    def add(self, folder: Path, contents: Contents, own: bool = False) -> None:
        """Add a folder's files, each compared with the one of the same name.

        Args:
            own: Whether it is the merged folder itself, of which nothing is refused: what is
                damaged or half written there is written again.
        """
        compare: dict[str, Callable[[Path, Path], bool]] = {
            "cells": _equal_arrays,
            "weights": _equal_arrays,
            "runs": _equal_bytes,
            "histories": _equal_histories,
            "answers": _equal_bytes,
        }
        for kind in KINDS:
            for name, path in getattr(contents, kind).items():
                if not self._sound(kind, name, path, own):
                    continue
                other = self._found[kind].get(name)
                if other is None:
                    self._found[kind][name] = path
                    if own:
                        self.own[kind].add(name)
                elif not compare[kind](other, path):
                    self._disagree(kind, other, path)

    def _sound(self, kind: str, name: str, path: Path, own: bool) -> bool:
        """Whether a file is to be taken; refuses what is damaged, but for cells."""
        try:
            if kind == "cells":
                return _is_cell(path)
            if kind == "weights":
                read_arrays(path)
            elif kind == "histories":
                read_json(path, CURE)
            elif kind == "runs":
                self._told.append((name, path, read_run(path)[1]))
        except Damaged as error:
            if kind == "cells":
                self._notes.append(f"{error} It is left out.")
            elif not own:
                raise Refusal(
                    f"{error} Nothing was written. Remove it, or make it again."
                ) from None
            return False
        except Refusal:
            if not own:
                raise
            return False
        return True

    def _disagree(self, kind: str, one: Path, other: Path) -> None:
        if kind == "answers":
            self._notes.append(
                f"{other} is not {one}: the first is kept. Make it again with `harness study "
                "--no-run`."
            )
            return
        facts = {
            "cells": "hold different arrays under one key",
            "weights": "are different weights of one training",
            "runs": "are different numbers of one run",
            "histories": "are of different trainings",
        }
        raise Refusal(f"{one} and {other} {facts[kind]}. Nothing was written. {CURE}")

    def check_images(self) -> None:
        """Refuse runs on different test images under one name of a data set.

        Raises:
            Refusal: Names two of them.
        """
        for name, path, told in self._told:
            root = name.rsplit("/", 4)[0] if name.count("/") > 3 else ""
            key = root, name_of_images(told["dataset"])
            data, other = self._images.setdefault(key, (told["data"], path))
            if data != told["data"]:
                raise Refusal(
                    f"{other} and {path} are of different test images, though both say "
                    f"`{key[1]}`. Nothing was written. {CURE}"
                )

    def chosen(self) -> Iterator[tuple[str, str, Path]]:
        """Yield what lies in the merged folder in the end: kind, name and where it comes from."""
        for kind in KINDS:
            for name, path in sorted(self._found[kind].items()):
                yield kind, name, path


def _is_cell(path: Path) -> bool:
    """Whether a sound file is a cell, and not what is remembered of several, which is made again.

    Raises:
        Damaged: It is not sound.
    """
    _, description = read_arrays(path)
    if "origin" in description:
        return False
    if hashlib.sha256(canonical(description).encode()).hexdigest() != path.name:
        raise Damaged(f"{path} is another cell than its name says.")
    return True


def _equal_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _equal_arrays(one: Path, other: Path) -> bool:
    return _equal_bytes(one, other) or digest(read_arrays(one)[0]) == digest(read_arrays(other)[0])


def _equal_histories(one: Path, other: Path) -> bool:
    a, b = (read_json(path, CURE) for path in (one, other))
    return all(a.get(k) == b.get(k) for k in (a.keys() | b.keys()) - set(OF_THE_WORK))
