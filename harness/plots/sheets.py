"""Pictures of single images: every corruption at every severity."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from harness.plots.style import styled
from harness.suites.catalog import FAMILIES, SEVERITIES

CELL = 0.61  # inches


@styled
def corruption_sheet(
    pictures: Mapping[tuple[str, int], ArrayLike], original: ArrayLike, title: str
) -> Figure:
    """How does one image look under each corruption at each severity?

    Args:
        pictures: (name, severity) to uint8 (3, H, W), a row a name in the order given.
        original: uint8 (3, H, W).
        title: Of the image, such as "cifar10 test image 7: horse".
    """
    names = list(dict.fromkeys(name for name, _ in pictures))
    known = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}
    families = [known.get(name, "") for name in names]
    left, top = 1.4, 0.45
    width, height = left + (1 + len(SEVERITIES)) * CELL + 0.1, top + len(names) * CELL + 0.1
    figure = Figure((width, height), facecolor="white")

    def place(row: int, column: int, image: ArrayLike) -> None:
        x, y = left + column * CELL, height - top - (row + 1) * CELL
        side = 0.94 * CELL
        axes = figure.add_axes((x / width, y / height, side / width, side / height))
        axes.imshow(np.moveaxis(np.asarray(image), 0, -1), interpolation="nearest")
        axes.set_axis_off()

    heads = ["original", *(f"severity {s}" for s in SEVERITIES)]
    for column, head in enumerate(heads):
        x = (left + (column + 0.47) * CELL) / width
        figure.text(x, 1 - 0.9 * top / height, head, ha="center", va="bottom")
    figure.suptitle(title, x=0.02, y=1 - 0.12 / height, ha="left", va="center")
    for row, name in enumerate(names):
        y = 1 - (top + (row + 0.47) * CELL) / height
        figure.text((left - 0.08) / width, y, name.replace("_", " "), ha="right", va="center")
        if row == 0 or families[row - 1] != families[row]:
            edge = 1 - (top + (row - 0.02) * CELL) / height
            figure.add_artist(Line2D((0.02, 0.99), (edge, edge), color="#bbbbbb", linewidth=0.6))
            figure.text(
                0.02, y + 0.36 * CELL / height, families[row], fontsize=6, color="#777777",
                va="center",
            )  # fmt: skip
        place(row, 0, original)
        for column, severity in enumerate(SEVERITIES, start=1):
            place(row, column, pictures[name, severity])
    figure.set_label(f"{title}: a row for each corruption, a column for each severity.")
    return figure
