"""How changes grow with depth and what the blocks' derivatives are, as figures."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from harness.plots.curves import label_lines
from harness.plots.style import (
    GRAY,
    Look,
    Looks,
    Size,
    by_number,
    panels,
    set_integer_ticks,
    styled,
)
from harness.suites.metric import is_bound

PANELS = (  # metric, title; growth has a panel for each direction of the change
    ("log10_growth", "growth, {}"),
    ("log10_gradient_norm", "gradient norm"),
    ("spectral_norm", "spectral norm of blocks"),
    ("log_norm", "logarithmic norm of blocks"),
    ("step_ratio", "step size over its limit"),
)


@styled
def growth_curves(frame: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How does a small change of the image grow with depth, and which blocks make it grow?

    Curves are geometric means over images and seeds, bands the tenth to the ninetieth percentile
    of images. A logarithmic norm above 0 means that the flow of a block drives some states apart.

    Args:
        frame: Long table of one data set and the suite stability.
    """
    key = ["metric", "condition", "level", "model", "variant"]
    means = frame.groupby(key, sort=False)["value"].mean().reset_index()
    shown = [
        (metric, condition, title.format(condition))
        for metric, title in PANELS
        for condition in means.loc[means["metric"] == metric, "condition"].unique()
    ]
    last = means[means["metric"] == "log10_growth"].groupby("model", sort=False)["value"].last()
    models = looks.of(means["model"], list(last.sort_values().index))
    blocks = {m: blocks_of(means[means["model"] == m]) for m in models}
    figure, axes = panels(len(shown), size, least=1.1, height=1.55, beside=1.5, sharex=True)
    for axis, (metric, condition, title) in zip(axes, shown, strict=True):
        here = means[(means["metric"] == metric) & (means["condition"] == condition)]
        here = here[here["level"] == here["level"].min()]
        ends = {}
        for model, look in models.items():
            part = here[here["model"] == model].set_index("variant")["value"]
            if len(part):
                ends[model] = draw_blocks(axis, part, blocks[model], look, metric)
        style_values(axis, metric)
        axis.set_title(title)
        axis.grid()
        set_integer_ticks(axis)
        label_lines(axis, ends, models)
    figure.supxlabel("block")
    figure.set_label("Growth of a small change, gradients and derivatives of blocks, by depth.")
    return figure


def blocks_of(means: pd.DataFrame) -> list[str]:
    """Return the blocks of a model in the order of evaluation.

    It is that of the rows; where these are sorted by name, as stored arrays are, by the numbers in
    the names: trunk.2 comes before trunk.10.
    """
    names = [v for v in dict.fromkeys(means["variant"]) if v and not is_bound(v)]
    if names != sorted(names):
        return names
    return sorted(names, key=by_number)


def draw_blocks(
    axis: Any, part: pd.Series, blocks: list[str], look: Look, metric: str
) -> tuple[float, float]:
    """Draw one model's curve and band; return where the curve ends.

    Blocks without the number, such as those that change the shape, leave their place.
    """
    names = [name for name in blocks if name in part.index]
    x, value = [blocks.index(name) + 1 for name in names], part[names].to_numpy()
    logs = metric.startswith("log10_")
    with np.errstate(over="ignore"):  # a growth may have overflowed
        value = 10.0**value if logs else value
    axis.plot(x, value, **look.line())
    low, high = (part.reindex([f"{name}, p{p}" for name in names]) for p in (10, 90))
    if look.full and logs and low.notna().all():
        low, high = 10**low, 10**high
        axis.fill_between(x, low, high, color=look.color, alpha=0.12, linewidth=0)
    return x[-1], float(value[-1])


def style_values(axis: Any, metric: str) -> None:
    """Give an axis the scale of a metric's values."""
    if metric.startswith("log10_"):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    elif metric == "step_ratio":
        axis.set_ylim(0, 1.05)
    elif metric == "log_norm":
        axis.axhline(0, color=GRAY, linewidth=0.8)
