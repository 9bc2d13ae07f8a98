"""Lines and points of models with their intervals, as several figures draw them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from harness.analysis.numbers import MEAN
from harness.plots.labels import label_ends, short
from harness.plots.style import GRAY, Look

Models = Mapping[str, Look]
Ends = dict[str, tuple[float, float]]  # the last point of each model's line


def best_first(numbers: pd.DataFrame) -> list[str]:
    """Return models by their mean over corruptions, the largest first; by all where none is."""
    here = numbers[numbers["group"] == MEAN]
    here = here if len(here) else numbers
    return list(here.groupby("model")["value"].mean().sort_values(ascending=False).index)


def draw_lines(axis: Any, part: pd.DataFrame, models: Models) -> Ends:
    """Draw a line with intervals over levels for each model; return where each ends.

    Lines stand a little apart, so that their bars do.
    """
    full = [m for m in models if models[m].full]
    ends: Ends = {}
    for model, look in models.items():
        line = part[part["model"] == model].sort_values("level")
        if line.empty:
            continue
        apart = 0.07 * (full.index(model) - (len(full) - 1) / 2) if look.full else 0.0
        at, value = line["level"].to_numpy() + apart, line["value"].to_numpy()
        axis.plot(at, value, label=model, **look.line())
        if look.full:
            axis.vlines(at, line["low"], line["high"], color=look.color, linewidth=0.7, zorder=2.5)
        ends[model] = float(at[-1]), float(value[-1])
    return ends


def label_lines(axis: Any, ends: Ends, models: Models) -> None:
    """Write the names of models beside a panel of the last column."""
    if axis.get_subplotspec().is_last_col():
        named = {m: end for m, end in ends.items() if models[m].named and math.isfinite(end[1])}
        label_ends(axis, named, {m: models[m].color if models[m].full else GRAY for m in named})


def draw_rows(axis: Any, part: pd.DataFrame, models: Models, rows: Sequence[str]) -> None:
    """Draw a point with its interval for each model, in the row of its name."""
    for number in part.to_dict("records"):
        y, look = rows.index(number["model"]), models[number["model"]]
        color = look.color if look.full else GRAY
        axis.plot(number["value"], y, look.marker, color=color)
        axis.hlines(y, number["low"], number["high"], color=color, linewidth=0.9)
    name_rows(axis, rows)


def name_rows(axis: Any, rows: Sequence[str]) -> None:
    """Name the rows of a panel, the first on top."""
    axis.set_yticks(range(len(rows)), [short(name) for name in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
