"""Attention and Grad-CAM as figures: what maps look like, in numbers."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.groups import FAMILIES
from harness.plots.curves import draw_lines, label_lines, name_rows
from harness.plots.maps import KEY
from harness.plots.style import GRAY, Looks, Size, panels, styled
from harness.suites.metric import is_bound, parts_of
from harness.suites.metrics import METRICS

STATISTICS = ("entropy", "gini", "total_variation", "distance", "spread", "border")
MARKS = {"sharp": "^", "matched": "s", "used": "o", "level": "D"}
GRIDS = ("o", "s", "^", "D", "v")  # of Grad-CAM, the finest first


def map_of(variant: str) -> str:
    """Return the map that a variant is of as a whole: "used", "gradcam 4x4", or "".

    Layers are part of the map; heads, classes and differences are not whole.
    """
    parts = parts_of(variant)
    whole = parts and not any(p.startswith(("over ", "head ", "class ")) for p in parts)
    return variant if whole and not is_bound(variant) else ""


def is_cam(variant: str) -> bool:
    """Return whether a variant is of Grad-CAM."""
    return variant.startswith("gradcam ")


def in_reading_order(maps: Iterable[str]) -> list[str]:
    """Return maps of attention as in `MARKS`, of Grad-CAM the finest grid first."""

    def place(name: str) -> tuple:
        first, *layer = parts_of(name)
        side = int(name.rpartition("x")[2]) if is_cam(name) else 0
        return layer, list(MARKS).index(first) if first in MARKS else len(MARKS), -side, name

    return sorted(set(maps), key=place)


def marks_of(maps: Sequence[str]) -> dict[str, str]:
    """Return a marker for each map."""
    grids = [m for m in maps if is_cam(m)]
    return {
        m: GRIDS[grids.index(m) % len(GRIDS)] if m in grids else MARKS.get(parts_of(m)[0], "x")
        for m in maps
    }


@styled
def attention_statistics(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """What do maps look like on clean images, and what does diffusion do to them?

    A panel for each statistic, a row for each model, a mark for each of its maps; bars are 95 %
    intervals. Diffusion is seen between `matched` and `used`; between `sharp` and `used` any
    temperature would do it.

    Args:
        numbers: Statistics of clean images, as of `analysis.numbers.intervals_of`.
    """
    numbers = numbers[numbers["variant"].map(map_of).ne("")]
    shown = [s for s in STATISTICS if s in set(numbers["metric"])]
    maps = in_reading_order(numbers["variant"])
    marks = marks_of(maps)
    layers = list(dict.fromkeys(", ".join(parts_of(m)[1:]) for m in maps))
    models = [m for m in looks.order if m in set(numbers["model"])]
    rows = [(model, layer) for model in models for layer in layers]
    names = [f"{model}, {layer}" if layer else model for model, layer in rows]
    row = 0.2 if len(rows) < 13 else 0.14
    figure, axes = panels(
        len(shown), size, least=1.15, height=0.55 + row * len(rows), beside=1.2,
        above=0.15 + 0.14 * len(KEY), sharey=True,
    )  # fmt: skip
    for axis, statistic in zip(axes, shown, strict=True):
        for number in numbers[numbers["metric"] == statistic].to_dict("records"):
            name = number["variant"]
            apart = 0.5 * (maps.index(name) / max(1, len(maps) - 1) - 0.5)
            y = apart + rows.index((number["model"], ", ".join(parts_of(name)[1:])))
            color = looks.mark(number["model"])[0]
            axis.plot(number["value"], y, marks[name], color=color)
            axis.hlines(y, number["low"], number["high"], color=color, linewidth=0.8)
        metric = METRICS[statistic]
        axis.set_title(f"{metric.title} / {metric.unit}" if metric.unit else metric.title)
        name_rows(axis, names)
    columns = int(figure.get_figwidth() / 1.4) if is_cam(maps[0]) else 1
    figure.legend(handles=key_of(marks), loc="outside lower left", handletextpad=0.2, ncols=columns)
    figure.set_label("Statistics of maps on clean images; bars are 95 % intervals.")
    return figure


def key_of(marks: dict[str, str]) -> list[Line2D]:
    """Return the entries that say what marks mean."""
    found = {}
    for name, mark in marks.items():
        first = parts_of(name)[0]
        text = f"{first}: {KEY[first]}" if first in KEY else first.replace("gradcam", "Grad-CAM at")
        found[text] = Line2D([], [], color=GRAY, linestyle="", marker=mark, label=text)
    return list(found.values())


@styled
def instability_curve(numbers: pd.DataFrame, looks: Looks, size: Size | None = None) -> Figure:
    """How much do maps move when the image is corrupted?

    1 - Spearman's rank correlation of clean and corrupted map, against severity; a panel for each
    map, noise and blur apart. 0: nothing moves; 1: nothing is left. That of matched and level maps
    is that of the sharp ones. Bars are 95 % intervals over images and seeds.

    Args:
        numbers: As of `analysis.numbers.intervals_of`, with means of noise and blur.

    Raises:
        ValueError: Nothing was corrupted.
    """
    whole = numbers["variant"].map(map_of)
    kept = numbers[
        (numbers["metric"] == "instability") & whole.ne("") & numbers["level"].notna()
        & ~whole.str.startswith(("matched", "level"))
    ]  # fmt: skip
    present = set(kept["condition"])
    families = [f for f in FAMILIES if f in present]
    inside = {kind for family in families for kind in FAMILIES[family]}
    conditions = families + sorted(present - inside - set(families))
    if not conditions:
        raise ValueError("There are no corruptions to draw. Run `harness run --suite attention`.")
    shown = [(c, name) for c in conditions for name in in_reading_order(kept["variant"])]
    ranked = kept.groupby("model")["value"].mean().sort_values().index
    models = looks.of(kept["model"], list(ranked))
    figure, axes = panels(
        len(shown), size, least=0.95, height=1.5, beside=1.5, sharex=True, sharey=True
    )
    for axis, (condition, name) in zip(axes, shown, strict=True):
        part = kept[(kept["condition"] == condition) & (kept["variant"] == name)]
        ends = draw_lines(axis, part, models)
        axis.set_title(f"{condition.replace('_', ' ')}, {name.replace('gradcam', 'Grad-CAM')}")
        axis.grid()
        label_lines(axis, ends, models)
    axes[0].set_ylim(bottom=0)
    axes[0].set_xticks(sorted(kept["level"].unique()))
    figure.supxlabel("severity")
    figure.supylabel("instability of maps")
    figure.set_label("How far maps move under corruption; bars are 95 % intervals.")
    return figure
