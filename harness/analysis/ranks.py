"""Goodman and Kruskal's gamma: a rank statistic that ties do not bound.

Of the pairs of images that differ in both, gamma is the share in the same order less the share in
the opposite one:

    gamma = (C - D) / (C + D).

Spearman's rho cannot reach 1 where images tie; gamma can, at any number of ties. An image's own
pairs give its influence on gamma, 2 (C_i (1 - gamma) - D_i (1 + gamma)) / (C + D) with C and D
counted over ordered pairs, so that gamma with its images is a mean over S x n values like any other
(see `intervals`).

Reference: L. A. Goodman, W. H. Kruskal, Measures of association for cross classifications III:
approximate sampling theory, JASA 58(302), 1963.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.intervals import quantile, shape_of, spread, variance_parts, wilson
from harness.analysis.tails import p_value
from harness.suites.ranks import gamma_by_image


class Gamma(NamedTuple):
    """A mean gamma over seeds.

    Args:
        value: In [-1, 1]; `low` to `high` its 95 % interval.
        p: Two-sided p value of gamma = 0.
        tie: Largest share of images with equal evaluations, over seeds.
        seeds: Number of seeds in which evaluations and difficulty vary, and `n` of images.
        df: Degrees of freedom of its t, inf where it is normal.
        share: Share of its variance that is due to seeds; see `tails`.
    """

    value: float
    low: float
    high: float
    p: float
    tie: float
    seeds: int
    n: int
    df: float
    share: float = 0.0


def goodman_kruskal(evaluations: ArrayLike, difficulty: ArrayLike) -> Gamma:
    """Return gamma over images, averaged over seeds; NaNs where nothing varies.

    Args:
        evaluations: (S, n), or (n,) of one seed.
        difficulty: (S, n), or (n,) for all seeds.
    """
    e = np.atleast_2d(np.asarray(evaluations, float))
    d = np.broadcast_to(np.asarray(difficulty, float), e.shape)
    n = e.shape[1]
    tie = max(float(np.unique(row, return_counts=True)[1].max()) / n for row in e)
    values = [v for v in map(gamma_by_image, e, d) if v is not None]
    if not values:
        return Gamma(*(math.nan,) * 4, tie, 0, n, math.nan)
    stack = np.stack(values)
    v_seed, v_image, _ = variance_parts(stack)
    mean = float(stack.mean())
    known = tie, len(stack), n
    # As many images say something of gamma as are not in the largest tie.
    telling = max(2.0, n * (1 - tie))
    if v_seed + v_image == 0 or abs(mean) >= 1:
        return _certain(mean, telling, known)
    freedom = min(float(shape_of(stack.mean(axis=0))[1]), telling - 1)
    v, df = spread((v_seed, len(stack) - 1), (v_image * telling / (telling - 1), freedom))
    # Fisher's transformation keeps the interval inside [-1, 1].
    center, se = math.atanh(mean), math.sqrt(float(v)) / (1 - mean**2)
    half = float(quantile(df)) * se
    low, high = math.tanh(center - half), math.tanh(center + half)
    share = v_seed / float(v)
    p = p_value(center / se, df, share, len(stack) - 1)
    return Gamma(mean, low, high, float(p), *known, float(df), share)


def _certain(mean: float, telling: float, known: tuple[float, int, int]) -> Gamma:
    """A gamma of -1 or 1 in every seed, or without variance: as many coins fell the same way."""
    reach = 2 * (1 - wilson(telling, telling)[0])
    low, high = max(-1.0, mean - reach), min(1.0, mean + reach)
    return Gamma(mean, low, high, min(1.0, 2 * 0.5 ** (telling * abs(mean))), *known, math.inf)
