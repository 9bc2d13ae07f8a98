"""The mean of rank correlations over training seeds, its interval and its test.

The same n images stand behind every seed, so that their error does not fall with the number of
seeds: V = s^2 / S + v, with s^2 the variance between S seeds and, for Spearman's rho,

    v = (1 - rho^2)^2 (1 + rho^2 / 2) / (n - 3).

s^2 holds some of v already, which makes the interval wider rather than shorter. Degrees of freedom
are those of `intervals.spread`.

Reference: D. G. Bonett and T. A. Wright, Sample size requirements for estimating Pearson, Kendall
and Spearman correlations, Psychometrika 65, 2000 (v, carried over from Fisher's z).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from harness.analysis.intervals import quantile, spread


class Correlation(NamedTuple):
    """A mean rho in [-1, 1], its 95 % interval, and the two-sided p value of rho = 0."""

    value: float
    low: float
    high: float
    p: float


def mean_correlation(rho: ArrayLike, n: int) -> Correlation:
    """Return the mean of Spearman's rho over seeds.

    Args:
        rho: (S,), in [-1, 1].
        n: Images behind each.

    Raises:
        ValueError: There are no seeds, or fewer than four images.
    """
    values = np.asarray(rho, float)
    if values.size == 0 or n < 4:
        raise ValueError(
            f"A correlation needs a seed and four images; got {values.size} seeds and {n} images."
        )
    mean = float(values.mean())
    v_image = (1 - mean**2) ** 2 * (1 + mean**2 / 2) / (n - 3)
    v_seed = float(values.var(ddof=1)) / values.size if values.size > 1 else 0.0
    variance, df = spread((v_seed, values.size - 1), (v_image, math.inf))
    se = math.sqrt(float(variance))
    if se == 0:
        return Correlation(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(quantile(df)) * se
    p = float(2 * stdtr(df, -abs(mean) / se))
    return Correlation(mean, max(-1.0, mean - half), min(1.0, mean + half), p)
