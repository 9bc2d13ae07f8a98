"""Sizes, colors and axes, the same in every figure, and figures as files."""

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.corruption_error import REFERENCE as BASELINE
from harness.models.catalog import CATALOG
from harness.plots.labels import fit_titles, spread_labels
from harness.plots.letters import spell_all
from harness.refusal import Refusal
from harness.storage.files import write_bytes

Size = tuple[float, float | None]  # in inches; None: the height that the figure needs
P = ParamSpec("P")

FORMATS = ("png", "pdf", "svg")
COLUMN, PAGE = 3.5, 7.2  # inches, the width of a column and of a page of a paper
NAMED = 8  # models that a figure draws in color; of more, only some
GRAY, PALE = "#555555", "#c4c4c4"  # the baseline; models without a color of their own
# Okabe and Ito's palette, told apart by color-blind readers, and others that differ from it.
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#7048E8",
    "#8A9A00", "#AA4499", "#117733", "#661100", "#DDAA77", "#332288", "#44AA99", "#000000",
)  # fmt: skip
MARKERS = ("s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")

RC: Any = {
    "font.size": 7,
    "text.parse_math": False,  # a name may have dollars
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "harness",
    **dict.fromkeys((f"{k}size" for k in ("axes.title", "axes.label", "figure.label")), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 6.5),
    **dict.fromkeys((f"{k}width" for k in ("axes.line", "xtick.major.", "ytick.major.")), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys((f"figure.constrained_layout.{k}_pad" for k in "hw"), 0.03),
}


@dataclass(frozen=True)
class Look:
    """How one model is drawn.

    Args:
        named: Whether its name stands beside its line.
        full: Whether in color, with markers and intervals.
    """

    color: str
    marker: str
    named: bool
    full: bool

    def line(self) -> dict[str, Any]:
        """Return how its line is drawn."""
        if not self.full:
            return {"color": PALE, "linewidth": 0.7, "zorder": 1.5}
        return {"color": self.color, "marker": self.marker, "zorder": 3}


class Looks:
    """Colors and markers of all models of a results folder, no two alike.

    A model has the same in every figure of the folder, whoever else is drawn there.

    Args:
        models: All of the folder.
    """

    def __init__(self, models: Iterable[str], baseline: str = BASELINE) -> None:
        self.baseline, self.order = baseline, in_order(models)
        self._others = [m for m in self.order if m != baseline]

    def of(self, shown: Iterable[str], best_first: Sequence[str]) -> dict[str, Look]:
        """Return the looks of the models in a figure, in the order in which they are drawn.

        Up to `NAMED` models have their color and their name. Of more, these are the baseline and
        the best four; the others are thin gray lines, of which the worst two are named.
        """
        present = set(shown)
        here = [m for m in self.order if m in present]
        ranked = [m for m in best_first if m != self.baseline]
        few = len(here) <= NAMED
        full = present if few else {self.baseline, *ranked[:4]}
        named = full if few else full | set(ranked[-2:])
        found = {m: Look(*self.mark(m), m in named, m in full) for m in here}
        return dict(sorted(found.items(), key=lambda item: item[1].full))  # gray behind color

    def mark(self, model: str) -> tuple[str, str]:
        """Return a model's color and marker."""
        if model == self.baseline:
            return GRAY, "o"
        i = self._others.index(model)
        # Beyond the palette hues by the golden angle, none of which comes again.
        hue = hsv_to_rgb(((0.11 + 0.381966 * i) % 1, 0.75, 0.5 + 0.3 * (i % 2)))
        color = COLORS[i] if i < len(COLORS) else to_hex(tuple(hue))
        return color, MARKERS[i % len(MARKERS)]


def in_order(models: Iterable[str]) -> list[str]:
    """Return models in the registry's order, those that are not in it last, by name."""
    place = {name: i for i, name in enumerate(CATALOG)}
    return sorted(set(models), key=lambda m: (place.get(m, len(place)), by_number(m)))


def by_number(name: str) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them: block.2 comes before block.10."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]


def styled(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a figure in this style, and lay it out: its labels spread, nothing cut off."""

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(RC), warnings.catch_warnings():
            warnings.filterwarnings("error", message="constrained_layout not applied")
            figure = make(*args, **kwargs)
            spell_all(figure)
            try:
                for _ in range(2):  # ticks may change with the layout, and the layout with them
                    figure.draw_without_rendering()
            except UserWarning:
                width, height = figure.get_size_inches()
                raise Refusal(
                    f"The figure does not fit into {width:g} x {height:g} inches. Give a larger "
                    "`--size`, or `--size page`."
                ) from None
            figure.set_layout_engine("none")
            fit_titles(figure)
            spread_labels(figure)
        return figure

    return made


def split_grid(
    count: int, width: float, least: float, beside: float = 0.5, *, height: float = 1.0,
    room: float | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Return (rows, columns) of a grid of panels that are at least so wide; all in inches.

    Args:
        beside: What ticks and names take on both sides.
        height: Of a panel; `room` is the height of all of them, where that is given: then panels
            are as near to `least` by `height` as they can be.
    """
    if room is not None:
        wide, tall = (width - beside) / least, room / height
        columns = max(range(1, count + 1), key=lambda c: min(wide / c, tall / -(-count // c)))
    else:
        most = max(1, min(count, int((width - beside) / least)))
        # A few columns less where that leaves fewer places empty.
        columns = min(range(most, most // 2, -1), key=lambda c: -count % c)
    return -(-count // columns), columns


def fill(
    where: Any, count: int, shape: tuple[int, int], *, last: bool = False, **shared: Any
) -> list[Any]:
    """Return the panels of a grid in a figure or a part of one, in reading order.

    Args:
        last: Whether the last panel belongs into the last column; empty places come before it.
        shared: As of `Figure.subplots`.
    """
    axes = list(where.subplots(*shape, squeeze=False, **shared).ravel())
    for axis in axes:  # at most five, whatever the layout does to the panel's size
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    empty = axes[count - 1 : -1] if last else axes[count:]
    for axis in empty:
        above = axes[axes.index(axis) - shape[1]] if shape[0] > 1 else axis
        above.tick_params(labelbottom=True)
        axis.remove()
    return [axis for axis in axes if axis not in empty]


def panels(
    count: int, size: Size | None, *, least: float, height: float, beside: float = 0.5,
    above: float = 0.45, last: bool = False, **shared: Any,
) -> tuple[Figure, list[Any]]:  # fmt: skip
    """Return a figure with a grid of panels, as of `split_grid` and `fill`.

    Args:
        size: None: as wide as a page, or less where there are few panels.
        height: Of a panel in inches, where `size` has none; `above` what the rest takes.
    """
    width, given = size or (PAGE, None)
    room = given and given - above
    shape = split_grid(count, width, least, beside, height=height, room=room)
    width = width if size else min(PAGE, shape[1] * 1.35 * max(least, height) + beside)
    figure = Figure((width, given or shape[0] * height + above), layout="constrained")
    return figure, fill(figure, count, shape, last=last, **shared)


def set_integer_ticks(axis: Any) -> None:
    """Put ticks of a horizontal axis at whole numbers, as many as fit under the panel."""
    columns = axis.get_subplotspec().get_gridspec().ncols
    width = (axis.figure.bbox.width / axis.figure.dpi - 1.45) / columns
    axis.xaxis.set_major_locator(MaxNLocator(max(2, int(8 * width)), integer=True))


def percent(value: float, place: int | None = None) -> str:
    """Return the text of a tick of rates."""
    return f"{100 * value:.6g}%"


def parse_size(text: str | None) -> Size | None:
    """Return the size that "column", "page" or "3.5x2.4" says, in inches.

    Raises:
        Refusal: It is no size.
    """
    if text is None:
        return None
    if text in ("column", "page"):
        return (COLUMN if text == "column" else PAGE), None
    found = re.fullmatch(r"(\d+\.?\d*)x(\d+\.?\d*)", text)
    if found is None or not all(1 <= float(side) <= 100 for side in found.groups()):
        raise Refusal(
            f"`--size` is column, page, or WIDTHxHEIGHT in inches from 1 to 100, such as 3.5x2.4; "
            f"got `{text}`."
        )
    return float(found[1]), float(found[2])


def check_format(format: str) -> None:
    """Refuse a format that no figure has."""
    if format not in FORMATS:
        raise Refusal(f"There is no format `{format}`. Use png, pdf or svg.")


def save(figure: Figure, path: Path, source: str) -> Path:
    """Write a figure in the format that its path ends with; equal figures give equal bytes.

    Args:
        source: What it was drawn from, as of `storage.sources`; a PNG keeps it.
    """
    format = path.suffix[1:]
    check_format(format)
    words = {"Title": path.stem.replace("_", " ")}
    if figure.get_label():
        words["Subject" if format == "pdf" else "Description"] = str(figure.get_label())
    words |= {"Source": source} if format == "png" else {}
    undated: dict = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format, {})
    content = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(content, format=format, metadata=words | undated)
    write_bytes(path, content.getvalue())
    return path
