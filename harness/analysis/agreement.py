"""Do two networks find the same conditions hard? Spearman's rank correlation over cells.

Severities of one kind of corruption are alike, so that 75 cells are worth far fewer: the 95 %
interval resamples whole kinds (a cluster bootstrap, percentiles of 4,000 draws), with a fixed seed.

Reference: C. Spearman, The Proof and Measurement of Association between Two Things, American
Journal of Psychology 15(1), 1904; A. C. Davison and D. V. Hinkley, Bootstrap Methods and their
Application, Cambridge University Press, 1997, section 3.8.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

DRAWS = 4000
LEAST = 5  # kinds that an interval needs


class Agreement(NamedTuple):
    """A rank correlation in [-1, 1] and its 95 % interval, NaN where there is none."""

    rho: float
    low: float
    high: float


def rank_agreement(a: np.ndarray, b: np.ndarray, kinds: Sequence[str]) -> Agreement:
    """Return the rank correlation of two networks' numbers over cells.

    Args:
        a: (cells,) numbers of one; `b` of the other.
        kinds: What each cell is of, such as "fog"; cells of one kind are drawn together.
    """
    names = list(dict.fromkeys(kinds))
    rho = _spearman(a, b)
    if len(names) < LEAST or math.isnan(rho):
        return Agreement(rho, math.nan, math.nan)
    members = [np.flatnonzero([kind == name for kind in kinds]) for name in names]
    random = np.random.default_rng(0)
    found = []
    for draw in random.integers(0, len(names), (DRAWS, len(names))):
        cells = np.concatenate([members[k] for k in draw])
        found.append(_spearman(a[cells], b[cells]))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Agreement(rho, float(low), float(high))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the ranks, ties with their mean rank; NaN where one is constant."""
    ranks = [pd.Series(x).rank().to_numpy() - (len(x) + 1) / 2 for x in (a, b)]
    size = math.sqrt(float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / size if size else math.nan
