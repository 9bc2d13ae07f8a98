"""Our accuracy against published accuracy, cell by cell, as a figure."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.plots.labels import label_ends, short
from harness.plots.style import COLORS, GRAY, MARKERS, PAGE, Size, fill, percent, styled
from harness.suites.catalog import FAMILIES

FRAME = 0.03  # of accuracy around the points


@styled
def published_figure(cells: pd.DataFrame, size: Size | None = None) -> Figure:
    """In which cells is a network better or worse than a published one?

    A panel for each published network. A line joins the severities of one corruption, whose name
    stands at the strongest; color and mark are of its family; on the diagonal both are the same.

    Args:
        cells: `model`, `network`, `condition`, `level`, `ours` and `published` of one model.
    """
    networks = list(dict.fromkeys(cells["network"]))
    width, height = size or (PAGE if len(networks) > 1 else 0.62 * PAGE, None)
    figure = Figure((width, height or 0.47 * PAGE), layout="constrained")
    axes = fill(figure, len(networks), (1, len(networks)), sharex=True, sharey=True)
    both = cells[["ours", "published"]].to_numpy()
    low, high = float(both.min()) - FRAME, min(1.0, float(both.max()) + FRAME)
    for axis, network in zip(axes, networks, strict=True):
        axis.plot((low, high), (low, high), color=GRAY, linewidth=0.8, zorder=1)
        _draw_kinds(axis, cells[cells["network"] == network])
        axis.set(xlim=(low, high), ylim=(low, high), title=network)
        axis.xaxis.set_major_formatter(FuncFormatter(percent))
        axis.yaxis.set_major_formatter(FuncFormatter(percent))
        axis.grid()
    model = str(cells["model"].iloc[0])
    figure.supxlabel("published accuracy")
    figure.supylabel(f"accuracy of {short(model)}")
    there = {_family(kind) for kind in cells["condition"]}
    families = [family for family in FAMILIES if family in there]
    axes[0].legend(
        handles=[_handle(axes[0], family) for family in families], loc="upper left", fontsize=6
    )
    figure.set_label(
        f"Accuracy of {model} against that of {' and '.join(networks)}, published, in each cell of "
        "the common corruptions. Lines join the severities of a corruption, its name at the "
        "strongest; on the diagonal both are the same."
    )
    return figure


def _draw_kinds(axis: Any, cells: pd.DataFrame) -> None:
    ends, colors = {}, {}
    for kind, part in cells.groupby("condition", sort=False):
        part = part.sort_values("level")
        color, marker = _look(_family(str(kind)))
        x, y = part["published"].to_numpy(), part["ours"].to_numpy()
        axis.plot(x, y, color=color, marker=marker, linewidth=0.5, alpha=0.8, zorder=3)
        name = str(kind).replace("_", " ")
        ends[name], colors[name] = (float(x[-1]), float(y[-1])), color
    label_ends(axis, ends, colors)


def _family(kind: str) -> str:
    return next(family for family, kinds in FAMILIES.items() if kind in kinds)


def _look(family: str) -> tuple[str, str]:
    """Color and mark of a family."""
    i = list(FAMILIES).index(family)
    return COLORS[i], MARKERS[i]


def _handle(axis: Any, family: str) -> Any:
    color, marker = _look(family)
    return axis.plot([], [], color=color, marker=marker, linewidth=0.5, label=family)[0]
