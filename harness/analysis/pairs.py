"""Difference of two models' means: its interval, its test, and the detectable difference.

Models see the same images, so images are paired wherever per-image outcomes are stored: what
varies is the image's difference of outcomes, mostly zero. Networks of one seed share the order of
the training images, their crops and flips, and the initial values of the parameters that both have:
where outcomes are kept by seed, and the seeds are the same, they are pairs as well, at every number
of seeds. This was chosen by simulation (tests/test_bench_statistics.py), for 2 to 10 seeds that
share 0 to 90 % of their variance, of equal and of unequal variances. Both ways cover the truth, and
pairs find more from 30 % on: with three seeds, 60 % shared and twice the images' standard error, 57
against 39 % of differences, with ten 85 against 63. Where nothing is shared they find less, since
fewer degrees of freedom are left: 50 against 62 % with three seeds, 84 against 87 with ten; and
where one model varies much more than the other, so that little cancels, as many from three seeds
on. An additive model of all networks of a study has more of them, but covers a pair whose variances
are above the average at 81 to 86 %.

- One network each: the interval is Bonett and Price's, which adds one image to either side; for a
  mean over cells those two images have the size of a typical difference, and the skewness of the
  differences makes it lopsided. The plain interval covers 89 % at 360 images. One cell is tested by
  McNemar's exact test.
- Several seeds: the estimate -+ t sqrt(V), V = V_seed + V_image. V_seed is that of the seeds'
  differences where they are pairs, else V_seed(a) + V_seed(b); see `intervals`.
- Outcomes that are not stored: the two intervals are combined as if the images were different ones,
  which is wider.

Every comparison has its minimum detectable difference: what would be found at 5 % with power 80 %.

Reference: D. G. Bonett and R. M. Price, Adjusted Wald confidence interval for a difference of
binomial proportions based on paired data, Journal of Educational and Behavioral Statistics 37(4),
2012; Q. McNemar, Note on the sampling error of the difference between correlated proportions or
percentages, Psychometrika 12(2), 1947.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri, stdtr

from harness.analysis.intervals import (
    Bounds,
    Z,
    moments,
    mover,
    quantile,
    shape_of,
    skew_factors,
    spread,
)
from harness.analysis.sample import RATE, Sample
from harness.analysis.seeds import SeedParts, seeds_of_pairs
from harness.analysis.tails import p_value

POWER = 0.8
ROUNDED = 1e-6  # a leaderboard has six decimals


def mcnemar(b: ArrayLike, c: ArrayLike, *, mid: bool = False) -> np.ndarray:
    """Return the exact p value, two-sided, of b against c discordant images.

    min(1, 2 P(Bin(b + c, 1/2) <= min(b, c))); 1 if there are none.

    Args:
        mid: Take half of the probability of the outcome itself away, which is less cautious.
    """
    b, c = np.asarray(b, int), np.asarray(c, int)
    least, total = np.minimum(b, c), b + c
    p = np.minimum(1, 2 * bdtr(least, total, 0.5))
    if mid:
        before = np.where(least > 0, bdtr(np.maximum(least - 1, 0), total, 0.5), 0)
        p = np.minimum(1, bdtr(least, total, 0.5) + before)
    return np.where(total > 0, p, 1.0)


def bonett_price(b: float, c: float, n: int) -> Bounds:
    """Return the interval of (b - c) / n, the difference of two rates on the same n images."""
    p1, p2 = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = Z * math.sqrt((p1 + p2 - (p1 - p2) ** 2) / (n + 2))
    return p1 - p2 - half, p1 - p2 + half


def detectable(psi: float, n: int) -> float:
    """Return (1.960 + 0.842) sqrt(psi / n): the difference found at 5 % with power 80 %.

    Args:
        psi: Share of discordant images; for a mean over cells the variance of the differences.
    """
    return float((Z + ndtri(POWER)) * math.sqrt(psi / n))


@dataclass(frozen=True)
class Differences:
    """Differences of means, arrays of one shape (or floats), row minus column.

    Args:
        value: The difference; `low`, `high` its 95 % interval.
        p: Two-sided p value.
        center: Middle of the interval's distribution, `below` and `above` its standard errors to
            either side, `df` its degrees of freedom.
        paired: Whether images were compared one by one.
        identical: Whether all outcomes are known to be the same.
        b: Images on which only the first is right; `c`: only the second. NaN where an outcome is a
            mean of several, or unknown.
        psi: Variance of the images' differences; NaN where unknown.
        share: Share of the variance that is known to be due to seeds, and `freedom` its degrees of
            freedom; see `tails`.
        least: Smallest possible difference; `most` the largest.
    """

    value: np.ndarray
    center: np.ndarray
    below: np.ndarray
    above: np.ndarray
    df: np.ndarray
    p: np.ndarray
    paired: np.ndarray
    identical: np.ndarray
    b: np.ndarray
    c: np.ndarray
    psi: np.ndarray
    share: np.ndarray
    freedom: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @property
    def low(self) -> np.ndarray:
        low = np.minimum(self.value, self.center - quantile(self.df) * self.below)
        return np.maximum(self.least, low)

    @property
    def high(self) -> np.ndarray:
        high = np.maximum(self.value, self.center + quantile(self.df) * self.above)
        return np.minimum(self.most, high)

    @property
    def detectable(self) -> np.ndarray:
        """The difference found at 5 % with power 80 %."""
        return (quantile(self.df) + quantile(self.df, POWER)) * np.maximum(self.below, self.above)

    def p_worse(self, margin: float) -> np.ndarray:
        """Return the one-sided p value of "the difference is at least -margin"."""
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (self.center + margin) / self.above
        half = p_value(z, self.df, self.share, self.freedom) / 2
        return np.where(self.identical, 1.0, np.where(z < 0, half, 1 - half))

    def at(self, *where: int) -> "Differences":
        """Return one of them."""
        return Differences(*(getattr(self, f.name)[where] for f in fields(self)))

    def __neg__(self) -> "Differences":
        """Return them with the sign changed, for metrics whose better side is down."""
        return replace(
            self,
            value=-self.value,
            center=-self.center,
            below=self.above,
            above=self.below,
            b=self.c,
            c=self.b,
            least=-self.most,
            most=-self.least,
        )


def pairwise(samples: Sequence[Sample], *, same_seeds: bool = False) -> Differences:
    """Return the differences of all pairs, (M, M).

    Args:
        same_seeds: Pair by seed where seeds have no names.
    """
    value, low, high = (
        np.array([getattr(s, k) for s in samples]) for k in ("value", "low", "high")
    )
    below, above = mover(value[:, None], (low[:, None], high[:, None]), value, (low, high))
    made = value[:, None] - value
    with np.errstate(divide="ignore", invalid="ignore"):
        toward = np.where(made > 0, below, above) / Z
        p = np.where(made == 0, 1.0, 2 * stdtr(np.inf, -np.abs(made) / toward))
    shape, spans = made.shape, np.array([s.span for s in samples], float)
    found = Differences(
        value=made,
        center=made.copy(),
        below=below / Z,
        above=above / Z,
        df=np.full(shape, np.inf),
        p=np.where(np.isfinite(below + above), p, np.nan),
        paired=np.zeros(shape, bool),
        identical=np.zeros(shape, bool),
        b=np.full(shape, np.nan),
        c=np.full(shape, np.nan),
        psi=np.full(shape, np.nan),
        share=np.zeros(shape),
        freedom=np.full(shape, np.inf),
        least=spans[:, None, 0] - spans[:, 1],
        most=spans[:, None, 1] - spans[:, 0],
    )
    for same in _by_images(samples).values():
        here = [samples[i] for i in same]
        stack, seeds = (
            np.stack([np.asarray(s.images) for s in here]),
            seeds_of_pairs(here, same_seeds),
        )
        for place, i in enumerate(same):
            others = same[place + 1 :]
            if others:
                own = SeedParts(*(part[place, place + 1 :] for part in seeds))
                _pair(found, samples, i, others, stack[place] - stack[place + 1 :], own)
    return found


def difference(a: Sample, b: Sample, *, same_seeds: bool = False) -> Differences:
    """Return the difference of two samples, floats.

    Args:
        same_seeds: Pair by seed where seeds have no names.
    """
    found = pairwise([a, b], same_seeds=same_seeds).at(0, 1)
    if a.runs and a.runs == b.runs and abs(float(found.value)) <= ROUNDED:
        # The same runs, whose keys are hashes of all that determines their outcomes.
        nothing = dict.fromkeys(("value", "center", "below", "above", "psi"), np.asarray(0.0))
        return replace(found, identical=np.asarray(True), p=np.asarray(1.0), **nothing)
    return found


def _by_images(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Positions of the samples on the same images."""
    same = defaultdict(list)
    for i, sample in enumerate(samples):
        if sample.images is not None and sample.on:
            same[sample.on].append(i)
    return {on: which for on, which in same.items() if len(which) > 1}


def _pair(
    found: Differences,
    samples: Sequence[Sample],
    i: int,
    others: list[int],
    d: np.ndarray,
    seed_parts: SeedParts,
) -> None:
    """Fill row and column `i` of `found` from the images' differences `d` (len(others), n)."""
    a, them = samples[i], [samples[j] for j in others]
    n, rate = d.shape[1], a.span == RATE
    mean, v, psi = moments(d, rate)
    first, second, rest, nothing = seed_parts
    v_image = np.maximum(0.0, v - rest)
    binary = np.array([a.binary and s.binary for s in them])
    skew, freedom = shape_of(d)
    # Bonett and Price's interval of hits and misses needs no correction.
    skew, freedom = np.where(binary, 0.0, skew), np.where(binary, np.inf, freedom)
    seeds = np.array([s.seeds for s in them])
    of_seeds = (first, a.seeds - 1), (second, seeds - 1)
    (v, df), (v_seed, own) = spread(*of_seeds, (v_image, freedom)), spread(*of_seeds)
    share = np.divide(v_seed, v, out=np.zeros_like(v), where=v > 0)
    left, right = skew_factors(skew, n)
    below, above = (np.sqrt(v_seed + v_image * f**2) for f in (left, right))
    alone = (seeds == 1) & (a.seeds == 1)
    center = np.where(alone, mean, found.value[i, others])
    b, c = np.count_nonzero(d > 0, axis=1), np.count_nonzero(d < 0, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = p_value(center / np.where(center > 0, below, above), df, share, own)
    equal = nothing & ((b + c) == 0)
    p = np.where(equal, 1.0, np.where(binary, mcnemar(b, c), np.nan_to_num(p, nan=1.0)))
    row = {
        "center": center,
        "below": below,
        "above": above,
        "df": df,
        "p": p,
        "paired": True,
        "identical": equal,
        "b": np.where(binary, b, np.nan),
        "c": np.where(binary, c, np.nan),
        "psi": psi,
        "share": share,
        "freedom": own,
    }
    mirrored = row | {"center": -center, "below": above, "above": below}
    mirrored |= {"b": row["c"], "c": row["b"]}
    for name in row:
        array = getattr(found, name)
        array[i, others], array[others, i] = row[name], mirrored[name]
