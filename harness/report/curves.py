"""Curves of every suite that has levels: severities, radii, steps, tolerances, batch sizes.

A suite's curves are drawn in one panel for each condition, a line for each model, from the mean
over seeds at each level. Where a suite has the clean test set, every curve starts there, at level
0; where it counts what an image costs, evaluations or multiply-adds of the whole network are the
horizontal axis in place of the level, as the reader chooses, and models without a solver are points
beside every curve.

Intervals are those of the leaderboard, over seeds and images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import pandas as pd

from harness.analysis.collect import Name, Outcomes
from harness.analysis.groups import KINDS
from harness.analysis.numbers import CLEAN, MEAN, cell_intervals, shared_corruptions, with_means
from harness.report.board import is_of_class
from harness.report.numbers import Number, convert, count_decimals, unit_of
from harness.report.runs import Place, numbers_of
from harness.suites.metric import is_bound
from harness.suites.metrics import METRICS

DEPTH = "depth"  # the condition of a model without a solver
# What may lie on the axis in place of the level; `nfe` where a suite does not count the others.
COSTS = (("evaluations", ""), ("macs", ""))
OLDER = (("nfe", ""),)
RATIO = 16  # of the largest to the smallest level, from where on an axis is logarithmic
DOUBLED, MILLION = 4, 1e6  # the same of costs, which double with steps; in which MACs are given
Cell = tuple[str, float]  # condition and level
# By model, metric and cell: value, low, high, and the keys of the runs behind them.
Intervals = dict[tuple[str, Name, Cell], tuple[float, float, float, tuple[str, ...]]]
RunsOf = Callable[..., list[int]]  # (model, keys of runs or all) to their numbers in the page
NOTHING = (math.nan, math.nan, math.nan, ())


def curves(
    table: pd.DataFrame,
    place: Mapping[str, int],
    outcomes: Outcomes | None = None,
    runs: Place | None = None,
) -> list[dict[str, Any]]:
    """Return the curves of each (dataset, suite) that has any.

    Args:
        table: Long table.
        place: Number of each model in the page; `runs` that of each run.
        outcomes: Outcomes by image, or what a leaderboard knows of them.

    Returns:
        Of each suite its names, `conditions`, `cells` as [condition, level], `x` (the title of the
        axis) and whether it is `log`, `seeds`, and `metrics`: of each its names, decimals, and for
        each model [value, low, high] of every cell, flat, and where these are not of all its runs
        here `runs`, the numbers of theirs by cell; with costs also `axes`, of each its title `x`,
        whether it is `log`, and `at`, where each cell is on it (`x`, `log` and `at` of the suite
        are those of the first), and `everywhere`, the number of the condition that belongs beside
        all others, if there is one.
    """
    left_out = {v for v in table["variant"].unique() if is_bound(v) or is_of_class(v)}
    table = table[~table["variant"].isin(left_out)]
    found = []
    for (dataset, suite), part in table.groupby(["dataset", "suite"], sort=False):
        cells = _cells(part)
        if cells:
            own = partial(numbers_of, runs or {}, str(dataset), str(suite))
            made = _suite(part, cells, _intervals(part, outcomes), place, own)
            found.append({"dataset": dataset, "suite": suite} | made)
    return found


def _cells(part: pd.DataFrame) -> list[Cell]:
    """The cells of the curves, condition by condition; none where no curve has two points."""
    levels: dict[str, list[float]] = {}
    for condition, level in _pairs(part):
        levels.setdefault(condition, []).append(level)
    start = [0.0] if levels.get(CLEAN) == [0.0] else []
    curved = {c: sorted({*start, *of}) for c, of in levels.items() if not (start and c == CLEAN)}
    return [(c, level) for c, of in curved.items() if len(of) > 1 for level in of]


def _pairs(part: pd.DataFrame) -> list[Cell]:
    pairs = part[["condition", "level"]].drop_duplicates()
    return [(str(c), float(level)) for c, level in pairs.itertuples(index=False)]


def _intervals(part: pd.DataFrame, outcomes: Outcomes | None) -> Intervals:
    """The mean and interval of every cell of a suite, and of the mean over corruptions."""
    shared = shared_corruptions(part)
    grouping = with_means({MEAN: tuple(shared)} if len(shared) > 1 else {})
    columns = ["model", "metric", "variant", "condition", "level", "value", "low", "high", "runs"]
    found = {}
    for _, own in part.groupby("model", sort=False):  # one at a time, which needs less memory
        frame = cell_intervals(own, outcomes, None, None, grouping).dropna(subset=["level"])
        for model, metric, variant, condition, level, *row in frame[columns].itertuples(
            index=False
        ):
            found[model, (metric, variant), (condition, level)] = tuple(row)
    return found


def _suite(
    part: pd.DataFrame,
    cells: list[Cell],
    intervals: Intervals,
    place: Mapping[str, int],
    runs_of: RunsOf,
) -> dict[str, Any]:
    starts = not any(c == CLEAN for c, _ in cells) and (CLEAN, 0.0) in _pairs(part)
    severities = not set(KINDS).isdisjoint(c for c, _ in cells)
    if levels := sorted({level for _, _, (c, level) in intervals if c == MEAN}):
        cells = cells + [(MEAN, level) for level in [0.0] * starts + levels]
    names = list(dict.fromkeys(part[["metric", "variant"]].itertuples(index=False, name=None)))
    costs = [name for name in COSTS if name in names] or [name for name in OLDER if name in names]
    depth = [pair for pair in _pairs(part) if pair[0] == DEPTH and costs]
    cells = cells + [pair for pair in depth if pair not in cells]
    metrics = [_metric(name, cells, intervals, place, runs_of) for name in names]
    axes = [_axis(m) for cost in costs for m in metrics if (m["metric"], m["variant"]) == cost]
    conditions = list(dict.fromkeys(c for c, _ in cells))
    corrupted = {c for c, _ in _pairs(part)} - {CLEAN}
    shared = len(shared_corruptions(part))
    mean = "mean of all" if shared == len(corrupted) else f"mean of {shared} common"
    title = "severity" if severities else "level"
    levels = [level for _, level in cells]
    first = {"x": title + " (0: clean)" * starts, "log": _spans(levels), "at": None}
    others = [m for m in metrics if (m["metric"], m["variant"]) not in (*costs, *OLDER)]
    return {
        "conditions": [mean if c == MEAN else c for c in conditions],
        "cells": [[conditions.index(c), level] for c, level in cells],
        **(axes[0] if axes else first),
        "axes": axes,
        "everywhere": conditions.index(DEPTH) if depth else None,
        "seeds": int(part["seed"].nunique()),
        "metrics": others or metrics,
    }


def _axis(metric: dict[str, Any]) -> dict[str, Any]:
    """The axis on which the costs of a metric lie."""
    title, unit = metric["title"], 1.0
    if metric["metric"] == "macs":
        title, unit = f"{title}, millions", MILLION
    at = {m: [v and v / unit for v in line[::3]] for m, line in metric["models"].items()}
    return {"x": title, "log": _spans([v for v in chain(*at.values()) if v], DOUBLED), "at": at}


def _spans(numbers: Sequence[float], ratio: float = RATIO) -> bool:
    """Whether a logarithmic axis shows them better."""
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= ratio


def _metric(
    name: Name,
    cells: Sequence[Cell],
    intervals: Intervals,
    place: Mapping[str, int],
    runs_of: RunsOf,
) -> dict[str, Any]:
    metric = METRICS[name[0]]
    models = list(dict.fromkeys(model for model, of, _ in intervals if of == name))
    places = count_decimals(metric, [v for (_, of, _), (v, *_) in intervals.items() if of == name])
    lines: dict[str, list[Number]] = {}
    runs: dict[str, dict[str, list[int]]] = {}
    for model in models:
        line, all_runs = lines.setdefault(str(place[model]), []), runs_of(model)
        for i, (condition, level) in enumerate(cells):
            start = intervals.get((model, name, (CLEAN, 0.0))) if level == 0 else None
            *row, keys = start or intervals.get((model, name, (condition, level)), NOTHING)
            line += [convert(metric, v, places) if math.isfinite(v) else None for v in row]
            if keys and (own := runs_of(model, keys)) != all_runs:
                runs.setdefault(str(place[model]), {})[str(i)] = own
    return {
        "metric": name[0],
        "variant": name[1],
        "title": metric.title,
        "unit": unit_of(metric),
        "better": metric.sign,
        "places": places,
        "models": lines,
        "runs": runs,
    }
