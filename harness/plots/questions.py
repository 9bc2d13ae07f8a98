"""The differences behind one answer, as a figure."""

import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.groups import describe_group
from harness.plots.generation import NAMES
from harness.plots.style import COLORS, GRAY, PAGE, Size, fill, styled
from harness.suites.metrics import METRICS, full_title

MOST = 4  # panels
ROW, LINE = 0.19, 0.09  # inches of a difference, and of a further line of its name
QUANTITY = ["suite", "metric", "group", "variant"]
NAME = 36  # characters of a line of a row's name


@styled
def question_figure(
    effects: pd.DataFrame, caption: str, margin: float = math.nan, size: Size | None = None
) -> Figure:
    """By how much does the model of a question differ from each of its rivals?

    A panel for each quantity, those that decide first; a row for each difference: from whom, or of
    another model than the question's, from the same; or of one model between conditions. Filled
    points with thick bars decide the verdict. The band is the margin: what is smaller does not
    matter.

    Args:
        effects: Of one answer: `model`, `against`, `further`, `QUANTITY`, `effect`, `low`, `high`,
            `decides`; rates as fractions.
        caption: What the figure says of itself.
        margin: The smallest difference that matters, in the unit of what decides.

    Raises:
        ValueError: There is no difference.
    """
    if effects.empty:
        raise ValueError("The answer has no differences to draw. Run `harness study`.")
    effects = effects.assign(row=_rows(effects))
    order = effects.sort_values("decides", ascending=False, kind="stable")
    quantities = list(order[QUANTITY].drop_duplicates().itertuples(index=False, name=None))[:MOST]
    shown = effects[pd.MultiIndex.from_frame(effects[QUANTITY]).isin(quantities)]
    rows = list(dict.fromkeys(shown.sort_values("decides", ascending=False, kind="stable")["row"]))
    names = ["\n".join(textwrap.wrap(name.replace("'", ""), NAME)) for name in rows]
    lines = max(1 + name.count("\n") for name in names)
    width, height = size or (PAGE, None)
    room = max(3, len(rows)) * (ROW + LINE * (lines - 1))
    figure = Figure((width, height or 0.95 + room), layout="constrained")
    axes = fill(figure, len(quantities), (1, len(quantities)), sharey=True)
    for axis, quantity in zip(axes, quantities, strict=True):
        here = shown[(shown[QUANTITY] == list(quantity)).all(axis=1)]
        _draw(axis, here, rows, margin, int(13 * width / len(quantities) / 2))
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(_explain(effects, margin))
    figure.set_label(caption)
    return figure


def _explain(effects: pd.DataFrame, margin: float) -> str:
    """What the axis shows: whose differences, and how they are drawn."""
    first = _first(effects)
    whose = f"{first['model']} less the model at the left".replace("'", "")
    if _within(first):
        whose = f"{_condition(first['group'])} less the condition at the left"
    band = "; gray: less than the margin" if math.isfinite(margin) else ""
    said = [whose] * bool(first["against"]) + [f"95 % intervals, filled points decide{band}"]
    return "\n".join(said)


def _within(effect: pd.Series) -> bool:
    """Whether a difference is of one model under two conditions, such as "euler 9"."""
    levels = (str(effect[side]).rpartition(" ")[2] for side in ("group", "against"))
    return " " in effect["against"] and all(level.isdecimal() for level in levels)


def _condition(group: str) -> str:
    """A condition in words: "Heun, 9 evaluations" for "heun 9"."""
    name, _, level = group.rpartition(" ")
    counted = name in NAMES and level.isdecimal()  # not the tolerance of an adaptive one
    return f"{NAMES[name]}, {level} evaluations" if counted else group


def _first(effects: pd.DataFrame) -> pd.Series:
    deciding = effects[effects["decides"]]
    return (deciding if len(deciding) else effects).iloc[0]


def _rows(effects: pd.DataFrame) -> list[str]:
    """The name of each difference: of whom the model is ahead, or of a part what it is."""
    first, names = _first(effects), []
    for e in effects.to_dict("records"):
        name = _condition(e["against"])
        if e["model"] != first["model"]:
            own = e["against"] in ("", first["against"])
            name = f"gain of {e['model']}" if own else f"{e['model']} less {e['against']}"
        names.append(", ".join(filter(None, (name, e["further"]))) or e["model"])
    return names


def _draw(axis: Any, here: pd.DataFrame, rows: list[str], margin: float, letters: int) -> None:
    """Draw one quantity's differences, each in its row."""
    _, name, group, variant = here[QUANTITY].iloc[0]
    metric = METRICS[name]
    factor, unit = (100, ", points") if metric.is_rate else (1, "")
    decides = bool(here["decides"].any())
    if decides and math.isfinite(margin):
        axis.axvspan(-factor * margin, factor * margin, color=GRAY, alpha=0.12, linewidth=0)
    axis.axvline(0, color=GRAY, linewidth=0.8, zorder=1)
    for e in here.to_dict("records"):
        y, color = rows.index(e["row"]), COLORS[0] if e["decides"] else GRAY
        face = color if e["decides"] else "white"
        bold = 1.6 if e["decides"] else 0.8
        axis.hlines(y, factor * e["low"], factor * e["high"], color=color, linewidth=bold)
        axis.plot(factor * e["effect"], y, "o", color=color, markerfacecolor=face, zorder=3)
    less = "less is better" if metric.sign < 0 else ""
    first = here.iloc[0]
    place = f"of {first['model']}" if _within(first) else describe_group(group)
    title = f"{full_title(name, variant)} {place}{unit}"
    lines = textwrap.wrap(title, max(18, letters)) + [less] * bool(less)
    axis.set_title("\n".join(lines), fontweight="bold" if decides else "normal")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10), min_n_ticks=3))
