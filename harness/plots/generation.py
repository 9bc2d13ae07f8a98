"""Quality of samples against evaluations, as a figure: numbers in, Figure out."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from harness.plots.labels import short, tell_apart
from harness.plots.style import GRAY, PAGE, Size, in_order, styled

FINE, REAL = "fine solution", "training images"  # conditions of no solver
METRICS = {  # by name: title of the column
    "path_rms": "path error:\nof the solver alone",
    "sliced_w2": "sliced W2 of pixels:\nmodel and solver",
    "feature_mmd2": "MMD² of features:\nmodel and solver",
}
# Darker is of higher order, green is random, dashed ones choose their own steps.
LOOKS: dict[str, tuple[str, str]] = {
    "euler": ("#6baed6", "s"),
    "heun": ("#2171b5", "^"),
    "dpmpp_2m": ("#062a54", "D"),
    "euler_maruyama": ("#009E73", "v"),
    "heun_euler": ("#fd8d3c", "P"),
    "bosh3": ("#a63603", "X"),
}
NAMES = {
    "euler": "Euler", "heun": "Heun", "dpmpp_2m": "DPM-Solver++(2M)",
    "euler_maruyama": "Euler-Maruyama (SDE)", "heun_euler": "Heun-Euler, adaptive",
    "bosh3": "Bogacki-Shampine, adaptive",
}  # fmt: skip
# FID of 50,000 samples of the EDM-VP network on CIFAR-10, unconditional, by NFE: README of
# zju-pi/diff-sampler, diff-solvers-main, of Z. Zhou, D. Chen, C. Wang and C. Chen, Fast ODE-based
# Sampling for Diffusion Models in Around 5 Steps, CVPR 2024, https://arxiv.org/abs/2312.00094.
PUBLISHED: dict[str, tuple[str, dict[int, float]]] = {
    "euler": (
        "Euler",
        {3: 93.36, 4: 66.76, 5: 49.66, 6: 35.62, 7: 27.93, 8: 22.32, 9: 18.43, 10: 15.69},
    ),
    "heun": ("Heun", {4: 319.87, 6: 99.74, 8: 38.06, 10: 15.93}),
    "dpmpp_2m": (
        "DPM-Solver++(3M)",
        {3: 110.03, 4: 46.52, 5: 24.97, 6: 11.99, 7: 6.74, 8: 4.54, 9: 3.42, 10: 3.00},
    ),
}
LINEAR = 0.1  # of MMD²
MARKS = (5, 10, 20, 40, 80, 160, 320)
LEAST, SMALL = 1e-6, 1e-4  # of numbers on a logarithmic axis; of what it shows


def solved(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of solvers, with the mean `cost` of a sample in evaluations."""
    key = ["model", "condition", "level"]
    spent = numbers[numbers["metric"].eq("nfe")].set_index(key)["value"].rename("cost")
    found = numbers[numbers["metric"].isin(METRICS)].join(spent, on=key)
    return found[found["condition"].ne(FINE) & found["cost"].notna()]


@styled
def quality_curve(numbers: pd.DataFrame, size: Size | None = None) -> Figure:
    """How good are samples for what they cost, by which solver?

    A row a model, a line a solver; bars are 95 % intervals. In the columns of samples the dotted
    line is the fine solution, which has the error of the model alone, and the dashed one are
    training images drawn anew, which have no error: what is below it is chance. The last panel has
    published numbers of another measure, network and data set, for the order of solvers.

    Args:
        numbers: As of `analysis.numbers.intervals_of`: the metrics of `METRICS` and `nfe`; those of
            `feature_mmd2` with the variants `low` and `high` of single runs.
    """
    plain = numbers[numbers["variant"].eq("")]
    lines, models = solved(plain), in_order(solved(plain)["model"])
    width, given = size or (PAGE, None)
    shape = len(models), len(METRICS) + 1
    figure = Figure((width, given or 1.35 * shape[0] + 1.1), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    ends = ends_of(numbers)
    for row, model, name in zip(axes, models, tell_apart(models), strict=True):
        for axis, metric in zip(row, METRICS, strict=False):
            here = plain["model"].eq(model) & plain["metric"].eq(metric)
            draw_solvers(axis, lines[lines["model"].eq(model) & lines["metric"].eq(metric)], ends)
            for condition, style in ((FINE, ":"), (REAL, "--")):
                for value in plain.loc[here & plain["condition"].eq(condition), "value"]:
                    axis.axhline(value, color=GRAY, linewidth=0.8, linestyle=style, zorder=1)
            scale_costs(axis, lines["cost"])
        scale_errors(row[0])
        row[1].set_ylim(bottom=0)  # W2 of samples of this size is never near 0
        scale_mmd(row[2])
        row[0].set_ylabel(short(name))
    for axis, title in zip(axes[0], METRICS.values(), strict=False):
        axis.set_title(title, fontsize=7)
    draw_published(axes[0, -1])
    for axis in axes[1:, -1]:
        axis.remove()
    figure.supxlabel("evaluations of the denoiser for a sample, mean", fontsize=7.5)
    add_legend(figure, axes[0, 0], lines["condition"])
    figure.set_label(
        "Samples against evaluations, a row a model, a line a solver; bars are 95 % intervals, "
        "dotted: without the error of a solver, dashed: training images drawn anew. The last panel "
        "is published FID of another network and data set, not comparable with the others."
    )
    return figure


def ends_of(numbers: pd.DataFrame) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Return the intervals that single runs have of themselves, by model, metric and cell."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    single = numbers["variant"].isin(("low", "high")) & numbers["seeds"].eq(1)
    for row in numbers[single].itertuples():
        key = row.model, row.metric, row.condition, row.level
        found.setdefault(key, {})[str(row.variant)] = float(str(row.value))
    return {key: (ends["low"], ends["high"]) for key, ends in found.items() if len(ends) == 2}


def draw_solvers(axis: Any, lines: pd.DataFrame, ends: Mapping[tuple[Any, ...], Any]) -> None:
    """Draw a line with intervals for each solver, of one model and metric."""
    for solver in ordered(lines["condition"]):
        line = lines[lines["condition"].eq(solver)].sort_values("cost")
        least = LEAST if line["metric"].eq("path_rms").all() else -math.inf
        axis.plot(line["cost"], line["value"].clip(lower=least), **look(solver))
        for row in line.to_dict("records"):
            key = row["model"], row["metric"], row["condition"], row["level"]
            low, high = ends.get(key, (row["low"], row["high"]))
            if math.isfinite(low):
                ink = {"color": look(solver)["color"], "linewidth": 0.6, "alpha": 0.6}
                axis.vlines(row["cost"], max(low, least), max(high, least), **ink)
    axis.grid()


def look(solver: str) -> dict[str, Any]:
    """Return how a solver is drawn."""
    color, marker = LOOKS.get(solver, (GRAY, "o"))
    dashed = "adaptive" in NAMES.get(solver, "")
    return {"color": color, "marker": marker, "linestyle": "--" if dashed else "-"}


def ordered(solvers: Iterable[str]) -> list[str]:
    """Return solvers in the order of `LOOKS`, others behind."""
    here = dict.fromkeys(solvers)
    return [s for s in LOOKS if s in here] + [s for s in here if s not in LOOKS]


def scale_costs(axis: Any, costs: pd.Series) -> None:
    """Put evaluations on a logarithmic axis, with marks at doubled numbers."""
    axis.set_xscale("log")
    axis.set_xlim(0.85 * costs.min(), 1.18 * costs.max())
    here = [mark for mark in MARKS if 0.85 * costs.min() < mark < 1.18 * costs.max()]
    axis.xaxis.set_major_locator(FixedLocator(here))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))


def scale_errors(axis: Any) -> None:
    """Make an axis of path errors logarithmic, down to `SMALL`."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, SMALL), high)
    axis.yaxis.set_major_locator(FixedLocator([10.0**k for k in range(-5, 2)]))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))


def scale_mmd(axis: Any) -> None:
    """Make an axis of MMD² logarithmic beyond `LINEAR`, where some solver fails by so much."""
    if axis.get_ylim()[1] > 5 * LINEAR:
        axis.set_yscale("symlog", linthresh=LINEAR)
        axis.yaxis.set_major_locator(FixedLocator([-LINEAR, 0, LINEAR, 1, 10, 100]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))


def draw_published(axis: Any) -> None:
    """Draw the published numbers, on ground of another color."""
    axis.set_facecolor("#f4f1e8")
    for solver, (name, numbers) in PUBLISHED.items():
        at = np.array(sorted(numbers))
        axis.plot(at, [numbers[n] for n in at], label=name, **look(solver))
    axis.set_title("PUBLISHED, another measure:\nFID, CIFAR-10, EDM network", fontsize=7)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator([3, 4, 5, 6, 8, 10]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.yaxis.set_major_locator(FixedLocator([3, 10, 30, 100, 300]))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.legend(loc="lower left", fontsize=5.5, handlelength=1.2, borderaxespad=0.1)


def add_legend(figure: Figure, axis: Any, solvers: Iterable[str]) -> None:
    """Name the solvers and the two lines above the panels."""
    handles = [axis.plot([], [], **look(s))[0] for s in ordered(solvers)]
    names = [NAMES.get(s, s) for s in ordered(solvers)]
    for label, style in (("fine solution", ":"), ("training images drawn anew", "--")):
        handles += axis.plot([], [], color=GRAY, linewidth=0.8, linestyle=style)
        names.append(label)
    figure.legend(handles, names, loc="outside upper left", ncols=4, columnspacing=1.2)
