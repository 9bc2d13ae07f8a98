"""What a figure was drawn from: files of a results folder, by their hashes, in the figure itself.

A PNG carries it as its text `Source`, so that a page shows no figure of results that have changed.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from harness.storage.files import canonical


def describe_source(figure: str, results: Path, files: Iterable[Path]) -> str:
    """Return what a figure says of its source.

    Args:
        figure: Name of its file.
        files: In `results`; none for a picture that no measurement is behind.
    """
    digests = {path.relative_to(results).as_posix(): _digest(path) for path in sorted(set(files))}
    return canonical({"figure": figure, "files": digests})


def is_current(source: Any, figure: str, results: Path) -> bool:
    """Return whether a figure of this name was drawn from files as they are in a folder now."""
    try:
        content = json.loads(source)
        files = content["files"].items()
        return content["figure"] == figure and all(
            _is_inside(path) and _digest(results / path) == digest for path, digest in files
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _is_inside(path: str) -> bool:
    place = PurePosixPath(path)
    return not place.is_absolute() and ".." not in place.parts


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
