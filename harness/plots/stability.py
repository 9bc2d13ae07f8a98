"""How changes grow with depth and what the blocks' derivatives are, as figures."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from harness.plots.style import COLORS, GRAY, MARKERS, quiet
from harness.suites.stability import GRADIENT, RANDOM

PANELS = (  # prefix of the metric, condition, level, title, log10 of what is drawn
    ("log10_growth_", RANDOM, 1e-3, "growth of a random change", True),
    ("log10_growth_", GRADIENT, 1e-3, "growth along the gradient", True),
    ("log10_gradient_norm_", "clean", 0, "gradient norm", True),
    ("spectral_norm_", "clean", 0, "spectral norm of blocks", False),
    ("log_norm_", "clean", 0, "logarithmic norm of blocks", False),
    ("step_ratio_", "clean", 0, "step size over its limit", False),
)
PERCENTILE = re.compile(r"_p(?:10|90)$")


def growth_curves(frame: pd.DataFrame, baseline: str, order: Sequence[str]) -> Figure:
    """How does a small change of the image grow with depth, and which blocks make it grow?

    Curves are geometric means over images and seeds, bands the tenth to the ninetieth percentile
    of images. A logarithmic norm above 0 means that the flow of a block drives some states apart.

    Args:
        frame: Long table of one data set and the suite stability.
        baseline: The model drawn in gray.
        order: All models, so that each keeps its color whoever else is drawn.
    """
    present = list(dict.fromkeys(frame["model"]))
    models = [m for m in order if m in present] + sorted(set(present) - set(order))
    others = [m for m in models if m != baseline]
    shown = [p for p in PANELS if frame["metric"].str.startswith(p[0]).any()]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.0 * columns + 0.3, 2.5 * rows + 0.6), layout="constrained")
    axes: Any = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis, (prefix, condition, level, title, logs) in zip(axes, shown, strict=False):
        here = frame[
            (frame["condition"] == condition)
            & np.isclose(frame["level"], level)
            & frame["metric"].str.startswith(prefix)
        ]
        for model in models:
            part = here[here["model"] == model]
            means = part.groupby("metric", sort=False)["value"].mean()
            names = [m for m in means.index if not PERCENTILE.search(m)]
            if not names:
                continue
            # Blocks without the number, such as those that change the shape, leave their place.
            blocks = _blocks(frame[frame["model"] == model])
            x = [blocks.index(name.removeprefix(prefix)) + 1 for name in names]
            y = means[names].to_numpy()
            gray = model == baseline
            color = GRAY if gray else COLORS[others.index(model) % len(COLORS)]
            marker = "o" if gray else MARKERS[others.index(model) % len(MARKERS)]
            drawn = 10**y if logs else y
            axis.plot(
                x, drawn, color=color, marker=marker, markersize=3.5, linewidth=1.3, label=model
            )
            low, high = ([f"{name}_p{p}" for name in names] for p in (10, 90))
            if logs and set(low + high) <= set(means.index):
                band = 10 ** means[low].to_numpy(), 10 ** means[high].to_numpy()
                axis.fill_between(x, *band, color=color, alpha=0.12, linewidth=0)
        if logs:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
            axis.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        if prefix == "step_ratio_":
            axis.set_ylim(0, 1.05)
        if prefix == "log_norm_":
            axis.axhline(0, color="black", linewidth=0.6)
        axis.set_title(title, fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.xaxis.set_tick_params(labelbottom=True)
        quiet(axis)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    figure.supxlabel("block", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False,
        fontsize=8,
    )  # fmt: skip
    return figure


def _blocks(frame: pd.DataFrame) -> list[str]:
    """The blocks of a model in the order of evaluation, which is that of the rows."""
    prefix = "log10_gradient_norm_"
    names = [m for m in dict.fromkeys(frame["metric"]) if m.startswith(prefix)]
    return [m.removeprefix(prefix) for m in names if not PERCENTILE.search(m)]
