"""Per-image outcomes from stored cells, or from the packed hits beside a CSV.

An outcome is what one image adds to a mean: a hit, a loss. A metric has outcomes if it is a
function of logits image by image, or if the cells hold an array (N,) of its name. Where there are
no cells, as in a clone, accuracy and error have those of the packed hits.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.collect import Groups, Key, Name, Stored
from harness.analysis.groups import Where
from harness.analysis.sample import Sample
from harness.refusal import Refusal
from harness.storage import remembered
from harness.storage.cells import CellStore
from harness.storage.files import canonical
from harness.storage.packed_outcomes import SEEN, SUFFIX, Packed, metric_of_hits, unpack
from harness.storage.results import cells_root, csv_path, read_provenance
from harness.suites.adversarial_metrics import ROBUST_ACCURACY
from harness.suites.metric import array_name, parts_of, variant
from harness.suites.metrics import ACCURACY, ERROR, METRICS

LOG = logging.getLogger(__name__)
Found = tuple[np.ndarray, np.ndarray]  # outcomes and positions of a metric's images
# Metrics that follow from hits.
HITS = {(ACCURACY.name, ""), (ERROR.name, ""), (ROBUST_ACCURACY.name, "")}
NO_HITS = Packed({}, {}, np.zeros(0, np.int64))


def of_images(metric: Name, arrays: Mapping[str, np.ndarray]) -> Found | None:
    """Return (outcomes, positions) of a metric's images, None where it has no outcomes.

    Args:
        metric: Name and variant.
        arrays: Of one cell.
    """
    name, kind = metric
    if (of_cell := METRICS[name].of_cell) is not None:
        return of_cell(arrays, kind)
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
        remember: Open as few cells as possible: read accuracy alone from the packed hits, and keep
            what whole runs give among their cells, see `storage.remembered`. A damaged cell is
            then not seen.
    """

    def __init__(
        self,
        results: Path,
        advance: Callable[[int], None] = lambda n: None,
        board: Callable[[], Mapping[Key, Sample]] = dict,
        *,
        remember: bool = False,
    ) -> None:
        self._results, self._advance, self._remember = results, advance, remember
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
        cells = beside.get("cells", {})
        keys = {_where(name): key for name, key in cells.items()}
        stored = {where for where, key in keys.items() if key in self._listed}
        order = list(dict.fromkeys(w for of in groups.values() for w in of))
        if not stored.issuperset(order):
            return self._read(keys, stored, _packed(path, beside), groups, order, metrics)
        if not self._remember:
            return self._read(keys, stored, NO_HITS, groups, order, metrics)
        if HITS.issuperset(metrics) and (hits := _hits_of(path, beside)).hits.keys() >= set(order):
            return self._read(keys, (), hits, groups, order, metrics)
        # Of means that are as many as cells nothing is gained.
        if 2 * len(groups) > len(order) or not all(remembered.can_be(name) for name, _ in metrics):
            return self._read(keys, stored, NO_HITS, groups, order, metrics)
        known = remembered.read(self._store, cells)
        names = _names(groups, metrics)
        if known.keys() >= set(names.values()):
            self._advance(len(order))
        else:
            made = self._read(keys, stored, NO_HITS, groups, order, metrics)
            known |= {name: made.get(which) for which, name in names.items()}
            remembered.write(self._store, cells, known)
        return {which: mean for which, name in names.items() if (mean := known[name]) is not None}

    @cached_property
    def _listed(self) -> set[str]:
        """The keys of all cells that are stored."""
        return self._store.keys()

    def _read(
        self,
        keys: Mapping[Where | None, str],
        stored: Collection[Where | None],
        packed: Packed,
        groups: Groups,
        order: Sequence[Where],
        metrics: tuple[Name, ...],
    ) -> dict[tuple[Name, str], tuple[np.ndarray, str]]:
        """The means, from cells and packed hits."""
        there = {*stored, *packed.hits}
        whole = {name: cells for name, cells in groups.items() if there.issuperset(cells)}
        sums = {(metric, group): _Sum() for metric in metrics for group in whole}
        for where in order:
            self._advance(1)
            inside = [group for group, cells in whole.items() if where in cells]
            if not inside:
                continue
            look = self._store.look(keys[where]) if where in stored else None
            arrays, description = look or ({}, packed.seen.get(where, {}))
            seen = canonical({k: description.get(k) for k in SEEN}).encode() + b"\n"
            for metric in metrics:
                found = of_images(metric, arrays) if arrays else _of_hits(metric, packed, where)
                for group in inside:
                    sums[metric, group].add(found, seen)
        return {k: s.mean() for k, s in sums.items() if s.whole}

    def known(self, key: Key) -> Sample | None:
        """Return what the leaderboard knows of a mean."""
        return self._board().get(key)


def _names(groups: Groups, metrics: tuple[Name, ...]) -> dict[tuple[Name, str], str]:
    """What each mean is remembered as: its metric, and its cells in the order of adding up."""
    return {
        (metric, group): f"{array_name(METRICS[metric[0]], metric[1])} {name}"
        for group, name in _names_of(tuple(groups.items()))
        for metric in metrics
    }


@lru_cache(maxsize=1024)
def _names_of(groups: tuple[tuple[str, tuple[Where, ...]], ...]) -> list[tuple[str, str]]:
    order = dict.fromkeys(w for _, cells in groups for w in cells)
    inside = [(group, set(cells)) for group, cells in groups]
    return [(group, remembered.name_of(w for w in order if w in of)) for group, of in inside]


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


def _hits_of(path: Path, beside: Mapping[str, Any]) -> Packed:
    """The hits beside a run's JSON whose cells are there as well: none that are damaged or lost."""
    try:
        return _packed(path, beside) if path.with_suffix(SUFFIX).is_file() else NO_HITS
    except Refusal:
        return NO_HITS


def _of_hits(metric: Name, packed: Packed, where: Where) -> Found | None:
    """The outcomes of a metric of `HITS`; None for other metrics, and where there are none."""
    hits, of = packed.hits.get(where), metric_of_hits(where)
    if (
        hits is None
        or metric not in HITS
        or (metric[0] == ROBUST_ACCURACY.name) != (of == ROBUST_ACCURACY.name)
    ):
        return None
    right = ~hits if metric[0] == ERROR.name else hits
    return right.astype(float), packed.positions


class _Sum:
    """The sum of a group's cells, as long as all are stored and of the same images."""

    def __init__(self) -> None:
        self.whole, self.count = True, 0
        self._total, self._positions = np.zeros(()), np.zeros(0)
        self._seen = hashlib.sha256()

    def add(self, found: Found | None, seen: bytes) -> None:
        if found is None or (self.count and not np.array_equal(found[1], self._positions)):
            self.whole = False
            return
        self._total, self._positions = self._total + found[0], found[1]
        self.count += 1
        self._seen.update(seen)

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
