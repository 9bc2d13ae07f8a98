"""Attention and Grad-CAM as figures: what maps look like, in numbers and over images."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from harness.models.base import AttentionMap
from harness.plots.style import COLORS, GRAY, MARKERS, quiet
from harness.suites.attention import versions

STATISTICS = {
    "entropy": "row entropy / nats",
    "gini": "Gini coefficient",
    "total_variation": "total variation",
    "distance": "attention distance / tokens",
    "spread": "spread / tokens",
    "border": "mass on the border",
}
KINDS = ("sharp", "matched", "used")  # of attention; Grad-CAM has one of each resolution
Query = tuple[int, int]  # row and column of a token
CMAP, DIVERGING = "magma", "RdBu_r"


def kinds_of(metrics: Sequence[str]) -> list[str]:
    """Return the maps that these metrics are about, "used" or "gradcam_4x4", layers included."""
    found = [m.removeprefix("entropy_") for m in metrics if m.startswith("entropy_")]
    return [k for k in found if not any(w in k for w in ("_head_", "_class_", "over_"))]


def side(kind: str) -> int:
    """Return the height of the grid of "gradcam_4x4", 0 of other maps."""
    found = re.search(r"(\d+)x\d+$", kind)
    return int(found[1]) if found else 0


def attention_statistics(board: pd.DataFrame, order: Sequence[str]) -> Figure:
    """What do maps look like on clean images, and what does diffusion do to them?

    A panel for each statistic, a line for each model and map; bars are 95 % intervals. Diffusion
    is seen between `matched` and `used`; between `sharp` and `used` any temperature would do it.

    Args:
        board: Leaderboard of one data set and the suite attention.
        order: All models, in the order of their lines.
    """
    clean = board[board["group"] == "clean"].set_index(["model", "metric"])
    present = list(dict.fromkeys(clean.index.get_level_values("model")))
    models = [m for m in order if m in present] + sorted(set(present) - set(order))
    lines = [
        (model, kind)
        for model in models
        for kind in sorted(
            kinds_of([metric for name, metric in clean.index if name == model]),
            key=lambda k: (KINDS.index(k) if k in KINDS else len(KINDS), -side(k), k),
        )
    ]
    shown = [s for s in STATISTICS if any((m, f"{s}_{k}") in clean.index for m, k in lines)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(
        figsize=(2.0 * columns + 2.2, (0.21 * len(lines) + 0.75) * rows), layout="constrained"
    )
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, statistic in zip(axes, shown, strict=False):
        for y, (model, kind) in enumerate(lines):
            if (model, f"{statistic}_{kind}") not in clean.index:
                continue
            row = clean.loc[(model, f"{statistic}_{kind}")]
            color = COLORS[KINDS.index(kind)] if kind in KINDS else GRAY
            reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            bars = None if pd.isna(row["low"]) else reach
            axis.errorbar(row["value"], y, xerr=bars, fmt="o", color=color, markersize=4)
        axis.set_title(STATISTICS[statistic], fontsize=8.5)
        quiet(axis, grid="x", size=7.5)
        axis.margins(y=0.5 / max(1, len(lines)))
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    labels = [f"{model}, {kind.replace('gradcam_', 'Grad-CAM ')}" for model, kind in lines]
    axes[0].set_yticks(range(len(lines)), labels)
    axes[0].invert_yaxis()
    return figure


def instability_curve(board: pd.DataFrame, order: Sequence[str]) -> Figure:
    """How much do maps move when the image is corrupted?

    1 - Spearman's rank correlation of clean and corrupted map, against severity; noise and blur
    apart. 0: nothing moves; 1: nothing is left. That of matched maps is that of the sharp ones.
    Bars are 95 % intervals over images and seeds.

    Args:
        board: Leaderboard of one data set and the suite attention, its groups those of
            `groups.by_severity`.
        order: All models, in the order of the legend.

    Raises:
        ValueError: Nothing was corrupted.
    """
    kept = board[board["metric"].str.fullmatch(r"instability_(used|sharp|gradcam_\d+x\d+)")]
    if kept.empty:
        raise ValueError("There are no corruptions to draw. Run `harness run --suite attention`.")
    named = kept["group"].str.partition("@")
    kept = kept.assign(
        panel=named[0], level=named[2].astype(float), kind=kept["metric"].str.partition("_")[2]
    )
    panels = list(dict.fromkeys(kept["panel"]))
    present = list(dict.fromkeys(kept["model"]))
    models = [m for m in order if m in present] + sorted(set(present) - set(order))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.9 * columns + 2.4, 2.5 * rows + 0.3), layout="constrained")
    axes: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    styles = {"used": "-", "sharp": ":"}
    grids = sorted({k for k in kept["kind"] if k not in styles}, key=side)
    styles |= dict(zip(grids, ("-", "--", "-.", ":"), strict=False))
    for axis, panel in zip(axes, panels, strict=False):
        here, place = kept[kept["panel"] == panel], 0
        for i, model in enumerate(models):
            of_model = here[here["model"] == model]
            for kind, part in of_model.groupby("kind", sort=False):
                place += 1  # curves stand a little apart, so that their bars do
                curve = part.sort_values("level")
                reach = np.stack(
                    [curve["value"] - curve["low"], curve["high"] - curve["value"]]
                ).astype(float)
                axis.errorbar(
                    curve["level"].to_numpy() + 0.06 * (place - 1),
                    curve["value"].to_numpy(),
                    yerr=np.nan_to_num(reach),
                    linestyle=styles.get(str(kind), ":"),
                    marker=MARKERS[i % len(MARKERS)],
                    markersize=4,
                    linewidth=1.3,
                    elinewidth=0.8,
                    color=COLORS[i % len(COLORS)],
                    label=f"{model}, {str(kind).replace('gradcam_', 'Grad-CAM ')}",
                )
        axis.set_title(panel.replace("_", " "), fontsize=9)
        axis.set_xticks(sorted(kept["level"].unique()))
        quiet(axis)
    axes[0].set_ylim(bottom=0)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel("instability of maps", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7.5)
    return figure


def overlay(axis: Any, image: Tensor, found: Tensor, low: float, top: float, cmap: str) -> Any:
    """Draw a map (H, W) over a gray image (3, h, w), uint8; the grid is the map's own."""
    gray = image.double().mean(dim=0).numpy()
    height, width = gray.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    values = found.double().numpy()
    style = {"cmap": cmap, "vmin": low, "vmax": top, "alpha": 0.66, "extent": extent}
    return axis.imshow(values, interpolation="nearest", **style)


def bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def overlays(
    images: Sequence[Tensor],
    titles: Sequence[str],
    maps: Mapping[str, Sequence[Tensor]],
    heading: str,
) -> Figure:
    """Where does the model look? A column an image, a row a map, the images on top.

    Maps are drawn in units of the uniform one: 1 is what every place would get. Rows of one grid
    share a scale, which ends at the 99.5th percentile of their values.

    Args:
        images: uint8 (3, h, w).
        titles: Of the columns.
        maps: By the name of the row, (H, W) for each image, each summing to one; a name with "less"
            in it is that of a difference, in colors around 0.
        heading: Of the whole.
    """
    count, rows = len(images), 1 + len(maps)
    figure = Figure(figsize=(0.95 * count + 1.9, 1.0 * rows + 0.75), layout="constrained")
    lines = textwrap.wrap(f"{heading}; 1 is a uniform map", int(17 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    axes: Any = figure.subplots(rows, count, squeeze=False)
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_title(title, fontsize=7.5)
        bare(axis)
    scales: dict[tuple, np.ndarray] = {}
    for name, found in maps.items():
        key = tuple(found[0].shape), "less" in name
        values = torch.cat([m.double().flatten() * m.numel() for m in found])
        scales[key] = np.append(scales.get(key, []), values[values.isfinite()].numpy())
    for axis_row, (name, found) in zip(axes[1:], maps.items(), strict=True):
        differs = "less" in name
        values = scales[tuple(found[0].shape), differs]
        top = float(np.quantile(np.abs(values), 0.995)) if len(values) else 1.0
        low = -top if differs else float(values.min()) if len(values) else 0.0
        for axis, image, one in zip(axis_row, images, found, strict=True):
            drawn = overlay(
                axis, image, one * one.numel(), low, top, DIVERGING if differs else CMAP
            )
            bare(axis)
        bar = figure.colorbar(drawn, ax=list(axis_row), shrink=0.85, pad=0.01, aspect=12)
        bar.ax.tick_params(labelsize=6)
        bar.locator = MaxNLocator(3)
        bar.update_ticks()
    for axis, name in zip(axes[:, 0], ["image", *maps], strict=True):
        axis.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return figure


def attention_of_image(
    picture: Tensor,
    maps: Mapping[str, AttentionMap],
    taus: Mapping[str, Tensor],
    heading: str,
    query: Query | None,
) -> Figure:
    """Draw the heads of each layer and their mean: sharp, used, and their differences."""
    columns: list[str] = []
    rows: dict[str, list[Tensor]] = {"sharp": [], "used": []}
    rows |= {"used less\nsharp": [], "used less\nmatched": []}
    for name, layer in maps.items():
        at = _token(query, layer)
        kinds = {}
        for kind, a in versions(layer, taus[name].to(layer.scores.device)).items():
            one = a[0].mean(dim=1) if at is None else a[0, :, at]
            one = torch.cat((one, one.mean(dim=0, keepdim=True))).cpu()
            kinds[kind] = one.view(-1, layer.height, layer.width)
        heads = layer.scores.shape[1]
        place = f"{name}, " if len(maps) > 1 else ""
        columns += [f"{place}head {h}" for h in range(heads)] + [f"{place}mean"]
        rows["sharp"] += list(kinds["sharp"])
        rows["used"] += list(kinds["used"])
        rows["used less\nsharp"] += list(kinds["used"] - kinds["sharp"])
        rows["used less\nmatched"] += list(kinds["used"] - kinds["matched"])
    return overlays([picture] * len(columns), columns, rows, heading)


def _token(query: Query | None, layer: AttentionMap) -> int | None:
    """The query's place among the tokens of a layer."""
    if query is None:
        return None
    h, w = query
    if not (0 <= h < layer.height and 0 <= w < layer.width):
        raise ValueError(
            f"The tokens are 0,0 to {layer.height - 1},{layer.width - 1}; got `--query {h},{w}`."
        )
    return h * layer.width + w
