"""What a results folder holds, by kind, and what of it nothing refers to.

Kept is whatever a run's JSON anywhere in the folder refers to: a cell by its key, weights that were
set aside by their digest. What a living process writes is kept as well:

- Files that are being written, and trainings, are locked while their process lives.
- A running measurement has cells before it has a JSON. So no cell goes while one is running, and
  none that was written or taken by a run within a day (`RECENT_S`): an interrupted run goes on from
  its cells.
- Published results are only read. Links are not followed: what is behind one may be shared with
  another folder, whose runs are not known here.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.refusal import Refusal
from harness.storage import remembered
from harness.storage.arrays import Damaged, digest, read_arrays, read_description
from harness.storage.files import PART, PUBLISHED, refuse_published, remove_if_dead
from harness.storage.locks import try_lock
from harness.storage.results import QUICK, RUN_FILE, UNTRAINED
from harness.storage.vouching import read_provenance

RECENT_S = 24 * 3600.0
CELL = re.compile("[0-9a-f]{64}")
OLDER_PART = re.compile(r"\..+\.[\w-]+\.\d+\.[0-9a-f]{8}")  # as versions without locks named it
Place = tuple[str, str]  # data set and model, as their folders are called; "" for none

DAMAGED = "damaged cells, set aside"
UNUSED = "cells of no run"
UNFINISHED = "files that no process writes any more"
DONE = "states of finished trainings"
OLD = "weights set aside"
EMPTY = "empty folders"
REASONS = (UNUSED, DAMAGED, UNFINISHED, DONE, OLD, EMPTY)


@dataclass(frozen=True)
class Item:
    """A file, or an empty folder.

    Args:
        kind: What it is, in words.
        size: Bytes.
        of: The data set and model that it is of.
        why: Of `REASONS`, why it can go; "" for what stays.
    """

    path: Path
    kind: str
    size: int
    of: Place = ("", "")
    why: str = ""


@dataclass
class Survey:
    """All that is in a results folder.

    Args:
        notes: Why something stays that could go otherwise, a sentence each.
    """

    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def removable(self) -> list[Item]:
        return [item for item in self.items if item.why]


def survey(results: Path) -> Survey:
    """Look at everything in a results folder; nothing is changed.

    Raises:
        Refusal: There is no such folder, or a part of it cannot be read.
    """
    if not results.is_dir():
        raise Refusal(f"There is no folder {results}. Check `--results`.")
    found, files = Survey(), list[os.DirEntry[str]]()
    folders = list(_walk(results, files))
    cells, weights = _references(results, files, found)
    running = [f.path for f in files if f.name.endswith(".lock") and _is_held(Path(f.path))]
    spared = bool(running) or bool(found.notes)
    if running:
        found.notes.append(
            "Something is being measured or trained in this folder: cells stay. Clean it again "
            "when that is done."
        )
    published = {Path(file.path).parent for file in files if file.name == PUBLISHED}
    for file in files:
        path, size = Path(file.path), _size(file)
        kind, of = _kind_of(path.relative_to(results))
        if not published.isdisjoint(path.parents):
            found.items.append(Item(path, "published results", size, of))
            continue
        why = _why(path, kind, cells, weights, running, spared)
        found.items.append(Item(path, kind, size, cells.get(path.name, of), why))
    found.items += _empty(results, folders, found.items)
    return found


def clean(found: Survey) -> list[Item]:
    """Remove what nothing refers to; return what is removed.

    What a process has begun to use since the survey stays.

    Raises:
        Refusal: The folder lies in published results, or something cannot be removed.
    """
    gone = []
    for item in found.removable:
        refuse_published(item.path)
        try:
            if _remove(item):
                gone.append(item)
        except OSError as error:
            raise Refusal(
                f"{item.path} cannot be removed: {error.strerror}. Make its folder writable, or "
                "remove it yourself."
            ) from error
    return gone


def _remove(item: Item) -> bool:
    if item.why == EMPTY:
        with contextlib.suppress(OSError):  # something was written there
            item.path.rmdir()
            return True
        return False
    if item.why == UNFINISHED:
        return _is_free(item.path) and (remove_if_dead(item.path) or _unlink(item.path))
    if item.why == UNUSED and _is_recent(item.path):
        return False
    if item.why == DONE and _is_held(_lock_of(item.path)):
        return False
    return _unlink(item.path)


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _walk(folder: Path, files: list[os.DirEntry[str]]) -> Iterator[Path]:
    """All folders below one, the innermost first; their files go to `files`."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise Refusal(f"{folder} cannot be read: {error.strerror}. Make it readable.") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), files)
            yield Path(entry.path)
        else:
            files.append(entry)


def _size(file: os.DirEntry[str]) -> int:
    try:
        return file.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # gone meanwhile


def _references(
    results: Path, files: list[os.DirEntry[str]], found: Survey
) -> tuple[dict[str, Place], set[str]]:
    """The cells that runs refer to, with the data set and model of the first, and their weights."""
    cells, weights = dict[str, Place](), set[str]()
    for file in files:
        path = Path(file.path)
        if not RUN_FILE.fullmatch(file.name) or path.suffix != ".json":
            continue
        if "checkpoints" in path.relative_to(results).parts:
            continue
        try:
            told = read_provenance(path)
        except Refusal as refusal:
            found.notes.append(f"{refusal} Cells stay, since its own are not known.")
            continue
        place = path.parts[-4], path.parts[-2]
        weights.add(str(told.get("weights", "")))
        for key in (*told["cells"].values(), remembered.key_of(told["cells"])):
            cells.setdefault(key, place)
    return cells, weights


def _kind_of(inside: Path) -> tuple[str, Place]:
    """What a file is, by its place in the results, and what it is of."""
    if inside.parts[0] in (QUICK, UNTRAINED) and len(inside.parts) > 1:
        return _kind_of(Path(*inside.parts[1:]))
    first, name, depth = inside.parts[0], inside.name, len(inside.parts)
    if name.endswith((PART, ".lock")) or OLDER_PART.fullmatch(name):
        return "unfinished files", ("", "")
    if first == "cells":
        return "cells", ("", "")
    if first == "checkpoints":
        kinds = {".partial": "states of trainings", ".safetensors": "weights", ".json": "histories"}
        of = (inside.parts[1], inside.parts[2]) if depth == 4 else ("", "")
        return kinds.get(inside.suffix, "other"), of
    if depth == 4 and name.startswith("seed") and inside.suffix in (".csv", ".json", ".bits"):
        return "tables", (first, inside.parts[2])
    kinds = {"figures": "figures", "report": "reports", "leaderboard.csv": "tables"}
    if name.startswith("study") and inside.suffix == ".json":
        return "answers", (first, "")
    return ("reports" if inside.suffix == ".html" else kinds.get(first, "other")), ("", "")


def _why(
    path: Path,
    kind: str,
    cells: Mapping[str, Place],
    weights: set[str],
    running: list[str],
    spared: bool,
) -> str:
    """Why a file can go, "" if it stays."""
    if kind == "unfinished files":
        return UNFINISHED if _is_free(path) else ""
    if kind == "cells" and path.name.endswith(".damaged"):
        return DAMAGED
    if kind == "cells" and CELL.fullmatch(path.name) and path.name not in cells:
        return "" if spared or _is_recent(path) else UNUSED
    if kind == "states of trainings" and str(_lock_of(path)) not in running:
        return DONE if _is_finished(path) else ""
    if path.name.startswith("old-") and kind in ("weights", "histories"):
        return "" if _is_named(path.with_suffix(".safetensors"), weights) else OLD
    return ""


def _is_recent(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime < RECENT_S
    except OSError:
        return True  # gone meanwhile


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock, or one may where files have none."""
    try:
        with path.open("r+b") as file:
            locked = try_lock(file.fileno())
    except OSError:
        return path.exists()
    return _is_recent(path) if locked is None else not locked


def _is_free(path: Path) -> bool:
    """Whether no process writes an unfinished file any more."""
    if path.name.endswith((PART, ".lock")):
        return not _is_held(path)
    return not _is_recent(path)


def _lock_of(partial: Path) -> Path:
    return partial.with_name(f".{partial.stem}.lock")


def _is_finished(partial: Path) -> bool:
    """Whether a state is of the very training that the weights beside it come from."""
    try:
        identity = read_description(partial).get("identity")
        made = read_description(partial.with_suffix(".safetensors"))
    except (Damaged, OSError):
        return False
    return isinstance(identity, dict) and all(made.get(k) == v for k, v in identity.items())


def _is_named(path: Path, weights: set[str]) -> bool:
    """Whether a run is of these weights."""
    try:
        return digest(read_arrays(path)[0]) in weights
    except OSError:
        return False
    except Damaged:
        return True  # unknown, such as bfloat16


def _empty(results: Path, folders: list[Path], items: list[Item]) -> list[Item]:
    """Folders that hold nothing, or nothing that stays; the innermost first."""
    kept = {folder for item in items if not item.why for folder in item.path.parents}
    return [Item(f, "folders", 0, why=EMPTY) for f in folders if f not in kept and _is_plain(f)]


def _is_plain(folder: Path) -> bool:
    """Whether a folder was not made just now, to be filled."""
    return any(folder.iterdir()) or time.time() - folder.stat().st_mtime > RECENT_S
