"""p values that are small enough for families of comparisons, from few seeds.

Satterthwaite's degrees of freedom are right at 5 % (see `intervals`), and wrong below it: with two
seeds p <= 0.8 % comes three times as often as it should, p <= 0.2 % nine times, and Holm's
procedure goes by such values. Below 5 % p is therefore that of Behrens and Fisher,

    P(|sqrt(v) t + sqrt(1 - v) Z| > z),

with v the seeds' share of the variance, t Student's of their degrees of freedom and Z normal. It is
at most what it says at every level and share.

Reference: R. A. Fisher, The fiducial argument in statistical inference, Annals of Eugenics 6, 1935;
G. K. Robinson, Properties of Student's t and of the Behrens-Fisher solution to the two means
problem, Annals of Statistics 4(5), 1976.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, ndtr, stdtr

from harness.analysis.intervals import quantile

EDGE = 0.05 * (1 - 1e-9)  # just below 5 %
# Nodes of the chi-square distribution, close where it is small.
_NODES = (np.arange(48) + 0.5) / 48
_WEIGHTS = _NODES**3 / (_NODES**3).sum()


def p_value(z: ArrayLike, df: ArrayLike, share: ArrayLike, freedom: ArrayLike) -> np.ndarray:
    """Return the two-sided p values of differences that are `z` standard errors large.

    Args:
        df: Degrees of freedom of the whole.
        share: Share of the variance that is due to seeds, and `freedom` its degrees of freedom.
    """
    z, df, share, freedom = np.broadcast_arrays(*(np.asarray(x) for x in (z, df, share, freedom)))
    p = np.asarray(2 * stdtr(df, -np.abs(z)))
    small = (p < EDGE) & (share > 0) & (freedom < 1e6)
    if small.any():
        # chdtri is slow; down to a quarter of a degree is cautious.
        values, where = np.unique(np.floor(4 * freedom[small]) / 4, return_inverse=True)
        ratio = (values[:, None] / chdtri(values[:, None], 1 - _NODES**4))[where]
        own = share[small][:, None]
        both = 2 * ndtr(-np.abs(z[small])[:, None] / np.sqrt(own * ratio + 1 - own)) @ _WEIGHTS
        p[small] = np.clip(both, p[small], EDGE)
    return p


def critical(p: float, df: ArrayLike, share: ArrayLike, freedom: ArrayLike) -> np.ndarray:
    """Return the z at which `p_value` is `p`, at most 5 %."""
    low = quantile(df, 1 - p / 2)
    high = low * 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        beyond = p_value(middle, df, share, freedom) <= p
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return high
