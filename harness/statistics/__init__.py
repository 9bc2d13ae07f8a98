"""Frames and arrays in, frames and arrays out; no file is touched here."""

from harness.statistics.families import holm, rank_intervals
from harness.statistics.intervals import Z, crossed, interval, mover, quantile, spread, wilson
from harness.statistics.means import by_condition
from harness.statistics.pairs import (
    Differences,
    bonett_price,
    detectable,
    difference,
    images_needed,
    mcnemar,
    pairwise,
)
from harness.statistics.samples import Sample, from_outcomes, from_row, from_table
