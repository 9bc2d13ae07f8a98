"""Names of data sets in tables and paths, of what was typed on the command line; nothing heavy.

cifar10                  registered
NAME=PATH                a folder of images, one folder a class
imagefolder:PATH         the same, under the folder's own name
path/to/file.py:NAME     a function in a file; NAME=path/to/file.py:FUNCTION gives it another name
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.models.user_code import is_file
from harness.suites.catalog import DATASETS

FOLDER = "imagefolder:"
# Folders that results have; a data set of that name would lie among what is no data set.
TAKEN = (
    "baseline",
    "benchmarks",
    "cells",
    "checkpoints",
    "figures",
    "published",
    "quick",
    "report",
)
CURE = "Give it another name with `--dataset NAME=PATH`."
LONGEST = 100  # characters


@dataclass(frozen=True)
class DatasetSpec:
    """A data set as it was asked for.

    Args:
        name: In tables and paths.
        folder: Folder of images, absolute; None for another kind.
        code: "/path/to/file.py:FUNCTION", absolute; "" for another kind.
    """

    name: str
    folder: Path | None = None
    code: str = ""


def parse_dataset(spec: str) -> DatasetSpec:
    """Return the name of a data set, and where it comes from; what is registered is its own name.

    Raises:
        ValueError: The name cannot stand in a table, or is taken.
    """
    given, place = _split(spec)
    if is_file(place):
        file, _, function = place.rpartition(":")
        code = f"{_resolve(file)}:{function}"
        return DatasetSpec(_check(given or function, spec), code=code)
    if place.startswith(FOLDER) or given:
        folder = _resolve(place.removeprefix(FOLDER))
        return DatasetSpec(_check(given or folder.name, spec), folder=folder)
    return DatasetSpec(unicodedata.normalize("NFC", spec))


def dataset_name(spec: str) -> str:
    """Return the name in tables and paths of a data set as it was typed.

    Raises:
        ValueError: The name cannot stand in a table, or is taken.
    """
    return parse_dataset(spec).name


def check_datasets(specs: Iterable[str]) -> None:
    """Refuse two data sets of one name.

    Raises:
        ValueError: Names both.
    """
    seen: dict[str, tuple[str, DatasetSpec]] = {}
    for spec in specs:
        found = parse_dataset(spec)
        other, before = seen.setdefault(found.name, (spec, found))
        if found != before:
            raise ValueError(f"`{other}` and `{spec}` have one name in tables. {CURE}")


def _split(spec: str) -> tuple[str, str]:
    """Return the name before `=`, "" where there is none, and the rest."""
    name, equals, place = spec.partition("=")
    if not equals or "/" in name or ":" in name:  # the sign is part of a path
        return "", spec
    if not name.strip() or not place.strip():
        raise ValueError(f"`{spec}` is not of the form NAME=PATH. Give both.")
    return name.strip(), place


def _resolve(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _check(name: str, spec: str) -> str:
    name = unicodedata.normalize("NFC", name)  # macOS takes accents off the letters of files
    problem = _problem(name)
    if problem:
        raise ValueError(f"The data set `{spec}` {problem}. {CURE}")
    return name


def _problem(name: str) -> str:
    """Return what is wrong with a name that a user gives, "" for nothing."""
    plain = name.casefold().strip(" .")
    if not plain:
        return "has no name"
    if not name.isprintable() or name != name.strip():
        return f"has a name that cannot be shown: {name!a}"
    if len(name) > LONGEST:
        return f"has a name of {len(name)} characters, more than {LONGEST}"
    if name.startswith(("=", "+", "-", "@", ".")) or any(c in name for c in "[]/\\,"):
        return f"would have the name `{name}`, which means something else in tables and paths"
    if DATASETS.is_taken(plain) or DATASETS.is_taken(plain.removesuffix("-c")):
        return f"has the name of a registered data set, `{name}`"
    if plain in TAKEN:
        return f"would have the name of a folder that results have, `{name}`"
    return ""
