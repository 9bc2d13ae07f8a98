"""Maps over images: where a model looks."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from harness.plots.style import PAGE, Size, styled

CMAP, DIVERGING = "magma", "RdBu_r"
LESS = "used less\n"  # begins the name of a row of differences
KEY = {
    "used": "the weights that multiply the values",
    "sharp": "softmax of the scores",
    "matched": "softmax at a temperature of equal entropy",
    "level": "softmax at a temperature of entropy 0.75 log K, the same for all networks",
}


def overlay(axis: Any, image: ArrayLike, found: np.ndarray, scale: dict[str, Any]) -> Any:
    """Draw a map (H, W) over a gray image (3, h, w), uint8; the grid is the map's own."""
    gray = np.asarray(image, float).mean(axis=0)
    height, width = gray.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    return axis.imshow(found, interpolation="nearest", alpha=0.66, extent=extent, **scale)


def draw_image(axis: Any, image: ArrayLike, title: str) -> None:
    """Draw a uint8 image (3, h, w)."""
    axis.imshow(np.moveaxis(np.asarray(image), 0, -1), interpolation="nearest")
    axis.set_title(title, fontsize=6.5)
    hide_frame(axis)


def hide_frame(axis: Any) -> None:
    """Leave an image without ticks and edges."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


@styled
def overlays(
    images: Sequence[ArrayLike], titles: Sequence[str], maps: Mapping[str, Sequence[ArrayLike]],
    heading: str, size: Size | None = None,
) -> Figure:  # fmt: skip
    """Where does the model look? A column an image, a row a map, the images on top.

    Maps are drawn in units of the uniform one: 1 is what every place would get. Rows of one grid
    share a scale, which ends at the 99.5th percentile of their values.

    Args:
        images: uint8 (3, h, w).
        titles: Of the columns.
        maps: By the name of the row, (H, W) for each image, each summing to one; a name that begins
            with `LESS` is that of a difference, in colors around 0.
        heading: What is seen.
    """
    count, rows = len(images), 1 + len(maps)
    width = size[0] if size else min(PAGE, 0.75 * count + 1.6)
    side = (width - 1.3) / count
    figure = Figure((width, (size and size[1]) or rows * (side + 0.05) + 0.9), layout="constrained")
    known = [f"{name}: {text}" for name, text in KEY.items() if any(name in row for row in maps)]
    lines = textwrap.wrap(f"{heading}, in units of a uniform map.", int(19 * width))
    lines += textwrap.wrap("; ".join(known), int(19 * width))
    figure.suptitle("\n".join(lines), fontsize=7, x=0.01, ha="left")
    axes = figure.subplots(rows, count, squeeze=False)
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        draw_image(axis, image, title)
    scaled = {
        name: [m.size * m for m in map(np.asarray, of_row)]  # in units of the uniform map
        for name, of_row in maps.items()
    }
    scales = color_scales(scaled)
    for axis_row, (name, found) in zip(axes[1:], scaled.items(), strict=True):
        for axis, image, one in zip(axis_row, images, found, strict=True):
            drawn = overlay(axis, image, one, scales[name])
            hide_frame(axis)
        bar = figure.colorbar(drawn, ax=list(axis_row), shrink=0.85, pad=0.01, aspect=12)
        bar.ax.tick_params(labelsize=5.5)
        bar.locator = MaxNLocator(3)
        bar.update_ticks()
    for axis, name in zip(axes[:, 0], ["image", *maps], strict=True):
        axis.set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    figure.set_label(f"Where the model looks: {heading}.")
    return figure


def color_scales(maps: Mapping[str, Sequence[np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Return the color scale of each row; rows of one grid share one, differences apart."""
    groups: dict[tuple, list[np.ndarray]] = {}
    for name, found in maps.items():
        values = np.concatenate([m.ravel() for m in found])
        groups.setdefault((found[0].shape, name.startswith(LESS)), []).append(
            values[np.isfinite(values)]
        )
    scales = {}
    for name, found in maps.items():
        differs = name.startswith(LESS)
        values = np.concatenate(groups[found[0].shape, differs])
        top = float(np.quantile(np.abs(values), 0.995)) if len(values) else 1.0
        low = -top if differs else float(values.min(initial=top))
        scales[name] = {"cmap": DIVERGING if differs else CMAP, "vmin": low, "vmax": top}
    return scales
