"""Accuracy against function evaluations, as figures: frame in, Figure out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from harness.analysis import wilson
from harness.plots.style import COLORS, GRAY, MARKERS, quiet

DEPTH = "depth"  # the condition of a model without a solver


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each (model, condition, level): mean accuracy and nfe over seeds, and n."""
    kept = frame[frame["metric"].isin(["accuracy", "nfe"])]
    key = ["model", "condition", "level"]
    wide = kept.pivot_table(index=key, columns="metric", values="value", sort=False)
    n = kept.groupby(key, sort=False)["n"].first()
    return wide.join(n).reset_index()


def nfe_curve(frame: pd.DataFrame, order: Sequence[str]) -> Figure:
    """How does accuracy depend on the evaluations that a solver spends?

    One panel for each model with a solver, a line for each solver, from its coarsest setting to its
    finest; models without one are gray crosses at their depth, in every panel. Bars are 95 %
    intervals over images (Wilson) of the mean over seeds.

    Args:
        frame: Long table of one data set and the suite nfe.
        order: All models, in the order of their panels.

    Raises:
        ValueError: No model has a solver.
    """
    table = costs(frame)
    fixed = table[table["condition"] == DEPTH]
    solved = table[(table["condition"] != DEPTH) & ~table["condition"].str.contains(",")]
    if solved.empty:
        raise ValueError(
            "No model here has a solver. Run `harness run --suite nfe --model ode_block`."
        )
    present = list(solved["model"].unique())
    models = [m for m in order if m in present] + sorted(set(present) - set(order))
    solvers = list(solved["condition"].unique())
    columns = min(3, len(models))
    rows = math.ceil(len(models) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * rows + 0.6), layout="constrained")
    axes: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, model in zip(axes, models, strict=False):
        for i, name in enumerate(solvers):
            line = solved[(solved["model"] == model) & (solved["condition"] == name)]
            line = line.sort_values("nfe")
            bars = [wilson(a * n, n) for a, n in zip(line["accuracy"], line["n"], strict=True)]
            below = [a - low for a, (low, _) in zip(line["accuracy"], bars, strict=True)]
            above = [high - a for a, (_, high) in zip(line["accuracy"], bars, strict=True)]
            axis.errorbar(
                line["nfe"],
                line["accuracy"],
                yerr=[below, above],
                color=COLORS[i % len(COLORS)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                linewidth=1.3,
                elinewidth=0.7,
                label=name,
            )
        for row in fixed.itertuples():
            axis.plot(row.nfe, row.accuracy, "x", color=GRAY, markersize=6)
            axis.annotate(
                row.model,
                (row.nfe, row.accuracy),
                xytext=(4, -8),
                textcoords="offset points",
                fontsize=7,
                color=GRAY,
            )
        axis.set_xscale("log", base=2)
        ticks = [1, 2, 4, 8, 16, 32, 64, 128]
        axis.xaxis.set_major_locator(
            FixedLocator([t for t in ticks if t <= 1.5 * solved["nfe"].max()])
        )
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_title(model, fontsize=9)
        quiet(axis)
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    figure.supxlabel("mean function evaluations an image", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    # As many in a line as fit above the panels.
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3 * columns, frameon=False, fontsize=8
    )
    return figure


def solver_matrix(frame: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Does a network that was trained with one solver answer alike with another?

    Rows are models, as trained; columns are the solvers that they are asked with, fixed steps
    first; cells are accuracies in per cent, means over seeds. A network that solves a differential
    equation has rows of one color but for the coarsest solvers.

    Args:
        frame: As of `nfe_curve`.
        order: Likewise.
    """
    table = costs(frame)
    solved = table[(table["condition"] != DEPTH) & ~table["condition"].str.contains(",")]
    solved = solved.assign(
        column=[
            f"{c} {level:g}" for c, level in zip(solved["condition"], solved["level"], strict=True)
        ]
    )
    present = list(solved["model"].unique())
    models = [m for m in order if m in present] + sorted(set(present) - set(order))
    wide = solved.pivot_table(index="model", columns="column", values="accuracy", sort=False)
    wide = wide.loc[models, list(dict.fromkeys(solved["column"]))]
    figure = Figure(
        figsize=(0.42 * wide.shape[1] + 1.8, 0.32 * wide.shape[0] + 1.3), layout="constrained"
    )
    axis = figure.subplots()
    values = wide.to_numpy()
    axis.imshow(values, cmap="viridis", aspect="auto")
    middle, places = (values.min() + values.max()) / 2, 1 if np.ptp(values) < 0.05 else 0
    for i in range(wide.shape[0]):
        for j in range(wide.shape[1]):
            ink = "white" if values[i, j] < middle else "black"
            told = f"{100 * values[i, j]:.{places}f}"
            axis.text(j, i, told, ha="center", va="center", fontsize=6.5, color=ink)
    axis.set_xticks(range(wide.shape[1]), wide.columns, rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(wide.shape[0]), wide.index, fontsize=7.5)
    axis.set_xlabel("accuracy, %, with a solver of so many steps, or of this tolerance", fontsize=8)
    axis.set_ylabel("as trained", fontsize=8)
    return figure
