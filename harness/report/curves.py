"""Curves of every suite that has levels: severities, radii, steps, tolerances, batch sizes.

A suite's curves are drawn in one panel for each condition, a line for each model, from the mean
over seeds at each level. Where a suite has the clean test set, every curve starts there, at level
0; where it has the metric `nfe`, that is the horizontal axis in place of the level, and models
without a solver are points at their depth beside every curve.

Bands are 95 % intervals. Of a rate: Wilson's over the images, of the mean over seeds, which leaves
out the choice of seed. Of any other number: Student's t over the seeds; of a single one what the
suite itself measured as NAME_low and NAME_high, else none.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness.analysis import wilson
from harness.plots.nfe import DEPTH
from harness.report.glossary import Metric, decimals, ends, metric, rounded
from harness.suites.corruptions import COMMON, CORRUPTIONS

CLEAN = "clean"
MEAN = "mean of all"  # of the conditions that enter one
MEAN_OF_COMMON = "mean of the common"
X = "nfe"
KINDS = {kind.__name__ for kind in CORRUPTIONS}
IN_MEAN = {kind.__name__ for kind in COMMON}
RATIO = 16  # of the largest to the smallest level, from where on an axis is logarithmic


def curves(table: pd.DataFrame, place: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the curves of each (dataset, suite) that has any.

    Args:
        table: Long table.
        place: Number of each model in the page.

    Returns:
        Of each suite its names, `conditions`, `cells` as [condition, level], `x` (the title of the
        axis) and whether it is `log`, `models`, and `metrics`: of each its names, decimals, and
        for each model [value, low, high] of every cell, flat; with `nfe` also `at`, where each
        cell is on the axis, and `everywhere`, the number of the condition that belongs beside
        all others, if there is one.
    """
    found = []
    for (dataset, suite), part in table.groupby(["dataset", "suite"], sort=False):
        cells = _cells(part)
        if cells:
            found.append({"dataset": dataset, "suite": suite} | _suite(part, cells, place))
    return found


def _cells(part: pd.DataFrame) -> list[tuple[str, float]]:
    """The cells of the curves, condition by condition; none where no curve has two points."""
    pairs = part[["condition", "level"]].drop_duplicates()
    levels: dict[str, list[float]] = {}
    for condition, level in pairs.itertuples(index=False):
        levels.setdefault(condition, []).append(float(level))
    start = [0.0] if levels.get(CLEAN) == [0.0] else []
    drawn = {c: sorted({*start, *of}) for c, of in levels.items() if not (start and c == CLEAN)}
    return [(c, level) for c, of in drawn.items() if len(of) > 1 for level in of]


def _suite(
    part: pd.DataFrame, cells: list[tuple[str, float]], place: Mapping[str, int]
) -> dict[str, Any]:
    conditions = list(dict.fromkeys(c for c, _ in cells))
    starts = CLEAN not in conditions and CLEAN in set(part["condition"])
    of_severity = all(c in KINDS for c in conditions)
    part = part[~part["metric"].str.startswith("accuracy_class_")]
    mean = _mean(part, conditions) if of_severity and len(conditions) > 1 else part[:0]
    if len(mean):
        levels = sorted({0.0} if starts else set()) + sorted(mean["level"].unique())
        part = pd.concat([part, mean], ignore_index=True)
        name = mean["condition"].iloc[0]
        cells = cells + [(name, float(level)) for level in levels]
        conditions = [*conditions, name]
    frames = _averaged(part)
    depth = part[part["condition"] == DEPTH] if X in frames else part[:0]
    if len(depth) and DEPTH not in conditions:
        cells = cells + [(DEPTH, float(level)) for level in depth["level"].unique()]
        conditions = [*conditions, DEPTH]
    values = [_metric(name, frames, cells, place) for name in frames if name not in ends(frames)]
    at = next((v["models"] for v in values if v["metric"] == X), None)
    numbers = [v for of in at.values() for v in of[::3] if v] if at else [x for _, x in cells]
    title = metric(X).title if at else "severity" if of_severity else "level"
    return {
        "conditions": conditions,
        "cells": [[conditions.index(c), level] for c, level in cells],
        "x": title + (" (0: clean)" if starts and not at else ""),
        "log": bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= RATIO,
        "at": at and {model: of[::3] for model, of in at.items()},
        "everywhere": conditions.index(DEPTH) if len(depth) else None,
        "seeds": sorted(int(s) for s in part["seed"].unique()),
        "images": sorted(int(n) for n in part["n"].unique()),
        "metrics": [v for v in values if v["metric"] != X or len(values) == 1],
    }


def _mean(part: pd.DataFrame, conditions: list[str]) -> pd.DataFrame:
    """The mean over the common corruptions, of models that have them all, as one more condition."""
    taken = [c for c in conditions if c in IN_MEAN] or conditions
    here = part[part["condition"].isin(taken)]
    key = ["model", "metric", "seed", "level"]
    # All of them hold the same images, so that n stays n.
    mean = here.groupby(key, sort=False, as_index=False).agg(
        value=("value", "mean"), n=("n", "min"), count=("condition", "nunique")
    )
    name = MEAN if len(taken) == len(conditions) else MEAN_OF_COMMON
    return mean[mean["count"] == len(taken)].drop(columns="count").assign(condition=name)


def _averaged(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each metric a frame over (model, condition, level): value, sd over seeds, seeds, n."""
    key = ["metric", "model", "condition", "level"]
    frame = part.groupby(key, sort=False).agg(
        value=("value", "mean"), sd=("value", "std"), seeds=("seed", "nunique"), n=("n", "first")
    )
    return {name: frame.xs(name) for name in part["metric"].unique()}


def _metric(
    name: str,
    frames: Mapping[str, pd.DataFrame],
    cells: list[tuple[str, float]],
    place: Mapping[str, int],
) -> dict[str, Any]:
    about, frame = metric(name), frames[name]
    places = decimals(about, frame["value"])
    known = {key: row for key, *row in frame.itertuples()}
    own = [
        frames[end]["value"].to_dict() for end in (f"{name}_low", f"{name}_high") if end in frames
    ]
    models = list(dict.fromkeys(model for model, _, _ in known))
    lines = {}
    for model in models:
        line: list[float | str | None] = []
        for condition, level in cells:
            key = (model, CLEAN if level == 0 else condition, level)
            key = key if key in known else (model, condition, level)
            row = known.get(key)
            numbers = (math.nan,) * 3 if row is None else _interval(about, *row)
            if row is not None and row[2] == 1 and len(own) == 2 and all(key in end for end in own):
                numbers = (row[0], own[0][key], own[1][key])
            line += [rounded(about, v, places) if math.isfinite(v) else None for v in numbers]
        lines[str(place[model])] = line
    return {
        "metric": name,
        "title": about.title,
        "unit": about.unit,
        "better": about.better,
        "places": places,
        "models": lines,
    }


def _interval(
    about: Metric, value: float, sd: float, seeds: int, n: int
) -> tuple[float, float, float]:
    """A mean over seeds and its 95 % interval, NaN where there is none."""
    if about.rate and 0 <= value <= 1:
        return value, *wilson(value * n, n)
    if seeds < 2 or not np.isfinite(sd):
        return value, math.nan, math.nan
    half = _quantile(int(seeds) - 1) * sd / math.sqrt(seeds)
    return value, value - half, value + half


@lru_cache(maxsize=64)
def _quantile(df: int) -> float:
    return float(student.ppf(0.975, df))
