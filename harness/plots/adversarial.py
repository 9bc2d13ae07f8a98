"""Robust accuracy over the size of attacks, as a figure."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from harness.analysis.numbers import CLEAN
from harness.plots.curves import Ends, Models, label_lines
from harness.plots.style import Looks, Size, panels, percent, styled
from harness.suites.radii import GRIDS

AXES = {"linf": "eps, units of 1/255", "l2": "eps, units of images in [0, 1]"}
TITLES = {"linf": "Linf", "l2": "L2"}


def curves_of(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the curves: norms at their levels, each from the clean images on.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, of accuracy and `robust_accuracy`.
    """
    clean = numbers[numbers["condition"].eq(CLEAN) & numbers["metric"].eq("accuracy")]
    robust = numbers[numbers["metric"].eq("robust_accuracy") & numbers["level"].gt(0)]
    found = []
    for norm in GRIDS:
        here = robust[robust["condition"] == norm]
        start = clean[clean["model"].isin(here["model"])].assign(condition=norm, level=0.0)
        found += [start, here]
    return pd.concat(found, ignore_index=True)


def draw_bands(axis: Any, part: pd.DataFrame, models: Models) -> Ends:
    """Draw a line with a band over eps for each model; return where each ends."""
    ends: Ends = {}
    for model, look in models.items():
        line = part[part["model"] == model].sort_values("level")
        if line.empty:
            continue
        axis.plot(line["level"], line["value"], label=model, clip_on=False, **look.line())
        if look.full:
            band = line["level"], line["low"], line["high"]
            axis.fill_between(*band, color=look.color, alpha=0.15, linewidth=0, zorder=1)
        ends[model] = float(line["level"].iloc[-1]), float(line["value"].iloc[-1])
    return ends


@styled
def robustness_curve(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How fast does robust accuracy fall with the size of attacks?

    A panel for each norm, a line for each model, from its accuracy on clean images on; bands are
    95 % intervals over seeds and images. eps stands on a scale that is linear up to the smallest
    attack and logarithmic from there on.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, of accuracy and `robust_accuracy`.
    """
    table = curves_of(numbers)
    norms = [norm for norm in GRIDS if (table["condition"] == norm).any()]
    if not norms:
        raise ValueError("There are no attacks to draw. Run `harness run --suite adversarial`.")
    ranked = list(table.groupby("model")["value"].mean().sort_values(ascending=False).index)
    models = looks.of(table["model"], ranked)
    figure, axes = panels(len(norms), size, least=1.6, height=2.0, beside=1.5, sharey=True)
    for axis, norm in zip(axes, norms, strict=True):
        here = table[table["condition"] == norm]
        levels = sorted(here["level"].unique())
        axis.set_xscale("symlog", linthresh=levels[1], linscale=0.6, base=2)
        axis.set_xticks(levels, [f"{level:g}" for level in levels])
        axis.xaxis.set_minor_locator(NullLocator())
        ends = draw_bands(axis, here, models)
        axis.set_xlim(0, levels[-1])
        axis.set_title(TITLES[norm])
        axis.set_xlabel(AXES[norm])
        axis.grid()
        label_lines(axis, ends, models)
    axes[0].set_ylim(bottom=0)
    axes[0].yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axes[0].yaxis.set_major_formatter(FuncFormatter(percent))
    axes[0].set_ylabel("robust accuracy")
    figure.set_label("Robust accuracy over the size of attacks; bands are 95 % intervals.")
    return figure
