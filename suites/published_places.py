"""Where published files may lie in a data folder: people unpack archives a level up or down."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

DEPTH = 2  # levels below the data folder; one more in a folder called as the data set


def spelled(name: str) -> str:
    """Return the letters and digits of a name in small: "cifar10c" for CIFAR-10-C, cifar_10_c."""
    return "".join(filter(str.isalnum, name.casefold()))


def places_of(
    title: str, root: Path, admits: Callable[[str], bool] = lambda name: True
) -> list[Path]:
    """Return the folders in which the files of a data set may lie, the likeliest first.

    Folders called as the data set, in any spelling, and those in them come before the data folder
    itself and all others.

    Args:
        title: Name of the data set.
        root: The data folder, which need not be there.
        admits: Whether a folder of another name may hold files of it, or folders that do.
    """
    own = spelled(title)

    def below(folder: Path, depth: int, named: bool) -> Iterator[tuple[bool, int, Path]]:
        yield not named, depth, folder
        if depth < DEPTH or spelled(folder.name) == own:
            for child in _folders(folder):
                is_own = spelled(child.name) == own
                if is_own or admits(child.name):
                    yield from below(child, depth + 1, named or is_own)

    return [place for _, _, place in sorted(below(root, 0, False))]


def is_named(title: str, folder: Path, root: Path) -> bool:
    """Return whether a folder in `root`, or one that it lies in, is called as a data set."""
    return spelled(title) in map(spelled, folder.relative_to(root).parts)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that are shown; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [
                folder / entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            ]
    except OSError:
        return []
