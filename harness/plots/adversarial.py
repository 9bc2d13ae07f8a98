"""Robust accuracy over the size of attacks, as a figure."""

from typing import Any

import numpy as np
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


def certified_of(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of certified accuracy of models of which something is certified."""
    kept = numbers[numbers["metric"].eq("certified_accuracy") & numbers["level"].gt(0)]
    some = kept.groupby(["model", "condition"])["value"].transform("max") > 0
    return kept[some]


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


def draw_certified(axis: Any, part: pd.DataFrame, known: pd.DataFrame, models: Models) -> None:
    """Draw what is certified, a dotted line, and hatch what lies between it and the attacks."""
    for model, look in models.items():
        low = known[known["model"] == model].sort_values("level")
        above = part[(part["model"] == model) & part["level"].isin(low["level"])]
        if low.empty or above.empty:
            continue
        axis.plot(low["level"], low["value"], color=look.color, linestyle=":", linewidth=0.9)
        axis.fill_between(
            low["level"], low["value"], above.sort_values("level")["value"],
            facecolor="none", edgecolor=look.color, alpha=0.35, hatch="////", linewidth=0, zorder=1,
        )  # fmt: skip


@styled
def masking_matrix(numbers: pd.DataFrame, size: Size | None = None) -> Figure:
    """Do attacks through one solver break the network that another one solves?

    A panel for each model, a row for each attack, a column for each solver that classifies its
    images; cells are accuracies in per cent. Where an attack through another solver leaves less of
    the column `own` than the one through `own`, the solver masks gradients.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, of `accuracy_through`.
    """
    kept = numbers[numbers["metric"] == "accuracy_through"]
    if kept.empty:
        raise ValueError("No model with a solver was attacked. Run one by the suite adversarial.")
    names = kept["variant"].str.split(", ", expand=True)
    kept = kept.assign(attack=names[0], solver=names[1])
    models = list(dict.fromkeys(kept["model"]))
    attacks = ["clean", *_in_order(kept["attack"], ("own",), ("replayed", "square"))]
    solvers = _in_order(kept["solver"], ("own",), ())
    figure, axes = panels(
        len(models), size, least=2.2, height=0.6 + 0.2 * len(attacks), beside=1.2, sharey=True
    )
    for axis, model in zip(axes, models, strict=True):
        own = kept[kept["model"] == model]
        wide = own.pivot(index="attack", columns="solver", values="value")
        wide = wide.reindex(index=attacks, columns=solvers)
        axis.imshow(wide, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(wide.to_numpy(float)):
            if np.isfinite(value):
                ink = "white" if value > 0.6 else "black"
                text = f"{100 * value:.0f}"
                axis.text(j, i, text, ha="center", va="center", color=ink, fontsize=6)
        axis.set_xticks(range(len(solvers)), solvers, rotation=30, ha="right", fontsize=6)
        axis.set_yticks(range(len(attacks)), attacks, fontsize=6)
        axis.set_title(f"{model}, {int(own['n'].max())} images", fontsize=7)
        axis.set_xlabel("classified with")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    axes[0].set_ylabel("attacked through")
    figure.set_label("Accuracy in per cent after attacks through one solver, under another.")
    return figure


def _in_order(names: pd.Series, first: tuple[str, ...], last: tuple[str, ...]) -> list[str]:
    """Distinct names but `clean`, some first and some last."""
    there = [name for name in dict.fromkeys(names) if name != "clean"]
    middle = sorted(name for name in there if name not in (*first, *last))
    return [n for n in first if n in there] + middle + [n for n in last if n in there]


@styled
def robustness_curve(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How fast does robust accuracy fall with the size of attacks?

    A panel for each norm, a line for each model, from its accuracy on clean images on; bands are
    95 % intervals over seeds and images. Where something is certified, the true curve lies between
    the line and a dotted one, hatched. eps stands on a scale that is linear up to the smallest
    attack and logarithmic from there on.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, of accuracy, `robust_accuracy` and
            `certified_accuracy`.
    """
    table, certified = curves_of(numbers), certified_of(numbers)
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
        draw_certified(axis, here, certified[certified["condition"] == norm], models)
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
