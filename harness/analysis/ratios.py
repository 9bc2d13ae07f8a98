"""Ratio of two means of one model on the same images: what corruption multiplies a score by.

Its interval is symmetric on a logarithmic scale, R exp(-+ t se / R), since ratios are skewed. To
first order R = a / b varies as the mean over images of (a_i - R b_i) / b, whose variance over seeds
and images is estimated as that of any mean (see `intervals`). Where outcomes are not stored, the
two intervals are combined on the logarithmic scale as if they were of different images, which is
wider: a model that is good on clean images is good on corrupted ones.

Reference: A. Donner and G. Y. Zou, Closed-form confidence intervals for functions of the normal
mean and standard deviation, Statistical Methods in Medical Research 21(4), 2012.
"""

import math

import numpy as np

from harness.analysis.intervals import interval, shape_of, variance_parts
from harness.analysis.sample import Sample

ANY = (-math.inf, math.inf)


def ratio(above: Sample, below: Sample) -> tuple[float, float, float]:
    """Return the ratio of two means and its 95 % interval; NaNs for what is not known.

    Args:
        above: Of the same model as `below`, and of the same images under other conditions; neither
            may be negative.
    """
    if not (above.value > 0 and below.value > 0):
        return (0.0 if above.value == 0 < below.value else math.nan), math.nan, math.nan
    value = above.value / below.value
    if _paired(above, below):
        outcomes = (np.asarray(above.outcomes) / value - np.asarray(below.outcomes)) / below.value
        v_seed, v_image, _ = variance_parts(outcomes)
        skew, freedom = shape_of(outcomes.mean(axis=0))
        shape = float(skew), float(freedom)
        seeds, n = outcomes.shape
        low, high = interval(0.0, v_seed, v_image, seeds, n, ANY, shape)
        return value, value * math.exp(low), value * math.exp(high)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.log([[s.low, s.value, s.high] for s in (above, below)])
        (a, at, b), (c, of, d) = ends
        reach = np.exp([-math.hypot(at - a, d - of), math.hypot(b - at, of - c)])
    return value, value * float(reach[0]), value * float(reach[1])


def _paired(a: Sample, b: Sample) -> bool:
    if a.outcomes is None or b.outcomes is None:
        return False
    return a.outcomes.shape == b.outcomes.shape and a.runs == b.runs
