"""Published results: a folder that commands only read, and that lists its own files.

Its file published.json holds the SHA-256 of every file in it, prose aside. What is put there are
whole runs, with the leaderboard, the answers and the figures made of them; cells and weights stay.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.files import PUBLISHED, publishing, write_bytes
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
CURE = "Get it again from where it was published."


def publish(results: Path, folder: Path) -> list[Path]:
    """Copy runs and what is made of them to `folder`, and list all that is there now.

    Args:
        results: A results folder without subsets of images.

    Returns:
        The files that changed.

    Raises:
        Refusal: There is nothing to publish, or files in `folder` are not those that it lists.
    """
    found = sorted(path for kind in KINDS for path in results.glob(kind))
    found = [path for path in found if "checkpoints" not in path.relative_to(results).parts]
    if not any(path.suffix == ".csv" for path in found):
        raise Refusal(f"There are no results in {results}. Name a folder that holds runs.")
    if (folder / PUBLISHED).is_file():
        verify(folder)
    changed = []
    with publishing(folder):
        for path in found:
            target, content = folder / path.relative_to(results), path.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                write_bytes(target, content)
                changed.append(target)
        write_json(folder / PUBLISHED, {"files": dict(_digests(folder))})
    return changed


def verify(folder: Path) -> None:
    """Refuse published results of which a file was changed, added or taken away.

    Raises:
        Refusal: Names the file.
    """
    listed = read_json(folder / PUBLISHED, CURE).get("files")
    if not isinstance(listed, dict):
        raise Refusal(f"{folder / PUBLISHED} is damaged: it lists no files. {CURE}")
    found = dict(_digests(folder))
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            fact = "is not there" if name not in found else "was not published there"
            fact = fact if name not in listed or name not in found else "is not as published"
            raise Refusal(f"{folder / name} {fact}. {CURE}")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of a folder but prose, with its SHA-256."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != PROSE and path != folder / PUBLISHED:
            name = path.relative_to(folder).as_posix()
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
