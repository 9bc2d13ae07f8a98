"""Figures that need the images themselves, and what cells hold of each: overlays, histograms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from harness.plots.attention import in_reading_order
from harness.plots.maps import LESS, draw_image, hide_frame, overlays
from harness.plots.style import PAGE, Size, styled
from harness.storage.cells import CellStore
from harness.storage.results import cells_root, csv_path, read_provenance
from harness.suites.base import Arrays
from harness.suites.datasets import Split, load
from harness.suites.metric import parts_of, variant
from harness.suites.nfe import margins

PER_SIDE = 6  # images shown of the cheapest and the dearest
CLASSES = 10  # columns of overlays at most
COST = "dopri5 0.001"  # the condition whose evaluations are shown
HALVES = {"easier half": "#bdbdbd", "harder half": "#525252"}
MAP = "map:"  # begins the names of arrays that hold maps


def read_cell(path: Path, results: Path, where: str) -> Arrays | None:
    """Return the arrays of a run's cell "CONDITION LEVEL", None where it is not stored.

    Args:
        path: CSV of the run.
    """
    key = read_provenance(path.with_suffix(".json")).get("cells", {}).get(where)
    found = None if key is None else CellStore(cells_root(results)).look(key)
    return None if found is None else found[0]


def one_of_each_class(labels: np.ndarray, count: int) -> list[int]:
    """Return the first row of each class, of at most `count` classes spread evenly."""
    classes = np.unique(labels).tolist()
    if len(classes) > count:
        classes = [classes[i * len(classes) // count] for i in range(count)]
    return [int(np.flatnonzero(labels == c)[0]) for c in classes]


def class_overlays(
    arrays: Arrays, split: Split, heading: str, size: Size | None = None
) -> Figure | None:
    """Draw mean maps over an image of each class: sharp, used and their differences.

    Args:
        arrays: Clean cell of the suite attention.
        split: The test images.

    Returns:
        None where the cell holds no maps.
    """
    names = in_reading_order(name.removeprefix(MAP) for name in arrays if name.startswith(MAP))
    rows = one_of_each_class(arrays["labels"], CLASSES)
    maps = {name: [arrays[MAP + name][r] for r in rows] for name in names}
    found: dict[str, list[np.ndarray]] = {}
    for name, used in maps.items():
        first, *layer = parts_of(name)
        tail = "".join(f"\n{part}" for part in layer)
        if first == "used":
            sharp, matched = (maps[variant(kind, *layer)] for kind in ("sharp", "matched"))
            found[f"sharp{tail}"], found[f"used{tail}"] = sharp, used
            found[f"{LESS}sharp{tail}"] = [u - s for u, s in zip(used, sharp, strict=True)]
            found[f"{LESS}matched{tail}"] = [u - s for u, s in zip(used, matched, strict=True)]
        elif first.startswith("gradcam"):
            found[name.replace("gradcam ", "Grad-CAM\n")] = used
    if not found:
        return None
    positions = arrays["indices"][rows]
    titles = [split.classes[int(split.labels[i])] for i in positions]
    return overlays([split.images[i].numpy() for i in positions], titles, found, heading, size)


def cost_histogram(
    arrays: Arrays, split: Split, heading: str, size: Size | None = None
) -> Figure | None:
    """Return `cost_figure`; None where all images took the same number of evaluations."""
    costs = np.unique(arrays["nfe"])
    return cost_figure(arrays, split, heading, size) if len(costs) > 1 else None


@styled
def cost_figure(arrays: Arrays, split: Split, heading: str, size: Size | None) -> Figure:
    """Do hard images take more evaluations? Histograms for the easier and the harder half.

    Easy and hard are above and below the median margin (the probability of the class less the
    largest other). Beside them the images with the fewest and with the most evaluations; among
    equals those of the largest and of the smallest margin.

    Args:
        arrays: An adaptive cell of the suite nfe.
        split: The test images.
    """
    nfe, indices = arrays["nfe"], arrays["indices"]
    logits, labels = (torch.from_numpy(arrays[name]) for name in ("logits", "labels"))
    margin = margins(logits, labels).numpy()
    width, height = size or (PAGE, None)
    wide = width > PAGE / 2
    figure = Figure((width, height or (2.3 if wide else 4.2)), layout="constrained")
    figure.suptitle(heading, fontsize=7, x=0.01, ha="left")
    parts: Any = figure.subfigures(*((1, 2) if wide else (2, 1)))
    left, right = parts
    draw_shares(left.subplots(), nfe, margin)
    # Ascending in evaluations, and from easy to hard among equals.
    order = np.lexsort((-margin, nfe))
    axes: Any = right.subplots(2, PER_SIDE, squeeze=False)
    for line, rows, name in zip(
        axes, (order[:PER_SIDE], order[::-1][:PER_SIDE]), ("fewest", "most"), strict=True
    ):
        for axis in line:
            hide_frame(axis)
        for axis, r in zip(line, rows, strict=False):
            at = int(indices[r])
            label = split.classes[int(split.labels[at])]
            draw_image(axis, split.images[at].numpy(), f"{int(nfe[r])}: {label}")
        line[0].set_ylabel(name)
    figure.set_label(f"Function evaluations of easier and harder images: {heading}.")
    return figure


def draw_shares(axis: Any, nfe: np.ndarray, margin: np.ndarray) -> None:
    """Draw how many images of either half took how many evaluations."""
    hard = margin.argsort().argsort() < len(margin) // 2
    values = np.unique(nfe)
    step = float(np.diff(values).min())
    for i, (name, color) in enumerate(HALVES.items()):
        here = nfe[hard == (name == "harder half")]
        shares = [float((here == v).mean()) for v in values]
        axis.bar(values + (i - 0.5) * 0.38 * step, shares, 0.36 * step, color=color, label=name)
        axis.axvline(float(here.mean()), color=color, linewidth=1, linestyle="--")
    axis.set_xlabel("function evaluations of an image; dashed: mean")
    axis.set_ylabel("share of images")
    axis.set_xticks(values[:: -(-len(values) // 10)])
    axis.legend()


def picture_figures(
    results: Path, dataset: str, suite: str, runs: Mapping[str, int], data: Path,
    size: Size | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Return the pictures of one run of each model; none where the test images are not there.

    Args:
        runs: A seed of each model.
    """
    try:
        split = load(dataset, train=False, root=data)
    except (LookupError, FileNotFoundError, ValueError):
        return {}
    figures: dict[str, Figure] = {}
    for model, seed in runs.items():
        path, heading = csv_path(results, dataset, suite, model, seed), f"{model}, seed {seed}"
        where = "clean 0" if suite == "attention" else COST
        arrays = read_cell(path, results, where)
        if arrays is None:
            continue
        if suite == "attention":
            made = class_overlays(arrays, split, f"{heading}, {dataset}", size)
        else:
            named = f"{heading}, {dataset}, {COST.replace(' ', ', tolerance ')}"
            made = cost_histogram(arrays, split, named, size)
        if made is not None:
            figures[f"-{path.parent.name}"] = made
    return figures
