"""Accuracy by corruption and severity, as figures: numbers in, Figure out."""

import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.analysis.numbers import CLEAN, MEAN
from harness.plots.curves import Models, best_first, draw_lines, draw_rows, label_lines
from harness.plots.labels import short
from harness.plots.style import (
    GRAY,
    PAGE,
    Looks,
    Size,
    fill,
    panels,
    percent,
    set_integer_ticks,
    split_grid,
    styled,
)
from harness.suites.catalog import COMMON, FAMILIES

NAMES = 1.45  # inches beside the panels, for ticks and names
ROW = 0.17  # inches of a model in a row
POINTS = 100  # in a fraction


def panels_of(numbers: pd.DataFrame) -> dict[str, str]:
    """Return the corruptions of numbers and their titles, the mean at the end."""
    found = dict.fromkeys(numbers.loc[numbers["level"].notna(), "condition"])
    titles = {c: c.replace("_", " ") for c in found if c not in (CLEAN, MEAN, *FAMILIES)}
    common = sum(c in COMMON for c in titles)
    mean = "mean of all" if common == len(titles) else f"mean of {common} common"
    return titles | ({MEAN: mean} if MEAN in found else {})


@styled
def severity_curve(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How fast does accuracy fall with severity, corruption by corruption?

    One panel a corruption, then the mean of the common ones; severity 0 is the clean test set. Bars
    are 95 % intervals over seeds and images.

    Args:
        numbers: Accuracy in one data set and one suite, as of `analysis.numbers.intervals_of`.

    Raises:
        ValueError: There is nothing to draw.
    """
    titles = panels_of(numbers)
    if not titles:
        raise ValueError("There are no corruptions to draw. Run `harness run --suite robustness`.")
    figure, axes = panels(
        len(titles), size, least=0.95, height=1.4, beside=NAMES, last=True, sharex=True, sharey=True
    )
    draw_severities(axes, titles, numbers, looks.of(numbers["model"], best_first(numbers)))
    axes[0].yaxis.set_major_formatter(FuncFormatter(percent))
    figure.supxlabel("severity (0: clean); bars are 95 % intervals")
    figure.supylabel("accuracy")
    figure.set_label("Accuracy by corruption and severity; bars are 95 % intervals.")
    return figure


def draw_severities(
    axes: Sequence[Any], titles: dict[str, str], numbers: pd.DataFrame, models: Models
) -> None:
    """Draw a condition in each panel, all from the clean images on, with names at the right."""
    clean = numbers[numbers["condition"] == CLEAN]
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        here = numbers[(numbers["condition"] == name) & numbers["level"].notna()]
        label_lines(axis, draw_lines(axis, pd.concat([clean, here]), models), models)
        axis.set_title(title, fontweight="bold" if name == MEAN else "normal")
        axis.grid()
        set_integer_ticks(axis)


@styled
def difference_figure(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How many points of accuracy does each model gain over the baseline, and under what?

    Above a row for each model, the best first: clean images, families and the mean, over all
    severities. Below a panel for each corruption, by severity. Bars are 95 % intervals over seeds
    and images, paired by image where the answers to single images are stored.

    Args:
        numbers: Accuracy in one data set and one suite, as of `analysis.numbers.differences_of`.
    """
    numbers = numbers.assign(**{k: POINTS * numbers[k] for k in ("value", "low", "high")})
    titles, order = panels_of(numbers), best_first(numbers)
    models = looks.of(numbers["model"], order)
    present = set(numbers["group"])
    groups = [g for g in (CLEAN, *FAMILIES, MEAN) if g in present]
    width, height = size or (PAGE, None)
    upper = split_grid(len(groups), width, 0.6, NAMES)
    room = height and 0.6 * height
    lower = split_grid(len(titles), width, 0.95, NAMES, height=1.35, room=room)
    heights = upper[0] * (0.35 + ROW * len(order)) + 0.1, lower[0] * 1.35 + 0.35
    figure = Figure((width, height or sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    above, below = parts
    for axis, group in zip(
        fill(above, len(groups), upper, sharex=True, sharey=True), groups, strict=True
    ):
        draw_rows(axis, numbers[numbers["group"] == group], models, order)
        axis.axvline(0, color=GRAY, linewidth=0.8, zorder=1)
        axis.set_title(titles[MEAN] if group == MEAN else group)
    axes = fill(below, len(titles), lower, last=True, sharex=True, sharey=True)
    draw_severities(axes, titles, numbers, models)
    for axis in axes:
        axis.axhline(0, color=GRAY, linewidth=0.8, zorder=1)
    paired = "paired by image" if numbers["paired"].all() else "images not paired"
    note = f"severity (0: clean); bars are 95 % intervals, {paired}"
    below.supxlabel("\n".join(textwrap.wrap(note, int(15 * width))))
    figure.supylabel(f"accuracy less that of {short(looks.baseline)}, points")
    figure.set_label(f"Accuracy of each model less that of {looks.baseline}, in points. {note}.")
    return figure
