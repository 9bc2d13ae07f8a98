"""Colors, marks and axes, the same in every figure."""

from typing import Any, Literal

GRAY = "#777777"  # the baseline
# Okabe and Ito's palette, told apart by color-blind readers, in an order that does not change.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("s", "^", "D", "v", "P", "X", "*")


def quiet(axis: Any, grid: Literal["both", "x", "y", ""] = "both", size: float = 8) -> None:
    """Draw an axis so that the data stand out: a faint grid, small ticks, no frame above."""
    if grid:
        axis.grid(axis=grid, alpha=0.25, linewidth=0.5)
    axis.tick_params(labelsize=size)
    axis.spines[["top", "right"]].set_visible(False)
