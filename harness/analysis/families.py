"""Families of comparisons, many at once: adjusted p values, and ranks that are sets.

Reference: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
Statistics 6(2), 1979.
"""

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.05  # chance that a family without any difference shows one


def holm(p: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p values, of any shape; the array is the family.

    Sorted ascending, adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)). A comparison
    that cannot be made (NaN) is one that shows nothing: 1.
    """
    given = np.asarray(p, float)
    flat = np.nan_to_num(given.ravel(), nan=1.0)
    order = np.argsort(flat, kind="stable")
    stepped = np.minimum(1.0, flat[order] * np.arange(len(flat), 0, -1))
    adjusted = np.empty_like(flat)
    adjusted[order] = np.maximum.accumulate(stepped) if len(flat) else stepped
    return adjusted.reshape(given.shape)


def rank_intervals(difference: ArrayLike, p: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return (lowest, highest) rank of each of M models, 1 the best.

    The lowest is 1 + the number of models significantly better, the highest is M - the number
    significantly worse, all pairs being one family at 5 % after Holm.

    Args:
        difference: (M, M) antisymmetric; positive where the row's model is better.
        p: (M, M) symmetric, of the pairs; the diagonal does not count.
    """
    difference, p = np.asarray(difference, float), np.asarray(p, float)
    m = len(p)
    upper = np.triu_indices(m, 1)
    significant = np.zeros((m, m), bool)
    significant[upper] = holm(p[upper]) <= LEVEL
    significant |= significant.T
    with np.errstate(invalid="ignore"):
        better, worse = significant & (difference > 0), significant & (difference < 0)
    return 1 + worse.sum(axis=1), m - better.sum(axis=1)
