"""Pictures of single images: every corruption at every severity."""

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from harness.suites.robustness import GROUPS, SEVERITIES

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
