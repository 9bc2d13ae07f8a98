"""Intervals that hold although seeds were added after a look.

A study that is answered again and again, whenever a seed is added, gets many chances of a false
alarm. Here the level of a look at S seeds is divided by

    f(S) = SPENT S / planned,

which was chosen by simulation so that all looks after the planned one together, at every number of
seeds up to six times as many, keep 5 % (1 to 5; without it 11 to 24). The planned look, which has
5 % of its own, and all later ones together have 3 to 8 %. The price: intervals are 1.4 to 1.7 times
as wide.
"""

from dataclasses import replace

import numpy as np

from harness.analysis.intervals import quantile
from harness.analysis.pairs import Differences
from harness.analysis.tails import critical

SPENT = 3.0  # found by simulation, tests/test_bench_statistics.py


def always_valid(d: Differences, seeds: int, planned: int) -> Differences:
    """Return a difference with the interval and p value of a look at `seeds` seeds.

    Args:
        d: The difference of samples of `seeds` seeds.
        planned: Number of seeds that the study named before its first look; at this number and
            below it the difference stays as it is.
    """
    if seeds <= planned:
        return d
    shrunk = SPENT * seeds / max(planned, 1)
    wider = critical(0.05 / shrunk, d.df, d.share, d.freedom) / quantile(d.df)
    p = np.minimum(1.0, d.p * shrunk)
    return replace(d, below=d.below * wider, above=d.above * wider, p=p)
