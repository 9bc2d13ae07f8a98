"""Figures that need the images themselves, and what cells hold of each: overlays, histograms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from harness.plots.attention import overlays, side
from harness.plots.style import COLORS, quiet
from harness.storage.cells import CellStore
from harness.storage.results import cells_root, told
from harness.suites.datasets import Split
from harness.suites.nfe import margins

PER_SIDE = 6  # images shown of the cheapest and the dearest
CLASSES = 10  # columns of overlays at most
COST = "dopri5 0.001"  # the condition whose evaluations are shown


def stored(path: Path, results: Path, where: str) -> dict[str, Tensor] | None:
    """Return the arrays of a run's cell "CONDITION LEVEL", None where it is not stored.

    Args:
        path: CSV of the run.
    """
    key = told(path.with_suffix(".json")).get("cells", {}).get(where)
    found = None if key is None else CellStore(cells_root(results)).look(key)
    return None if found is None else found[0]


def one_of_each_class(labels: Tensor, count: int) -> list[int]:
    """Return the first row of each class, of at most `count` classes spread evenly."""
    classes = labels.unique().tolist()
    if len(classes) > count:
        classes = [classes[i * len(classes) // count] for i in range(count)]
    return [int((labels == c).nonzero()[0, 0]) for c in classes]


def class_overlays(arrays: Mapping[str, Tensor], split: Split, heading: str) -> Figure | None:
    """Draw mean maps over an image of each class: sharp, matched, used and their differences.

    Args:
        arrays: Of the clean cell of the suite attention.
        split: The test images.

    Returns:
        None where the cell holds no maps.
    """
    names = [name.removeprefix("map_") for name in arrays if name.startswith("map_")]
    names.sort(key=side, reverse=True)
    if not names:
        return None
    rows = one_of_each_class(arrays["labels"], CLASSES)
    positions = arrays["indices"][rows]
    found: dict[str, list[Tensor]] = {}
    for name in names:
        if name.startswith("used"):
            place = name.removeprefix("used")
            used, sharp, matched = (
                [arrays[f"map_{kind}{place}"][r] for r in rows]
                for kind in ("used", "sharp", "matched")
            )
            tail = f"\n{place[1:]}" if place else ""
            found[f"sharp{tail}"], found[f"used{tail}"] = sharp, used
            found[f"used less\nsharp{tail}"] = [u - s for u, s in zip(used, sharp, strict=True)]
            found[f"used less\nmatched{tail}"] = [u - s for u, s in zip(used, matched, strict=True)]
        elif name.startswith("gradcam"):  # the coarsest grid last
            cam = [arrays[f"map_{name}"][r] for r in rows]
            found[name.replace("gradcam_", "Grad-CAM\n")] = cam
    titles = [split.classes[int(split.labels[i])] for i in positions]
    return overlays([split.images[i] for i in positions], titles, found, heading)


def cost_histogram(arrays: Mapping[str, Tensor], split: Split, heading: str) -> Figure | None:
    """Do hard images take more evaluations? Histograms for the easier and the harder half.

    Easy and hard are above and below the median margin (the probability of the class less the
    largest other). Beside them the images with the fewest and with the most evaluations; among
    equals those of the largest and of the smallest margin.

    Args:
        arrays: Of an adaptive cell of the suite nfe.
        split: The test images.

    Returns:
        None where all images took the same.
    """
    nfe, labels = arrays["nfe"], arrays["labels"]
    if nfe.unique().numel() < 2:
        return None
    margin = margins(arrays["logits"].float(), labels)
    hard = margin.argsort().argsort() < len(margin) // 2
    figure = Figure(figsize=(8.6, 2.7), layout="constrained")
    figure.suptitle(heading, fontsize=9, x=0.01, ha="left")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    left, right = halves
    axis: Any = left.subplots()
    values = nfe.unique().tolist()
    step = min(b - a for a, b in zip(values, values[1:], strict=False))
    for i, (which, name) in enumerate(((~hard, "easier half"), (hard, "harder half"))):
        shares = [float((nfe[which] == v).double().mean()) for v in values]
        place = [v + (i - 0.5) * 0.38 * step for v in values]
        axis.bar(place, shares, width=0.36 * step, color=COLORS[i], label=name)
        mean = float(nfe[which].double().mean())
        axis.axvline(mean, color=COLORS[i], linewidth=1, linestyle="--")
    axis.set_xticks(values)
    axis.set_xlabel("function evaluations of an image", fontsize=8.5)
    axis.set_ylabel("share of images", fontsize=8.5)
    axis.legend(frameon=False, fontsize=8)
    quiet(axis, grid="")
    # Ascending in evaluations, and from easy to hard among equals.
    order = sorted(range(len(nfe)), key=lambda r: (int(nfe[r]), -float(margin[r])))
    axes: Any = right.subplots(2, PER_SIDE, squeeze=False)
    picked = (order[:PER_SIDE], order[::-1][:PER_SIDE])
    for line, rows, name in zip(axes, picked, ("fewest", "most"), strict=True):
        for axis, r in zip(line, rows, strict=False):
            at = int(arrays["indices"][r])
            axis.imshow(split.images[at].permute(1, 2, 0).numpy(), interpolation="nearest")
            label = split.classes[int(split.labels[at])]
            axis.set_title(f"{int(nfe[r])}: {label}", fontsize=6.5)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=8)
    return figure


def drawn(results: Path, runs: Sequence[Path], suite: str, split: Split) -> dict[str, Figure]:
    """Return the pictures of the first seed of each run's model, by the end of their file's name.

    Args:
        runs: CSVs of one data set and suite.
    """
    figures: dict[str, Figure] = {}
    for path in runs:
        beside = told(path.with_suffix(".json"))
        model, seed = beside.get("model", path.parent.name), beside.get("seed", 0)
        heading = f"{model}, seed {seed}, {beside.get('dataset', '')}"
        if f"-{path.parent.name}" in figures:
            continue
        if suite == "attention":
            arrays = stored(path, results, "clean 0")
            made = None if arrays is None else class_overlays(arrays, split, heading)
        else:
            arrays = stored(path, results, COST)
            made = (
                None
                if arrays is None
                else cost_histogram(
                    arrays, split, f"{heading}, {COST.replace(' ', ', tolerance ')}"
                )
            )
        if made is not None:
            figures[f"-{path.parent.name}"] = made
    return figures
