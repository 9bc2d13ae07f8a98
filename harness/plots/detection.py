"""How well models tell other data sets from the images' own, as a figure."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.analysis.numbers import MEAN
from harness.plots.curves import draw_rows
from harness.plots.labels import short
from harness.plots.style import GRAY, Looks, Size, panels, percent, styled

CHANCE = 0.5


@styled
def detection_figure(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """Which models tell which other data sets from the images' own, and by which score?

    A panel for each data set and score, a row for each model: AUROC, with 95 % intervals over seeds
    and images. The gray line is chance.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, of the metric `ood_auroc`.
    """
    cells = numbers[(numbers["condition"] != MEAN) & numbers["level"].notna()]
    means = cells.groupby("model")["value"].mean().sort_values(ascending=False)
    ranked = list(means.index)
    models = looks.of(cells["model"], ranked)
    shown = sorted(set(zip(cells["condition"], cells["variant"], strict=True)))
    height = 0.6 + 0.17 * len(models)
    figure, axes = panels(len(shown), size, least=1.0, height=height, sharex=True, sharey=True)
    for axis, (condition, variant) in zip(axes, shown, strict=True):
        here = cells["condition"].eq(condition) & cells["variant"].eq(variant)
        draw_rows(axis, cells[here], models, ranked)
        axis.axvline(CHANCE, color=GRAY, linewidth=0.8, zorder=0)
        axis.set_title(f"{short(condition)}\n{variant}")
        axis.xaxis.set_major_formatter(FuncFormatter(percent))
    figure.supxlabel("AUROC")
    figure.set_label(
        "AUROC of other data sets' images; bars are 95 % intervals, the line is chance."
    )
    return figure
