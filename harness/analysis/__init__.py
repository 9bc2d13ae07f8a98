"""Frames and arrays in, frames and arrays out; no file is touched here."""

from harness.analysis.correlations import Correlation, mean_correlation
from harness.analysis.families import LEVEL, holm, rank_intervals
from harness.analysis.intervals import (
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
from harness.analysis.means import by_condition
from harness.analysis.pairs import (
    POWER,
    Differences,
    bonett_price,
    detectable,
    difference,
    images_needed,
    mcnemar,
    pairwise,
)
from harness.analysis.sample import RATE, Sample, from_outcomes, from_row, from_table
