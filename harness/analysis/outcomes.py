"""Per-image outcomes from stored cells, or from the packed hits beside a CSV.

An outcome is what one image adds to a mean: a hit, a loss. A metric has outcomes if it is a
function of logits image by image, or if the cells hold an array (N,) of its name. Where there are
no cells, as in a clone, accuracy and error have those of the packed hits. Nothing is written: a
results folder can be another person's.
"""

import hashlib
import logging
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
from harness.storage.packed_outcomes import SEEN, SUFFIX, Packed, unpack
from harness.storage.results import cells_root, csv_path, read_provenance
from harness.suites.metrics import ACCURACY, ERROR, METRICS, array_name, parts_of, variant

LOG = logging.getLogger(__name__)
Found = tuple[np.ndarray, np.ndarray]  # outcomes and positions of a metric's images
NO_HITS = Packed({}, {}, np.zeros(0, np.int64))


def of_images(metric: Name, arrays: Mapping[str, np.ndarray]) -> Found | None:
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
    if "logits" not in arrays or kind or per_image is None or METRICS[name].biased:
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
            Refusal: The JSON of the run, or the file of its hits, is damaged.
        """
        path = csv_path(self._results, dataset, suite, model, seed).with_suffix(".json")
        beside = read_provenance(path) if path.is_file() else {}
        keys = {_where(name): key for name, key in beside.get("cells", {}).items()}
        stored = {where for where, key in keys.items() if key in self._store}
        packed = NO_HITS
        if not stored.issuperset(where for cells in groups.values() for where in cells):
            packed = _packed(path, beside)
        there = stored | packed.hits.keys()
        whole = {name: cells for name, cells in groups.items() if there.issuperset(cells)}
        sums = {(metric, group): _Sum() for metric in metrics for group in whole}
        for where in dict.fromkeys(w for cells in groups.values() for w in cells):
            self._advance(1)
            inside = [group for group, cells in whole.items() if where in cells]
            if not inside:
                continue
            look = self._store.look(keys[where]) if where in stored else None
            arrays, description = look or ({}, packed.seen.get(where, {}))
            for metric in metrics:
                found = of_images(metric, arrays) if arrays else _of_hits(metric, packed, where)
                for group in inside:
                    sums[metric, group].add(found, description)
        return {k: s.mean() for k, s in sums.items() if s.whole}

    def known(self, key: Key) -> Sample | None:
        """Return what the leaderboard knows of a mean."""
        return self._board().get(key)


def _packed(path: Path, beside: Mapping[str, Any]) -> Packed:
    """The hits beside a run's JSON."""
    if not (expected := beside.get("bits")):
        return NO_HITS
    path = path.with_suffix(SUFFIX)
    if path.is_file():
        return unpack(path, expected)
    LOG.warning(
        "%s is not there, though its JSON vouches for it: intervals are wider, and nothing is "
        "paired. Copy it from where the CSV comes from, or run it again.",
        path,
    )
    return NO_HITS


def _of_hits(metric: Name, packed: Packed, where: Where) -> Found | None:
    """The outcomes of accuracy or error; None for other metrics, and where there are none."""
    hits = packed.hits.get(where)
    if hits is None or metric not in ((ACCURACY.name, ""), (ERROR.name, "")):
        return None
    right = hits if metric[0] == ACCURACY.name else ~hits
    return right.astype(float), packed.positions


class _Sum:
    """The sum of a group's cells, as long as all are stored and of the same images."""

    def __init__(self) -> None:
        self.whole, self.count = True, 0
        self._total, self._positions = np.zeros(()), np.zeros(0)
        self._seen = hashlib.sha256()

    def add(self, found: Found | None, description: Mapping[str, Any]) -> None:
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
