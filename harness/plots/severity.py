"""Accuracy by corruption and severity, as figures: frame in, Figure out."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.analysis import by_condition, wilson
from harness.plots.style import COLORS, GRAY, MARKERS, quiet


def severity_curve(frame: pd.DataFrame, baseline: str, order: Sequence[str]) -> Figure:
    """How fast does accuracy fall with severity, corruption by corruption?

    One panel a corruption, then their mean; severity 0 is the clean test set. Bands are 95 %
    intervals over images (Wilson) of the mean over seeds.

    Args:
        frame: Long table of one data set and one suite.
        baseline: The model drawn in gray.
        order: All models, so that each keeps its color whoever else is drawn.

    Raises:
        ValueError: There is nothing to draw.
    """
    table = by_condition(frame)
    corrupted = table[table["condition"] != "clean"]
    if corrupted.empty:
        raise ValueError("There are no corruptions to draw. Run `harness run --suite robustness`.")
    names = list(corrupted["condition"].unique())
    present = set(table["model"])
    models = [m for m in order if m in present] + sorted(present - set(order))
    others = [m for m in (*order, *sorted(present - set(order))) if m != baseline]
    columns = min(4, len(names) + 1)
    rows = math.ceil((len(names) + 1) / columns)
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.15 * rows + 0.5), layout="constrained")
    axes: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    means = corrupted.groupby(["model", "level"], as_index=False).agg(
        value=("value", "mean"), n=("n", "first")
    )
    for axis, name in zip(axes, [*names, "mean"], strict=False):
        for model in models:
            here = means if name == "mean" else corrupted[corrupted["condition"] == name]
            curve = here[here["model"] == model].sort_values("level")
            clean = table[(table["model"] == model) & (table["condition"] == "clean")]
            curve = pd.concat([clean.assign(level=0), curve])
            low, high = zip(
                *(wilson(v * n, n) for v, n in zip(curve["value"], curve["n"], strict=True)),
                strict=True,
            )
            is_baseline = model == baseline
            i = others.index(model) % len(COLORS) if not is_baseline else 0
            color = GRAY if is_baseline else COLORS[i]
            axis.fill_between(curve["level"], low, high, color=color, alpha=0.15, linewidth=0)
            axis.plot(
                curve["level"],
                curve["value"],
                color=color,
                marker="o" if is_baseline else MARKERS[i],
                markersize=3.5,
                linewidth=1.4,
                label=model,
            )
        weight = "bold" if name == "mean" else "normal"
        label = "mean of all" if name == "mean" else name.replace("_", " ")
        axis.set_title(label, fontsize=9, fontweight=weight)
        quiet(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axis in axes[len(names) + 1 :]:
        axis.set_visible(False)
    figure.supxlabel("severity (0: clean)", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9
    )
    return figure
