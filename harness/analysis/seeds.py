"""What training seeds add to the variances of the differences of many samples at once.

Networks of the same seed are pairs where both samples keep their outcomes: V_seed is then that of
the seeds' differences, with S - 1 degrees of freedom. Others are independent, and their V_seed add.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.sample import Sample


class SeedParts(NamedTuple):
    """What seeds add to the variances of differences: `first` and `second`, independent of another.

    Args:
        rest: Part of them that is neither due to seed nor to image.
        equal: Whether all outcomes are equal, seed by seed.
    """

    first: np.ndarray
    second: np.ndarray
    rest: np.ndarray
    equal: np.ndarray


def seeds_of_pairs(samples: Sequence[Sample], same_seeds: bool) -> SeedParts:
    """Return the parts of all pairs (M, M) on the same images, paired by seed where they can be.

    Args:
        same_seeds: Pair by seed where seeds have no names.
    """
    seeds, v_seed, v_rest = (
        np.array([getattr(s, k) for s in samples]) for k in ("seeds", "v_seed", "v_rest")
    )
    shape = len(samples), len(samples)
    first, second = np.broadcast_to(v_seed[:, None], shape).copy(), np.tile(v_seed, (shape[0], 1))
    rest, equal = v_rest[:, None] + v_rest, (seeds[:, None] == 1) & (seeds == 1)
    named = defaultdict(list)
    for i, s in enumerate(samples):
        if s.seeds > 1 and s.outcomes is not None and (s.seed_names or same_seeds):
            named[s.seed_names, s.seeds].append(i)
    for which in named.values():
        if len(which) > 1:
            at = np.ix_(which, which)
            first[at], rest[at], equal[at] = _paired_by_seed(
                np.stack([np.asarray(samples[i].outcomes, float) for i in which])
            )
            second[at] = 0.0
    return SeedParts(first, second, rest, equal)


def _paired_by_seed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V_seed and V_rest of the differences of all pairs of `x` (M, S, n), and which are nothing.

    They are `variance_parts` of x_i - x_j, from the products of all x and of their margins.
    """
    _, seeds, n = x.shape
    of_seed, squares = x.mean(axis=2), _squares(x.reshape(len(x), -1))
    gap = of_seed[:, None] - of_seed
    rest = squares - n * np.square(gap).sum(axis=2) - seeds * _squares(x.mean(axis=1))
    rest += seeds * n * gap.mean(axis=2) ** 2
    v_rest = np.maximum(0.0, rest) / ((seeds - 1) * max(n - 1, 1)) / (seeds * n)
    equal = squares <= 1e-9 * max(1.0, float(squares.max()))
    for i, j in np.argwhere(equal):
        equal[i, j] = np.array_equal(x[i], x[j])
    return gap.var(axis=2, ddof=1) / seeds, v_rest, equal


def _squares(x: np.ndarray) -> np.ndarray:
    """Sums of squares of the differences of all pairs of rows of `x`."""
    products = x @ x.T
    own = np.diag(products)
    return np.maximum(0.0, own[:, None] + own - 2 * products)
