"""Statistics of order: whether images that are hard cost more, and medians with intervals.

Of the pairs of images that differ in both, Goodman and Kruskal's gamma is the share in the same
order less the share in the opposite one,

    gamma = (C - D) / (C + D),

so that it can be 1 however many images have equal evaluations; Spearman's rho cannot. The AUROC of
evaluations for errors is the share of (wrong, right) pairs of images in which the wrong one costs
more, ties counting half.

Both are given image by image, as values whose mean is the statistic and whose variance over N is
its own (an image's influence, from all pairs that it is in): for gamma

    gamma + 2 N (C_i (1 - gamma) - D_i (1 + gamma)) / sum_j (C_j + D_j).

Reference: L. A. Goodman, W. H. Kruskal, Measures of association for cross classifications III:
approximate sampling theory, JASA 58(302), 1963; E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson,
Comparing the areas under two or more correlated ROC curves, Biometrics 44, 1988.
"""

import math

import numpy as np
from scipy.special import bdtr, stdtrit

HALF_95 = 1.959963984540054


def gamma_by_image(evaluations: np.ndarray, difficulty: np.ndarray) -> np.ndarray | None:
    """Return (n,) values whose mean is gamma; None where no pair differs in both."""
    e, d = np.asarray(evaluations, float), np.asarray(difficulty, float)
    concordant = _count_lower(e, d) + _count_lower(-e, -d)
    discordant = _count_lower(-e, d) + _count_lower(e, -d)
    total = float((concordant + discordant).sum())
    if total == 0:
        return None
    gamma = float((concordant - discordant).sum()) / total
    return gamma + 2 * len(e) * (concordant * (1 - gamma) - discordant * (1 + gamma)) / total


def auroc_by_image(evaluations: np.ndarray, wrong: np.ndarray) -> np.ndarray | None:
    """Return (n,) values whose mean is the AUROC of evaluations for `wrong` (n,), booleans.

    None where evaluations do not vary, or all images are right or all wrong.
    """
    e, n = np.asarray(evaluations, float), len(wrong)
    above, below = e[wrong], e[~wrong]
    if not (len(above) and len(below)) or e.min() == e.max():
        return None
    of_wrong = _share_lower(above, below)
    of_right = 1 - _share_lower(below, above)
    auroc = float(of_wrong.mean())
    found = np.empty(n)
    found[wrong] = n / len(above) * (of_wrong - auroc)
    found[~wrong] = n / len(below) * (of_right - auroc)
    return auroc + found


def interval(values: np.ndarray, telling: float) -> tuple[float, float, float]:
    """Return the mean of values (n,) with its 95 % interval, by Fisher's transformation in [-1, 1].

    Args:
        telling: Number of images that say something: of n those that are not in the largest tie.
            Where all say the same, the interval is that of as many coins that fell alike.
    """
    mean, telling = float(values.mean()), max(2.0, telling)
    se = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    if se == 0 or abs(mean) >= 1 - 1e-12:
        reach = 2 * HALF_95**2 / (telling + HALF_95**2)  # Wilson's
        return mean, max(-1.0, mean - reach), min(1.0, mean + reach)
    se *= math.sqrt(telling / (telling - 1))
    half = float(stdtrit(telling - 1, 0.975)) * se / (1 - mean**2)
    return mean, math.tanh(math.atanh(mean) - half), math.tanh(math.atanh(mean) + half)


def largest_tie(evaluations: np.ndarray) -> float:
    """Return the largest share of images with equal evaluations (n,)."""
    return float(np.unique(evaluations, return_counts=True)[1].max()) / len(evaluations)


def _share_lower(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which share of the others each is above, equals counting half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, own) + np.searchsorted(ordered, own, side="right")
    return twice / (2 * len(others))


def _count_lower(e: np.ndarray, d: np.ndarray) -> np.ndarray:
    """How many images are lower than each in both, (n,)."""
    rank = np.unique(e, return_inverse=True)[1]
    order = np.lexsort((-rank, d))  # of equal difficulty, the lower evaluations come later
    ranks, counts = rank[order], np.zeros(len(e), np.int64)
    for bit in range(int(ranks.max()).bit_length()):
        # Images with the same higher bits, in their order: those with a 0 before one with a 1.
        group = ranks >> (bit + 1)
        by_group = np.argsort(group, kind="stable")
        ones = (ranks[by_group] >> bit) & 1
        zeros = np.concatenate(([0], np.cumsum(1 - ones)))
        start = np.searchsorted(group[by_group], group[by_group])
        counts[by_group] += ones * (zeros[:-1] - zeros[start])
    found = np.empty_like(counts)
    found[order] = counts
    return found


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median of numbers (N,), of which some may be infinite, and its 95 % interval.

    The interval is between order statistics k and N + 1 - k, k the largest number with
    P(Binomial(N, 1/2) < k) <= 2.5 %; it holds whatever their distribution. Where N < 6 there is
    none, and its ends are the smallest and the largest.
    """
    ordered, n = np.sort(values), len(values)
    k = max(1, int((bdtr(np.arange(n), n, 0.5) <= 0.025).sum()))
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return float(middle), float(ordered[k - 1]), float(ordered[n - k])
