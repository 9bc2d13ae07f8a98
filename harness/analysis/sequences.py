"""Intervals that hold although seeds were added after a look.

A study that is answered again and again, whenever a seed is added, gets many chances of a false
alarm. Here the level of a look at S seeds is divided by

    f(S) = SPENT sqrt(S / planned),

which was chosen by simulation so that all later looks together, at every number of seeds, keep 5 %.
"""

from dataclasses import replace

import numpy as np

from harness.analysis.intervals import quantile
from harness.analysis.pairs import Differences

SPENT = 2.0  # found by simulation, tests/test_bench_statistics.py


def always_valid(d: Differences, seeds: int, planned: int) -> Differences:
    """Return a difference with the interval and p value of a look at `seeds` seeds.

    Args:
        d: The difference of samples of `seeds` seeds.
        planned: Number of seeds that the study named before its first look; at this number and
            below it the difference stays as it is.
    """
    if seeds <= planned:
        return d
    shrunk = SPENT * (seeds / max(planned, 1)) ** 0.5
    wider = quantile(d.df, 1 - 0.025 / shrunk) / quantile(d.df)
    p = np.minimum(1.0, d.p * shrunk)
    return replace(d, below=d.below * wider, above=d.above * wider, p=p)
