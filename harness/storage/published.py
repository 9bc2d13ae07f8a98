"""Published results: a folder that commands only read, and that lists its own files.

Its file published.json holds the SHA-256 of every file in it, prose aside. What is put there are
whole runs, with the leaderboard, the answers and the figures made of them; cells and weights stay.
"""

import hashlib
from collections.abc import Container, Iterator
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.files import PART, PUBLISHED, publishing, write_bytes
from harness.storage.json_files import read_json, write_json

RUNS = ("*/*/*/seed*.csv", "*/*/*/seed*.json", "*/*/*/seed*.bits")
KINDS = (
    *RUNS,
    *(f"untrained/{kind}" for kind in RUNS),
    "*/study*.json",
    "leaderboard.csv",
    "figures/*.png",
)
PROSE = ".md"
CURE = "Get it again from where it was published, or publish it again."


def publish(results: Path, folder: Path) -> list[Path]:
    """Copy runs and what is made of them to `folder`, and list all that is there now.

    Args:
        results: A results folder without subsets of images.

    Returns:
        The files that changed.

    Raises:
        Refusal: There is nothing to publish, or files in `folder` that stay are not those that it
            lists.
    """
    found = sorted(path for kind in KINDS for path in results.glob(kind))
    found = [path for path in found if "checkpoints" not in path.relative_to(results).parts]
    if not any(path.suffix == ".csv" for path in found):
        raise Refusal(f"There are no results in {results}. Name a folder that holds runs.")
    names = {path: path.relative_to(results).as_posix() for path in found}
    listed = {names[path]: _digest(path) for path in found}
    if folder.is_dir():
        there = dict(_digests(folder))
        if (folder / PUBLISHED).is_file():  # what is written now may be of a copy that broke off
            _compare(folder, _read_list(folder), there, besides=listed)
        listed = there | listed
    changed = []
    with publishing(folder):
        # First, so that a folder that is not whole is refused.
        write_json(folder / PUBLISHED, {"files": dict(sorted(listed.items()))})
        for path, name in names.items():
            target, content = folder / name, path.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                write_bytes(target, content)
                changed.append(target)
    return changed


def verify(folder: Path) -> None:
    """Refuse published results of which a file was changed, added or taken away.

    Raises:
        Refusal: Names the file.
    """
    _compare(folder, _read_list(folder), dict(_digests(folder)))


def _read_list(folder: Path) -> dict[str, str]:
    listed = read_json(folder / PUBLISHED, CURE).get("files")
    if not isinstance(listed, dict):
        raise Refusal(f"{folder / PUBLISHED} is damaged: it lists no files. {CURE}")
    return listed


def _compare(
    folder: Path, listed: dict[str, str], found: dict[str, str], besides: Container[str] = ()
) -> None:
    """Refuse files that are not those listed, `besides` some."""
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name) and name not in besides:
            fact = "is not there" if name not in found else "was not published there"
            fact = fact if name not in listed or name not in found else "is not as published"
            raise Refusal(f"{folder / name} {fact}. {CURE}")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of a folder, with its SHA-256, but prose and what a killed writer left."""
    for path in sorted(folder.rglob("*")):
        left = path.name.startswith(".") and path.suffix == PART
        if path.is_file() and path.suffix != PROSE and path != folder / PUBLISHED and not left:
            name = path.relative_to(folder).as_posix()
            yield name, _digest(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
