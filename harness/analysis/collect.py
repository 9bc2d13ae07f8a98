"""A long table to samples: one for each model, metric and group.

Rows may come in any order: everything is sorted first, so that equal tables give equal numbers to
the last bit. A seed that lacks a cell of a group does not count in that group; one whose value is
not a number makes the mean not a number.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from harness.analysis.groups import Where, groups_of, name_of, place
from harness.analysis.sample import RATE, Sample, from_outcomes, from_table
from harness.suites.metrics import METRICS, is_by_image, span_of

LOG = logging.getLogger(__name__)
Groups = Mapping[str, tuple[Where, ...]]
Grouping = Callable[[frozenset[Where]], Groups]
Name = tuple[str, str]  # of a metric, and its variant
Stored = Mapping[tuple[Name, str], tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Key:
    """Name of a mean: of which model, of what."""

    dataset: str
    suite: str
    metric: str
    variant: str
    group: str
    model: str

    @property
    def column(self) -> tuple[str, str, str, str, str]:
        """All but the model: what is ranked together."""
        return self.dataset, self.suite, self.metric, self.variant, self.group

    @property
    def name(self) -> Name:
        """The metric and its variant."""
        return self.metric, self.variant

    @property
    def order(self) -> tuple:
        """Sort key of a leaderboard; it holds no number, so that rows keep their places."""
        return self.dataset, self.suite, self.metric, self.variant, place(self.group), self.model


class Outcomes(Protocol):
    """Per-image outcomes of a run, where they are stored."""

    def __call__(
        self,
        dataset: str,
        suite: str,
        model: str,
        seed: int,
        groups: Groups,
        metrics: tuple[Name, ...],
    ) -> Stored:
        """Return {(metric, group): ((n,) means over the group's cells, what they were seen on)}.

        What is not stored, or has no value for single images, is left out.
        """
        ...

    def known(self, key: Key) -> Sample | None:
        """Return what a leaderboard knows of a mean whose outcomes are not stored."""
        ...


def collect_samples(
    table: pd.DataFrame,
    outcomes: Outcomes | None = None,
    *,
    grouping: Grouping = groups_of,
    keep: bool = True,
    only: Callable[[Name, str], bool] = lambda metric, group: True,
) -> dict[Key, Sample]:
    """Return a sample for each (dataset, suite, metric, group, model), in the leaderboard's order.

    Args:
        table: Long table.
        outcomes: Where per-image outcomes come from; without it intervals are wider and nothing is
            paired.
        grouping: Cells to groups of them.
        keep: Whether samples keep their outcomes by seed, which pairs models of the same seeds.
        only: Whether the sample of a metric in a group is wanted.
    """
    found: dict[Key, Sample] = {}
    for names, part in table.groupby(["dataset", "suite"]):
        dataset, suite = map(str, names)
        here = _Numbers(part, grouping)
        for model, rows in here.models.items():
            stored: list[Stored] = [{} for _ in rows]
            if outcomes is not None:
                stored = [
                    outcomes(dataset, suite, model, seed, here.groups(None, row), here.metrics)
                    for row, seed, _ in rows
                ]
            for i, metric in enumerate(here.metrics):
                limits = span(metric, here.rates[i])
                groups = {row: here.groups(i, row) for row, _, _ in rows}
                for group in dict.fromkeys(g for own in groups.values() for g in own):
                    if not only(metric, group):
                        continue
                    of_row = [groups[row].get(group, ()) for row, _, _ in rows]
                    cells = max(of_row, key=len)  # a seed that lacks one of them does not count
                    which = [k for k, own in enumerate(of_row) if own == cells]
                    columns = [here.column[c] for c in cells]
                    at = np.ix_([rows[k][0] for k in which], columns)
                    key = Key(dataset, suite, metric[0], metric[1], group, model)
                    found[key] = _sample(
                        key,
                        here.values[i][at],
                        int(here.n[i][at].min()),
                        [stored[k].get((metric, group)) for k in which],
                        limits,
                        keep,
                        [rows[k] for k in which],
                    )
                    if outcomes is not None and not known_alone(metric, found[key]):
                        own = replace(key, group=name_of(cells))
                        found[key] = _sharpen(found[key], outcomes.known(own))
    return dict(sorted(found.items(), key=lambda item: item[0].order))


def _sample(
    key: Key,
    values: np.ndarray,
    n: int,
    seen: list[tuple[np.ndarray, str] | None],
    limits: tuple[float, float],
    keep: bool,
    rows: list[tuple[int, int, str]],
) -> Sample:
    """One sample, from the images if all seeds have them, as the table says, on the same images."""
    names, runs = tuple(seed for _, seed, _ in rows), tuple(run for _, _, run in rows)
    whole = [s for s in seen if s is not None]
    if len(whole) == len(seen) and len({on for _, on in whole}) == 1:
        stack = np.stack([images for images, _ in whole])
        # The table has six decimals.
        if np.allclose(stack.mean(axis=1), values.mean(axis=1), rtol=1e-6, atol=1e-6):
            return from_outcomes(
                stack,
                whole[0][1],
                limits,
                value=float(values.mean()),
                keep=keep,
                square=METRICS[key.metric].square,
                certain=METRICS[key.metric].of_cell is None,
                seed_names=names,
                runs=runs,
            )
        LOG.warning(
            "The %s of %s under %s in the table is not that of its cells, which are left out. "
            "`harness table --rescore` makes the table from the cells.",
            key.metric,
            key.model,
            key.group,
        )
    by_image = METRICS[key.metric].biased or is_by_image(*key.name)
    return from_table(values, n, limits, by_image=by_image, seed_names=names, runs=runs)


def known_alone(metric: Name, sample: Sample) -> bool:
    """Return whether a leaderboard says no more of a mean: it has outcomes, or no interval."""
    return sample.images is not None or METRICS[metric[0]].biased


def _sharpen(sample: Sample, known: Sample | None) -> Sample:
    """A table's sample with the interval that its images gave, if it is of the same runs."""
    if known is None or (known.runs, known.n) != (sample.runs, sample.n):
        return sample
    if not abs(known.value - sample.value) <= 1e-6:
        return sample
    return replace(sample, low=known.low, high=known.high, basis=known.basis)


def is_rate(metric: str, values: np.ndarray, n: np.ndarray) -> bool:
    """Return whether a metric is a share of images: it says so, or it is unknown and counts them.

    Args:
        values: All there are of it, rounded to six decimals; `n` the images behind each.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0 or known.min() < 0 or known.max() > 1:
        return False
    if METRICS[metric].is_rate or metric in METRICS:
        return METRICS[metric].is_rate
    counts = values * n
    whole = np.abs(counts - np.round(counts)) <= 1e-6 * n
    between = (known > 0) & (known < 1)
    return bool(whole[np.isfinite(values)].all() and between.any())


def span(metric: Name, rate: bool) -> tuple[float, float]:
    """Return the values that a mean of it can take; `RATE` for a rate and for nothing else."""
    if rate:
        return RATE
    low, high = span_of(*metric)
    return (low, high) if (low, high) != RATE else (low, math.nextafter(high, math.inf))


class _Numbers:
    """The table of one suite on one data set as arrays (metrics, rows, cells).

    A row is a model with a seed and a run. `values` is NaN where there is none; `there` says
    whether the table has it.
    """

    def __init__(self, part: pd.DataFrame, grouping: Grouping) -> None:
        row, rows = _codes(part["model"], part["seed"], part["run"].astype(str))
        cell, self.cells = _codes(part["condition"], part["level"].astype(float))
        metric, self.metrics = _codes(part["metric"], part["variant"])
        shape = len(self.metrics), len(rows), len(self.cells)
        self.values, self.there = np.full(shape, np.nan), np.zeros(shape, bool)
        self.n = np.zeros(shape, int)
        at = metric, row, cell
        self.values[at], self.there[at] = part["value"].to_numpy(float), True
        self.n[at] = part["n"].to_numpy(int)
        self.rates = [is_rate(m[0], self.values[i], self.n[i]) for i, m in enumerate(self.metrics)]
        self.column = {where: k for k, where in enumerate(self.cells)}
        self.models: dict[str, list[tuple[int, int, str]]] = {}
        for r, (model, seed, run) in enumerate(rows):
            self.models.setdefault(model, []).append((r, int(seed), run))
        self._grouping, self._known = grouping, dict[bytes, Groups]()

    def groups(self, metric: int | None, row: int) -> Groups:
        """The groups that a row has in a metric, or in any."""
        there = self.there[:, row].any(axis=0) if metric is None else self.there[metric, row]
        found = self._known.get(there.tobytes())
        if found is None:
            found = self._grouping(frozenset(self.cells[k] for k in np.flatnonzero(there)))
            self._known[there.tobytes()] = found
        return found


def _codes(*columns: pd.Series) -> tuple[np.ndarray, tuple]:
    """Each row's place among the sorted distinct tuples of `columns`, and these."""
    code, parts = np.zeros(len(columns[0]), np.int64), []
    for column in columns:
        own, distinct = pd.factorize(column.to_numpy(), sort=True)
        code = code * len(distinct) + own
        parts.append(distinct.tolist())
    known, places = np.unique(code, return_inverse=True)
    at = np.unravel_index(known, [len(part) for part in parts])
    names = zip(*([part[i] for i in own] for part, own in zip(parts, at, strict=True)), strict=True)
    return places, tuple(names)
