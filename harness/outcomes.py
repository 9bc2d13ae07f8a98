"""Per-image outcomes from stored cells.

An outcome is what one image adds to a mean: a hit, a loss. A metric has outcomes if
`suites.metrics` knows them for its name, or if the cells hold an array (N,) of its name. Nothing is
written: a results folder can be another person's.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from harness.cells import CellStore
from harness.files import canonical
from harness.groups import Where
from harness.results import cells_root, csv_path, told
from harness.sampling import Groups, Stored
from suites.metrics import OF_IMAGES

BY_CLASS = re.compile(r"(.+)_class_(\d+)")
# What of a cell's description its images follow from; models are compared where these are equal.
SEEN = ("data", "suite", "version", "condition", "level", "constants", "seed")


def of_images(metric: str, arrays: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (outcomes, positions) of a metric's images, None where it has no outcomes.

    Args:
        arrays: Of one cell.
    """
    positions, labels = arrays["indices"].numpy(), arrays["labels"]
    by_class = BY_CLASS.fullmatch(metric)
    if by_class is not None and metric not in arrays:
        whole = of_images(by_class[1], arrays)
        taken = labels.numpy() == int(by_class[2])
        if whole is None or not taken.any():
            return None
        kept = np.isin(whole[1], positions[taken])
        return (whole[0][kept], whole[1][kept]) if kept.any() else None
    own = arrays.get(metric)
    if own is not None and own.shape == labels.shape:
        values = own.numpy().astype(float)
        there = np.isfinite(values)  # what was not asked of an image, or has no value for it
        return (values[there], positions[there]) if there.any() else None
    if "logits" not in arrays or metric not in OF_IMAGES:
        return None
    return OF_IMAGES[metric](arrays["logits"], labels).numpy().astype(float), positions


class StoredOutcomes:
    """The outcomes of the runs in a results folder.

    Args:
        advance: Told 1 after each cell.
    """

    def __init__(self, results: Path, advance: Callable[[int], None] = lambda n: None) -> None:
        self._results, self._advance = results, advance
        self._store = CellStore(cells_root(results))

    def __call__(
        self,
        dataset: str,
        suite: str,
        model: str,
        seed: int,
        groups: Groups,
        metrics: tuple[str, ...],
    ) -> Stored:
        """Return {(metric, group): (means over the group's cells, what they were seen on)}.

        Raises:
            ValueError: The JSON of the run is damaged.
        """
        beside = told(csv_path(self._results, dataset, suite, model, seed).with_suffix(".json"))
        keys = {_where(name): key for name, key in beside.get("cells", {}).items()}
        stored = {where for where, key in keys.items() if key in self._store}
        whole = {name: cells for name, cells in groups.items() if stored.issuperset(cells)}
        sums = {(metric, group): _Sum() for metric in metrics for group in whole}
        for where in dict.fromkeys(w for cells in groups.values() for w in cells):
            self._advance(1)
            inside = [group for group, cells in whole.items() if where in cells]
            if not inside:
                continue
            arrays, description = self._store.look(keys[where]) or ({}, {})
            for metric in metrics:
                found = of_images(metric, arrays) if arrays else None
                for group in inside:
                    sums[metric, group].add(found, description)
        return {k: s.mean() for k, s in sums.items() if s.whole}


class _Sum:
    """The sum of a group's cells, as long as all are stored and of the same images."""

    def __init__(self) -> None:
        self.whole, self.count = True, 0
        self._total, self._positions = np.zeros(()), np.zeros(0)
        self._seen = hashlib.sha256()

    def add(
        self, found: tuple[np.ndarray, np.ndarray] | None, description: Mapping[str, Any]
    ) -> None:
        if found is None or (self.count and not np.array_equal(found[1], self._positions)):
            self.whole = False
            return
        self._total, self._positions = self._total + found[0], found[1]
        self.count += 1
        seen = {k: description.get(k) for k in SEEN}
        self._seen.update(canonical(seen).encode() + b"\n")

    def mean(self) -> tuple[np.ndarray, str]:
        seen = self._seen.copy()
        seen.update(self._positions.tobytes())
        return self._total / self.count, seen.hexdigest()


def _where(name: str) -> Where | None:
    """A cell's condition and level from its name in the JSON."""
    condition, _, level = name.rpartition(" ")
    try:
        return condition, float(level)
    except ValueError:
        return None
