"""Names at the ends of lines, in place of a legend."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.optimize import isotonic_regression

from harness.plots.letters import spell

END = "_name at the end of a line"
LONGEST = 24  # characters of a name beside a line
SMALLEST = 4.5  # points
NAMED = re.compile(r"\b\w+=")  # what an argument is called


def short(name: str, longest: int = LONGEST) -> str:
    """Return a name that fits: without the names of its arguments, or with the last one alone."""
    name = spell(name)
    if len(name) <= longest:
        return name
    model, arguments, rest = name.partition("(")
    name = model + arguments + NAMED.sub("", rest).replace("'", "")
    if len(name) <= longest:
        return name
    last = f"{model}(\u2026, {name.rpartition(', ')[2]}"
    if ", " in name and len(last) <= longest:
        return last
    tail = longest // 2 - 1
    return f"{name[: longest - tail - 1]}\u2026{name[-tail:]}"


def tell_apart(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Return short names; where two of them are equal, longer ones."""
    found = [short(name, longest) for name in names]
    whole = len(set(found)) == len(set(names)) or longest >= max(len(spell(n)) for n in names)
    return found if whole else tell_apart(names, longest + LONGEST)


def label_ends(
    axis: Any, ends: Mapping[str, tuple[float, float]], colors: Mapping[str, str]
) -> None:
    """Write names right of a panel, tied to the last points of their lines.

    `spread_labels` moves them apart once the layout is known.

    Args:
        ends: (x, y) of the last point by name, in data coordinates.
    """
    for name, end in ends.items():
        text = axis.annotate(
            short(name),
            end,
            xytext=(1.06, 0.5),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            color=colors[name],
            arrowprops={
                "arrowstyle": "-", "color": colors[name], "linewidth": 0.4, "shrinkA": 0,
                "shrinkB": 2.5, "alpha": 0.7, "relpos": (0, 0.5),
            },
        )  # fmt: skip
        text.set_label(END)


def fit_titles(figure: Figure) -> None:
    """Make the titles of panels smaller where one is wider than its panel, all alike."""
    renderer = figure._get_renderer()  # type: ignore[attr-defined]
    titles = [axis.title for axis in panels_of(figure) if axis.get_title()]
    fits = [
        text.axes.get_window_extent(renderer).width / text.get_window_extent(renderer).width
        for text in titles
    ]
    for text in titles:
        text.set_fontsize(max(SMALLEST, text.get_fontsize() * min(1.0, *fits)))


def panels_of(figure: Figure) -> list[Any]:
    """Return all panels, those of its parts as well."""
    return [part for part in figure.findobj(Axes) if part.axison]


def spread_labels(figure: Figure) -> None:
    """Move the names beside each panel apart, as little as that takes."""
    renderer = figure._get_renderer()  # type: ignore[attr-defined]
    for axis in panels_of(figure):
        labels = [text for text in axis.texts if text.get_label() == END]
        if not labels:
            continue
        labels.sort(key=lambda text: text.xy[1])
        box = axis.get_window_extent(renderer)
        # Of the text alone, without the line to its point.
        high = max(Text.get_window_extent(text, renderer).height for text in labels)
        room = box.height + high
        if high * len(labels) > room:
            for text in labels:
                text.set_fontsize(max(SMALLEST, text.get_fontsize() * room / (high * len(labels))))
            high = room / len(labels)
        wanted = np.array([axis.transData.transform(text.xy)[1] for text in labels])
        steps = high * np.arange(len(labels))
        least, most = box.y0, max(box.y0, box.y1 - steps[-1])
        places = np.clip(isotonic_regression(wanted - steps).x, least, most) + steps
        for text, place in zip(labels, places, strict=True):
            text.set_y((place - box.y0) / box.height)
