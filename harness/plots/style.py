"""Colors and marks, the same in every figure."""

GRAY = "#777777"  # the baseline
# Okabe and Ito's palette, told apart by color-blind readers, in an order that does not change.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("s", "^", "D", "v", "P", "X", "*")
