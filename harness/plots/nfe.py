"""Accuracy against evaluations and multiply-adds, as figures: numbers in, Figure out."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.plots.labels import label_ends, tell_apart
from harness.plots.style import GRAY, MARKERS, PAGE, Looks, Size, in_order, panels, percent, styled

DEPTH = "depth"  # the condition of a model without a solver
REFERENCES = 3  # models without a solver in a panel
# Darker is of higher order; adaptive solvers are dashed. No model's color means a solver.
FIXED = ("#9ecae1", "#6baed6", "#3182bd", "#08519c", "#062a54")
ADAPTIVE = ("#fd8d3c", "#a63603", "#5c1d02")
POINTS, MILLION = 100, 1e6
ACROSS = {
    "nfe": "function evaluations of an image, mean",
    "evaluations": "residual functions evaluated, whole network",
    "macs": "multiply-adds of an image, whole network, millions",
}


def axis_of(numbers: pd.DataFrame) -> str:
    """Return the metric that evaluations are read from; results of earlier versions have `nfe`."""
    return "evaluations" if (numbers["metric"] == "evaluations").any() else "nfe"


def costs(numbers: pd.DataFrame, axis: str = "") -> pd.DataFrame:
    """Return a row for each (model, condition, level): accuracy with its interval, and `cost`.

    Args:
        axis: Metric of the cost; by default that of `axis_of`.
    """
    key = ["model", "condition", "level"]
    kept = numbers[numbers["variant"] == ""]
    cost = kept[kept["metric"] == (axis or axis_of(numbers))].set_index(key)["value"]
    accuracy = kept[kept["metric"] == "accuracy"]
    found = accuracy[[*key, "value", "low", "high"]].join(cost.rename("cost"), on=key)
    return found.dropna(subset=["cost"])


def solved(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of solvers on clean images."""
    return table[(table["condition"] != DEPTH) & ~table["condition"].str.contains(",")]


@styled
def nfe_curve(
    numbers: pd.DataFrame, looks: Looks, size: Size | None = None, axis: str = ""
) -> Figure:
    """How does accuracy depend on what a solver spends?

    One panel for each model with a solver, a line for each solver, from its coarsest setting to its
    finest. All of them evaluate one network, so that one interval tells how sure its accuracy is:
    the band is that of the setting with the most evaluations, 95 % over seeds and images; settings
    outside have bars of their own. Models without a solver are gray lines, with a cross at their
    cost: the baseline, the best and the worst.

    Args:
        numbers: Accuracy and costs in one data set, as of `analysis.numbers.intervals_of`.
        axis: "evaluations" of residual functions in the whole network, or "macs", its multiply-adds
            in millions; by default the former.

    Raises:
        ValueError: No model has a solver.
    """
    axis = axis or axis_of(numbers)
    table = costs(numbers, axis)
    if axis == "macs":
        table = table.assign(cost=table["cost"] / MILLION)
    lines, fixed = solved(table), table[table["condition"] == DEPTH]
    if lines.empty:
        raise ValueError(
            "No model here has a solver. Run `harness run --suite nfe --model ode_block`."
        )
    models = in_order(lines["model"])
    styles = solver_styles(lines)
    figure, axes = panels(
        len(models), size, least=1.1, height=1.5, beside=1.2, above=0.75, sharex=True, sharey=True
    )
    for panel, model, name in zip(axes, models, tell_apart(models), strict=True):
        draw_solvers(panel, lines[lines["model"] == model], styles)
        panel.set_title(name)
        panel.grid()
        panel.set_xscale("log", base=2)
        draw_references(panel, references(fixed, looks.baseline))
        panel.yaxis.set_major_formatter(FuncFormatter(percent))
    axes[0].xaxis.set_major_locator(FixedLocator(doubling(table["cost"])))
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    figure.supxlabel(f"{ACROSS[axis]}\nbars and bands: 95 % intervals")
    figure.supylabel("accuracy")
    handles, names = axes[0].get_legend_handles_labels()
    columns = len(names) if figure.get_figwidth() > PAGE / 2 else 3
    figure.legend(handles, names, loc="outside upper left", ncols=columns, columnspacing=1)
    figure.set_label(
        f"Accuracy against {ACROSS[axis]}, a line a solver; the band is the 95 % interval of the "
        "finest setting."
    )
    return figure


def doubling(costs: pd.Series) -> list[float]:
    """Return at most eight marks from the smallest cost to the largest, doubling if few suffice."""
    first = math.floor(math.log2(max(1.0, costs.min())))
    last = math.ceil(math.log2(max(2.0, costs.max())))
    marks = [2.0**k for k in range(first, last + 1)]
    return marks[:: 1 + (len(marks) > 8)]


def solver_styles(lines: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how each solver is drawn: fixed ones first, adaptive ones have levels below 1."""
    least = lines.groupby("condition")[["level", "cost"]].min().reset_index()
    least["adaptive"] = least["level"] < 1
    styles: dict[str, dict[str, Any]] = {}
    places = {True: 0, False: 0}
    ordered = least.sort_values(["adaptive", "cost", "condition"])
    for i, (name, adaptive) in enumerate(
        zip(ordered["condition"], ordered["adaptive"], strict=True)
    ):
        colors = ADAPTIVE if adaptive else FIXED
        place, places[adaptive] = places[adaptive], places[adaptive] + 1
        styles[str(name)] = {
            "color": colors[place % len(colors)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "--" if adaptive else "-",
        }
    return styles


def draw_solvers(axis: Any, lines: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    """Draw the lines of one model's solvers, and the band of the finest setting."""
    finest = lines.sort_values("cost").iloc[-1]
    axis.axhspan(finest["low"], finest["high"], color=GRAY, alpha=0.13, linewidth=0, zorder=0)
    for i, (name, style) in enumerate(styles.items()):
        line = lines[lines["condition"] == name].sort_values("cost")
        axis.plot(line["cost"], line["value"], label=name, **style)
        outside = line[(line["value"] < finest["low"]) | (line["value"] > finest["high"])]
        at = outside["cost"] * 1.008 ** (i - len(styles) / 2)  # bars of one cost stand side by side
        axis.vlines(at, outside["low"], outside["high"], color=style["color"], linewidth=0.7)


def references(fixed: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return some of the models without a solver: the baseline, the best and the worst."""
    if len(fixed) <= REFERENCES:
        return fixed
    ranked = fixed.sort_values("value")
    own = ranked[ranked["model"] == baseline]
    return pd.concat([own, ranked.iloc[[0, -1]]]).drop_duplicates("model")


def draw_references(axis: Any, fixed: pd.DataFrame) -> None:
    """Draw models without a solver as gray lines, named at the right."""
    ends = {}
    for row in fixed.to_dict("records"):
        axis.axhline(row["value"], color=GRAY, linewidth=0.7, linestyle=":", zorder=1)
        axis.plot(row["cost"], row["value"], "x", color=GRAY, zorder=2)
        axis.vlines(row["cost"], row["low"], row["high"], color=GRAY, linewidth=0.7, zorder=1)
        ends[row["model"]] = axis.get_xlim()[1], row["value"]
    if axis.get_subplotspec().is_last_col():
        label_ends(axis, ends, dict.fromkeys(ends, GRAY))


@styled
def solver_matrix(numbers: pd.DataFrame, size: Size | None = None) -> Figure:
    """Does a network that was trained with one solver answer alike with another?

    Rows are models, as trained, with the best accuracy of each; a panel for each solver that
    evaluates them, a column for each of its settings; cells are accuracies in points less the
    model's best, framed where the network was trained with it. A network that solves a
    differential equation has small numbers but for the coarsest settings.

    Args:
        numbers: As of `nfe_curve`; `trained_with` frames cells.
    """
    lines = solved(costs(numbers))
    best = lines.groupby("model")["value"].max()
    lines["loss"] = POINTS * (lines["value"] - lines["model"].map(best))
    trained = numbers[numbers["metric"] == "trained_with"]
    own = set(trained[["model", "condition", "level"]].itertuples(index=False, name=None))
    models, solvers = in_order(lines["model"]), list(solver_styles(lines))
    labels = [
        f"{s}  {POINTS * best[m]:.1f}" for m, s in zip(models, tell_apart(models), strict=True)
    ]
    norm = Normalize(1.15 * min(-1.0, lines["loss"].min()), 0)
    figure, axes = panels(
        len(solvers), size, least=0.95, height=0.3 + 0.17 * len(models), beside=1.2, sharey=True
    )
    for axis, name in zip(axes, solvers, strict=True):
        wide = lines[lines["condition"] == name].pivot(
            index="model", columns="level", values="loss"
        )
        levels = sorted(map(float, wide.columns))
        adaptive = levels[0] < 1
        levels = levels[::-1] if adaptive else levels  # the coarsest first
        draw_losses(axis, wide.reindex(index=models, columns=levels), norm)
        for i, j in np.ndindex(len(models), len(levels)):
            if (models[i], name, levels[j]) in own:
                frame = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, linewidth=1)
                axis.add_patch(frame)
        axis.set_yticks(range(len(models)), labels)
        axis.set_title(f"{name}, {'tolerance' if adaptive else 'steps'}", fontsize=7)
    figure.supxlabel(
        "accuracy less the model's best (beside its name), points\nframed: as it was trained"
    )
    figure.set_label(
        "Accuracy with each solver less that with the model's own best, in points; the setting of "
        "its training is framed."
    )
    return figure


def draw_losses(axis: Any, wide: pd.DataFrame, norm: Normalize) -> None:
    """Draw differences in points, by model and setting."""
    axis.imshow(wide, cmap="Blues_r", aspect="auto", norm=norm)
    for (i, j), value in np.ndenumerate(wide.to_numpy()):
        if np.isfinite(value):
            ink = "white" if norm(value) < 0.5 else "black"
            axis.text(j, i, loss(value), ha="center", va="center", color=ink, fontsize=5)
    axis.set_xticks(range(len(wide.columns)), [setting(float(x)) for x in wide.columns], fontsize=5)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def loss(points: float) -> str:
    """Return a difference of accuracies that is 0 or negative, in few characters."""
    if points > -0.05:
        return "0"
    return f"\u2212{-points:.1f}" if points > -9.95 else f"\u2212{-points:.0f}"


def setting(level: float) -> str:
    """Return a number of steps, or a tolerance: "16", "1e-3"."""
    return f"{level:g}" if level >= 1 else f"{level:.0e}".replace("e-0", "e-")
