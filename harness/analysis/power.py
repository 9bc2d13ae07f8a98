"""What a difference is made of, and how many seeds and images one needs.

The difference of two models over S seeds and n images, paired by seed and image, has the variance

    V = sd_seed^2 / S + sd_image^2 / n + sd_rest^2 / (S n).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from harness.analysis.intervals import quantile, spread, variance_parts
from harness.analysis.pairs import POWER
from harness.analysis.sample import Sample

MOST_SEEDS, MOST_IMAGES = 1000, 10**9


class Parts(NamedTuple):
    """Standard deviations of a paired difference.

    Args:
        sd_seed: Of one seed's difference, beyond what its images add.
        sd_image: Of one image's mean difference over very many seeds.
        sd_rest: Of one image under one seed, which is due to neither alone.
    """

    sd_seed: float
    sd_image: float
    sd_rest: float


def superiority(a: Sample, b: Sample) -> float:
    """Return the probability that one retraining of A has a higher mean than one of B.

    Both are trained once more, with seeds of their own, and measured on these images. It is that of
    Student's t, from the seeds' variances and the means' own; NaN with one seed.
    """
    if min(a.seeds, b.seeds) < 2:
        return math.nan
    parts = [(s.v_seed * (s.seeds + 1), s.seeds - 1) for s in (a, b)]
    v, df = spread(*parts)
    if v == 0:
        return 0.5 if a.value == b.value else float(a.value > b.value)
    return float(stdtr(df, (a.value - b.value) / math.sqrt(v)))


def parts_of_difference(a: Sample, b: Sample) -> Parts:
    """Return what the difference of two samples varies by; NaN where it is not known.

    Paired by seed and image where both have outcomes of the same seeds on the same images; else
    seeds count as independent.
    """
    if a.images is None or b.images is None or a.on != b.on or len(a.images) != len(b.images):
        return Parts(math.nan, math.nan, math.nan)
    n, seeds = len(a.images), min(a.seeds, b.seeds)
    d = _differences(a, b)
    if d is not None:
        v_seed, v_image, v_rest = variance_parts(d)
    else:
        v_seed, v_rest = a.v_seed + b.v_seed, a.v_rest + b.v_rest
        v_image = max(0.0, float(np.subtract(a.images, b.images).var(ddof=1)) / n - v_rest)
    if seeds == 1:
        return Parts(math.nan, math.sqrt(v_image * n), math.nan)
    return Parts(
        math.sqrt(max(0.0, v_seed - v_rest) * seeds),
        math.sqrt(v_image * n),
        math.sqrt(v_rest * seeds * n),
    )


def _differences(a: Sample, b: Sample) -> np.ndarray | None:
    """The differences (S, n) of samples on the same images with the same seeds, else None."""
    if a.outcomes is None or b.outcomes is None or a.outcomes.shape != b.outcomes.shape:
        return None
    if a.seed_names != b.seed_names or not a.seed_names:
        return None
    return np.subtract(a.outcomes, b.outcomes, dtype=float)


def detectable_with(parts: Parts, seeds: int, n: float) -> float:
    """Return the difference that is found at 5 % with power 80 %; inf where none is.

    Args:
        seeds: Of each model, on `n` test images.
    """
    v_seed = (parts.sd_seed**2 + parts.sd_rest**2 / n) / seeds
    v, df = spread((v_seed, seeds - 1), (parts.sd_image**2 / n, math.inf))
    if v_seed > 0 and seeds < 2:
        return math.inf
    return float((quantile(df) + quantile(df, POWER)) * np.sqrt(v))


def _power(parts: Parts, seeds: int, n: float, margin: float) -> bool:
    """Whether a difference of `margin` is found at 5 % with power 80 %."""
    return detectable_with(parts, seeds, n) <= margin


def seeds_needed(
    sd_seed: float, sd_image: float, n: int, margin: float, sd_rest: float = 0.0
) -> float:
    """Return how many seeds find a difference of `margin` at 5 % with power 80 %; inf if none do.

    Two at least, since one says nothing of a method.

    Args:
        sd_seed: See `Parts`; `sd_image` and `sd_rest` likewise.
        n: Number of test images.
    """
    parts = Parts(sd_seed, sd_image, sd_rest)
    return _least(lambda s: _power(parts, s, n, margin), 2, MOST_SEEDS)


def images_needed(
    sd_seed: float, sd_image: float, seeds: int, margin: float, sd_rest: float = 0.0
) -> float:
    """Return how many images find a difference of `margin` at 5 % with power 80 %; inf if none do.

    Args:
        sd_seed: See `Parts`; `sd_image` and `sd_rest` likewise.
        seeds: Number of seeds of each model.
    """
    parts = Parts(sd_seed, sd_image, sd_rest)
    return _least(lambda n: _power(parts, seeds, n, margin), 1, MOST_IMAGES)


def _least(enough: Callable[[int], bool], low: int, high: int) -> float:
    """The least number between `low` and `high` that is enough, inf if there is none."""
    if not enough(high):
        return math.inf
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
