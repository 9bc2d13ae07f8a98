"""Any suite's metrics as a figure."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.analysis.numbers import CLEAN, MEAN
from harness.plots.curves import Ends, Models, draw_lines, draw_rows, label_lines
from harness.plots.labels import short
from harness.plots.style import Looks, Size, panels, percent, styled
from harness.suites.catalog import FAMILIES
from harness.suites.metrics import METRICS, full_title

MOST = 6  # metrics in a figure
PLACES = 24  # conditions of a panel, beyond which levels are averaged


@styled
def metric_figure(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How do models differ in each metric, by condition and level?

    A panel for each metric: a row for each model where there is one condition, else a line for each
    model and condition over its levels. Bars are 95 % intervals over seeds and images.

    Args:
        numbers: As of `analysis.numbers.intervals_of`; of metrics with variants, only those
            without one are drawn if there are any.
    """
    plain = numbers["variant"].eq("")
    numbers = numbers[
        (plain if plain.any() else ~plain) & ~numbers["condition"].isin([MEAN, *FAMILIES])
    ]
    cells = numbers[numbers["level"].notna()]
    if cells["group"].nunique() > PLACES:
        means = numbers[numbers["level"].isna() | (numbers["group"] == CLEAN)]
        cells = cells if means.empty else means
    metrics = list(dict.fromkeys(zip(cells["metric"], cells["variant"], strict=True)))[:MOST]
    groups = list(dict.fromkeys(cells["group"]))
    more, groups = len(groups) - PLACES, groups[:PLACES]
    cells = cells[cells["group"].isin(groups)]
    parts = [cells[(cells["metric"] == m) & (cells["variant"] == v)] for m, v in metrics]
    up = METRICS[metrics[0][0]].sign >= 0
    ranked = list(parts[0].groupby("model")["value"].mean().sort_values(ascending=not up).index)
    ranked += [m for m in dict.fromkeys(cells["model"]) if m not in ranked]
    models, single = looks.of(cells["model"], ranked), len(groups) == 1
    figure, axes = panels(
        len(metrics), size, least=1.0 if single else max(1.3, 0.14 * len(groups)), beside=1.5,
        height=0.5 + 0.17 * len(models) if single else 2.1, sharey=single,
    )  # fmt: skip
    for axis, (metric, variant), part in zip(axes, metrics, parts, strict=True):
        if single:
            draw_rows(axis, part, models, ranked)
        else:
            draw_conditions(axis, part, groups, models)
        about = METRICS[metric]
        unit = f" / {about.unit}" if about.unit and not about.is_rate else ""
        axis.set_title(full_title(metric, variant) + unit)
        if about.is_rate:
            (axis.xaxis if single else axis.yaxis).set_major_formatter(FuncFormatter(percent))
    if more > 0:
        figure.supxlabel(f"The first {PLACES} of {PLACES + more} conditions")
    figure.set_label("Metrics by condition; bars are 95 % intervals.")
    return figure


def draw_conditions(axis: Any, part: pd.DataFrame, groups: list[str], models: Models) -> None:
    """Draw lines over the levels of each condition, one condition beside the other."""
    place = {group: float(i) for i, group in enumerate(groups)}
    ends: Ends = {}
    for _, here in part.groupby("condition", sort=False):
        ends |= draw_lines(axis, here.assign(level=here["group"].map(place)), models)
    names = [short(group.replace("_", " ").removesuffix(" 0")) for group in groups]
    axis.set_xticks(range(len(groups)), names, rotation=60, ha="right", rotation_mode="anchor")
    axis.grid()
    label_lines(axis, ends, models)
