"""Per-image outcomes from stored cells.

An outcome is what one image adds to a mean: a hit, a loss. A metric has outcomes if it is a
function of logits image by image, or if the cells hold an array (N,) of its name. Nothing is
written: a results folder can be another person's.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.collect import Groups, Key, Name, Stored
from harness.analysis.groups import Where
from harness.analysis.sample import Sample
from harness.storage.cells import CellStore
from harness.storage.files import canonical
from harness.storage.results import cells_root, csv_path, read_provenance
from harness.suites.metrics import METRICS, array_name, parts_of, variant

# What of a cell's description its images follow from; models are compared where these are equal.
SEEN = ("data", "suite", "version", "condition", "level", "constants", "seed")


def of_images(
    metric: Name, arrays: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (outcomes, positions) of a metric's images, None where it has no outcomes.

    Args:
        metric: Name and variant.
        arrays: Of one cell.
    """
    name, kind = metric
    positions, labels = arrays["indices"], arrays["labels"]
    parts = parts_of(kind)
    if parts and parts[-1].startswith("class "):
        whole = of_images((name, variant(*parts[:-1])), arrays)
        own = labels == int(parts[-1].removeprefix("class "))
        if whole is None or not own.any():
            return None
        kept = np.isin(whole[1], positions[own])
        return (whole[0][kept], whole[1][kept]) if kept.any() else None
    stored = arrays.get(array_name(METRICS[name], kind))
    if stored is not None and stored.shape == labels.shape:
        values = stored.astype(float)
        there = np.isfinite(values)  # what was not asked of an image, or has no value for it
        return (values[there], positions[there]) if there.any() else None
    per_image = METRICS[name].of_images
    if "logits" not in arrays or kind or per_image is None:
        return None
    return per_image(arrays["logits"], labels).astype(float), positions


class StoredOutcomes:
    """The outcomes of the runs in a results folder.

    Args:
        advance: Called with 1 after each cell.
        board: Gives what a leaderboard knows of means whose outcomes are not stored.
    """

    def __init__(
        self,
        results: Path,
        advance: Callable[[int], None] = lambda n: None,
        board: Callable[[], Mapping[Key, Sample]] = dict,
    ) -> None:
        self._results, self._advance = results, advance
        self._store = CellStore(cells_root(results))
        self._board = lru_cache(board)

    def __call__(
        self,
        dataset: str,
        suite: str,
        model: str,
        seed: int,
        groups: Groups,
        metrics: tuple[Name, ...],
    ) -> Stored:
        """Return {(metric, group): (means over the group's cells, what they were seen on)}.

        Raises:
            Refusal: The JSON of the run is damaged.
        """
        path = csv_path(self._results, dataset, suite, model, seed).with_suffix(".json")
        beside = read_provenance(path) if path.is_file() else {}
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

    def known(self, key: Key) -> Sample | None:
        """Return what the leaderboard knows of a mean."""
        return self._board().get(key)


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
