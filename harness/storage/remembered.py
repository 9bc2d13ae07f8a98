"""What many cells of a run gave together, so that tables of large folders need not open them.

It lies among the cells, under a key that hashes all it follows from: the keys of the run's cells,
which hash all that they follow from, and the source code that makes means of them. So it is never
out of date, and like a cell it can be deleted at any time. It is used only while all cells of the
run are there.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from harness.refusal import Refusal
from harness.storage.arrays import Damaged, read_arrays, write_arrays
from harness.storage.cells import CellStore
from harness.storage.files import canonical
from harness.suites import calibration, detection, metric, metrics, selective

MODULES = (metric, metrics, calibration, selective, detection)  # which turn logits into outcomes
FORMAT = 1  # raised by every change of how outcomes are made of cells
Found = dict[str, tuple[np.ndarray, str] | None]  # None for what has no outcomes


def name_of(cells: Iterable[tuple[str, float]]) -> str:
    """Return the name of a mean over cells, which are added up in this order."""
    return hashlib.sha256(canonical({"cells": list(cells)}).encode()).hexdigest()[:16]


def key_of(cells: Mapping[str, str]) -> str:
    """Return the key of what is remembered of a run with these cells."""
    return hashlib.sha256(canonical(_origin(cells)).encode()).hexdigest()


def _origin(cells: Mapping[str, str]) -> dict[str, Any]:
    return {"of cells": dict(cells), "code": _code(), "format": FORMAT}


@cache
def _code() -> str:
    """What turns logits into outcomes, as a digest."""
    source = b"".join(Path(str(module.__file__)).read_bytes() for module in MODULES)
    versions = f"{np.__version__} {scipy.__version__}"
    return hashlib.sha256(source + versions.encode()).hexdigest()


def can_be(name: str) -> bool:
    """Return whether the key says all that a metric's outcomes follow from: none of a user's."""
    known, own = metrics.METRICS[name], {module.__name__ for module in MODULES}
    functions = [f for f in (known.of_images, known.of_cell) if f is not None]
    return all(f.__module__ in own for f in functions)


def read(store: CellStore, cells: Mapping[str, str]) -> Found:
    """Return what is remembered of a run, by name; nothing where nothing is."""
    path = store.path(key_of(cells))
    try:
        arrays, told = read_arrays(path)
        if told["origin"] != _origin(cells):
            return {}
        found: Found = dict.fromkeys(told["without"])
        for size, names in told["names"].items():
            for row, (name, on) in zip(arrays[size], names, strict=True):
                found[name] = row, on
        return found
    except (OSError, Damaged, LookupError, TypeError, ValueError, AttributeError):
        return {}


def write(store: CellStore, cells: Mapping[str, str], found: Found) -> None:
    """Remember means of a run, and what they were seen on; a folder that is only read goes without.

    Args:
        found: By name.
    """
    sizes: dict[str, list[tuple[str, np.ndarray, str]]] = {}
    for name, mean in found.items():
        if mean is not None:
            sizes.setdefault(str(len(mean[0])), []).append((name, *mean))
    arrays = {size: np.stack([row for _, row, _ in of]) for size, of in sizes.items()}
    told = {
        "origin": _origin(cells),
        "without": sorted(name for name, mean in found.items() if mean is None),
        "names": {size: [(name, on) for name, _, on in of] for size, of in sizes.items()},
    }
    with contextlib.suppress(Refusal):
        write_arrays(store.path(key_of(cells)), arrays, told)
