"""Pictures of single images: every corruption at every severity."""

from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from harness.checkpoints import safe
from suites.base import Setting
from suites.corruptions import CORRUPTIONS
from suites.datasets import load
from suites.robustness import GROUPS, SEVERITIES, cells, chosen

INK = "#222222"
CELL_CM = 1.55


def corruption_sheet(
    pictures: dict[tuple[str, int], Tensor], original: Tensor, title: str
) -> Figure:
    """How does one image look under each corruption at each severity?

    Args:
        pictures: (name, severity) to uint8 (3, H, W), a row a name in the order given.
        original: uint8 (3, H, W).
        title: Of the image, such as "cifar10 test image 7: horse".
    """
    names = list(dict.fromkeys(name for name, _ in pictures))
    group_of = {k.__name__: group for group, kinds in GROUPS.items() for k in kinds}
    inch = CELL_CM / 2.54
    rows, columns = len(names), 1 + len(SEVERITIES)
    left, top = 2.3 * inch, 0.75 * inch
    width, height = left + columns * inch + 0.1, top + rows * inch + 0.1
    figure = Figure(figsize=(width, height), facecolor="white")

    def place(row: int, column: int, image: Tensor) -> None:
        axes = figure.add_axes(
            (
                (left + column * inch) / width,
                1 - (top + (row + 1) * inch) / height,
                0.94 * inch / width,
                0.94 * inch / height,
            )
        )
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_axis_off()

    heads = ["original", *(f"severity {s}" for s in SEVERITIES)]
    for column, head in enumerate(heads):
        x = (left + (column + 0.47) * inch) / width
        figure.text(x, 1 - 0.92 * top / height, head, ha="center", va="bottom", fontsize=7)
    figure.text(0.02, 1 - 0.28 * top / height, title, ha="left", va="center", fontsize=9)
    for row, name in enumerate(names):
        y = 1 - (top + (row + 0.47) * inch) / height
        figure.text(
            (left - 0.12 * inch) / width, y, name, ha="right", va="center", fontsize=7.5, color=INK
        )
        if row == 0 or group_of[names[row - 1]] != group_of[name]:
            edge = 1 - (top + row * inch - 0.02 * inch) / height
            line = matplotlib.lines.Line2D(
                (0.02, 0.99), (edge, edge), color="#bbbbbb", linewidth=0.6
            )
            figure.add_artist(line)
            figure.text(
                0.02,
                y + 0.36 * inch / height,
                group_of[name],
                fontsize=6.5,
                color="#777777",
                va="center",
            )
        place(row, 0, original)
        for column, severity in enumerate(SEVERITIES, start=1):
            place(row, column, pictures[name, severity])
    return figure


def draw_corruptions(
    results: Path, dataset: str, index: int, names: tuple[str, ...], constants: str, root: Path
) -> Path:
    """Write results/figures/corruptions-DATASET-INDEX.png.

    Args:
        index: Position of the image in the test set.
        names: Of corruptions or lists of them; empty for all 19.
        root: The data folder.

    Raises:
        LookupError: There is no such data set or corruption.
        ValueError: There is no such image.
    """
    split = load(dataset, train=False, root=root)
    if not 0 <= index < len(split):
        raise ValueError(f"`{dataset}` has test images 0..{len(split) - 1}; got `--index {index}`.")
    everything = names or tuple(kind.__name__ for kind in CORRUPTIONS)
    kinds = {kind.__name__: place for place, kind in enumerate(CORRUPTIONS)}
    ordered = sorted((kind.__name__ for kind in chosen(everything)), key=kinds.__getitem__)
    setting = Setting(split.image_size, len(split.classes), tuple(ordered), constants=constants)
    image, which = split.images[index : index + 1], torch.tensor([index])
    pictures = {
        (cell.condition, int(cell.level)): cell.prepare(image, which, setting.seed)[0]
        for cell in cells(setting)
        if cell.level
    }
    title = f"{dataset}, test image {index}: {split.classes[int(split.labels[index])]}"
    path = results / "figures" / f"corruptions-{safe(dataset)}-{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    corruption_sheet(pictures, image[0], title).savefig(path, dpi=200)
    return path
