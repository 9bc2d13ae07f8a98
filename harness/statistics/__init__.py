"""Frames and arrays in, frames and arrays out; no file is touched here."""

from harness.statistics.correlations import Correlation, mean_correlation
from harness.statistics.families import LEVEL, holm, rank_intervals
from harness.statistics.intervals import (
    Z,
    crossed,
    interval,
    lopsided,
    mover,
    quantile,
    shape_of,
    spread,
    wilson,
)
from harness.statistics.means import by_condition
from harness.statistics.pairs import (
    POWER,
    Differences,
    bonett_price,
    detectable,
    difference,
    images_needed,
    mcnemar,
    pairwise,
)
from harness.statistics.samples import RATE, Sample, from_outcomes, from_row, from_table
