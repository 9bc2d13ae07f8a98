"""Intervals of one mean: over test images, and over training seeds.

Every interval is a 95 % interval. S trained networks see the same n images, so their outcomes form
an S x n array, and an image with all its outcomes is one observation. The variance of the mean has
two parts, V = V_seed + V_image, from the two-way analysis of variance of that array. The two-level
bootstrap (draw seeds, and independently images) estimates the same with the noise of drawing; its
seed part comes out (S - 1) / S times too small, and what is due to neither seed nor image enters it
three times.

With one seed the interval says "these weights"; with more, "this method": it is the estimate
-+ t sqrt(V). Its part over images is lopsided where images are. For a rate it is Wilson's with n
replaced by the number of independent images that would give V_image: Wilson's own for a single
rate. For other means, such as losses with their long tail, it is Hall's, from the images' skewness,
with as many degrees of freedom as their kurtosis leaves.

Satterthwaite's degrees of freedom of t are V^2 / sum V_k^2 / df_k. With few seeds a V_seed that
came out small by chance is a small share of V and claims many degrees of freedom, so that intervals
are short just when they should be long: 92 % coverage instead of 95 for three seeds whose standard
error is three times that of the images. Here the degrees of freedom are those that V_seed's upper
quartile would have (of two seeds, its upper fifth), which gives 95 to 96 % for three seeds or more
at any share, 95 to 98 % for two. The plain percentile bootstrap covers 79 % there.

Near 100 % a few errors say little of how much images and seeds differ, and what they say is too
small when it is wrong: 80 to 92 % coverage at 99 % and above. There V_image counts a tenth of an
image more that is wrong under every seed, and V_seed is as large as it would be at the far end of
the interval, where more is wrong.

Reference: F. E. Satterthwaite, An approximate distribution of estimates of variance components,
Biometrics Bulletin 2(6), 1946; E. B. Wilson, Probable inference, the law of succession, and
statistical inference, JASA 22(158), 1927; P. Hall, On the removal of skewness by transformation,
JRSS B 54(1), 1992; A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007;
G. Y. Zou and A. Donner, Construction of confidence limits about effect measures: a general
approach, Statistics in Medicine 27(10), 2008 (mover).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, stdtrit

Z = 1.959963984540054
QUARTILE = 0.25  # of V_seed's distribution: found by simulation, see above
FIFTH = 0.2  # the same of two seeds
UNSEEN = 0.1  # images that are wrong under every seed and not among those seen: likewise
Bounds = tuple[float, float]


def wilson(hits: float, n: float) -> Bounds:
    """Return the Wilson interval of a rate `hits / n`."""
    if not n >= 1:
        raise ValueError(f"An interval needs at least one image; got {n}.")
    p = hits / n
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, min(p, center - half)), min(1.0, max(p, center + half))


def spread(*parts: tuple[ArrayLike, ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Return (V, df): the sum of independent variances, and the degrees of freedom of its t.

    Args:
        parts: (V_k, df_k), broadcast against each other; those with V_k = 0 do not count.
    """
    v, upper, squares = (np.zeros(()) for _ in range(3))
    for part, freedom in parts:
        v_k, df = np.asarray(part, float), np.maximum(np.asarray(freedom, float), 1)
        # chdtri is slow, and a million images leave nothing to correct.
        values, where = np.unique(np.minimum(df, 1e6), return_inverse=True)
        least = np.where(values < 2, FIFTH, QUARTILE)
        raised = v_k * (values / chdtri(values, 1 - least))[where].reshape(df.shape)
        v, upper, squares = v + v_k, upper + raised, squares + raised**2 / df
    with np.errstate(invalid="ignore", divide="ignore"):
        return v, np.where(squares > 0, upper**2 / squares, np.inf)


def quantile(df: ArrayLike, p: float = 0.975) -> np.ndarray:
    """Return the quantile of Student's t; the normal one for infinitely many degrees."""
    return np.asarray(stdtrit(df, p))


def interval(
    value: float,
    v_seed: float,
    v_image: float,
    seeds: int,
    n: int,
    span: Bounds = (0.0, 1.0),
    shape: tuple[float, float] = (0.0, math.inf),
    of_squares: float | None = None,
) -> Bounds:
    """Return the interval of a mean over `seeds` networks and `n` images, clipped to `span`.

    Outcomes that are all alike show no variance, which is no certainty: for a rate it is then
    Wilson's, as if the cells were one.

    Args:
        span: The values that the mean can take; (0, 1) makes it a rate.
        shape: Skewness of the images' values, and the degrees of freedom of their variance; of no
            use for a rate.
        of_squares: Of a mean of squares, the part of `v_seed` that is neither due to seed nor to
            image. Seeds make it skewed, as chi-square is, and their own part reaches as far up as
            on a logarithmic scale, h becoming m (exp(min(h / m, 2)) - 1) or as many times h.
    """
    if span != (0.0, 1.0):
        _, df = spread((v_seed, seeds - 1), (v_image, shape[1]))
        t, (left, right) = float(quantile(df)), skew_factors(shape[0], n)
        below = t * math.sqrt(v_seed + v_image * float(left) ** 2)
        above = t * math.sqrt(v_seed + v_image * float(right) ** 2)
        if of_squares is not None and v_seed > of_squares and value > 0:
            own = t * t * (v_seed - of_squares)
            reach = min(math.sqrt(own) / value, 2.0)
            above = math.sqrt(above**2 + own * ((math.expm1(reach) / reach) ** 2 - 1))
        return max(span[0], value - below), min(span[1], value + above)
    if v_seed + v_image <= 0:
        return wilson(value * n, n)
    low, high, binomial = value, value, value * (1 - value)
    if binomial > 0:
        # Few errors do not show how images differ: UNSEEN more that are wrong under every seed.
        unseen = UNSEEN if seeds > 1 else 0.0
        share = (n * n * v_image + unseen) / (n * binomial + unseen)
        independent = max(1.0, n / share) if share > 0 else math.inf
        if math.isfinite(independent):
            low, high = wilson(value * independent, independent)
    # Wilson's bounds have their own degrees of freedom; only the seeds' are few.
    _, df = spread((v_seed, seeds - 1), (v_image, np.inf))
    t, reach = float(quantile(df)), Z * math.sqrt(v_seed + v_image)
    below, above = (
        t * math.sqrt(v_seed * _growth(value, side * reach) + ((bound - value) / Z) ** 2)
        for side, bound in ((-1, low), (1, high))
    )
    return max(0.0, value - below), min(1.0, value + above)


def _growth(value: float, step: float) -> float:
    """How much larger p (1 - p) is a step away, as is what seeds add to a rate; at least 1."""
    there = min(1.0, max(0.0, value + step))
    binomial = value * (1 - value)
    return max(1.0, there * (1 - there) / binomial) if binomial > 0 else 1.0


def shape_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the skewness of `values` (..., n) over n, and how free their variance is.

    Its degrees of freedom are 2 n / (kurtosis - 1), at most n - 1. Values that are mostly 0, as
    differences of two networks are, have about twice as many as there are values that are not.
    """
    n = values.shape[-1]
    apart = values - values.mean(axis=-1, keepdims=True)
    squares = np.square(apart)
    m2, m3, m4 = squares.mean(axis=-1), (squares * apart).mean(axis=-1), (squares**2).mean(axis=-1)
    varied = m2 > 0
    skew = np.divide(m3, m2**1.5, out=np.zeros_like(m2), where=varied)
    kurtosis = np.divide(m4, m2**2, out=np.full_like(m2, 3.0), where=varied)
    return skew, np.minimum(n - 1, 2 * n / np.maximum(kurtosis - 1, 1e-9))


def skew_factors(skew: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the standard error of a mean over n values is multiplied by, below and above it.

    With G(T) = T + g T^2 / 3 + g^2 T^3 / 27 + g / 6 and g = skewness / sqrt(n), G of the t
    statistic is normal to a higher order than T is: the interval holds the means with |G| <= 1.96.
    """
    g = np.asarray(skew, float) / math.sqrt(n)
    small = np.abs(g) < 1e-6
    g = np.where(small, 1.0, g)
    below, above = (
        side * (np.cbrt(1 + g * (side * Z - g / 6)) - 1) * 3 / g / Z for side in (1, -1)
    )
    return np.where(small, 1.0, below), np.where(small, 1.0, above)


def variance_parts(outcomes: np.ndarray) -> tuple[float, float, float]:
    """Return (V_seed, V_image, V_rest), parts of the variance of the mean of `outcomes` (S, n).

    V_rest, the share of what is neither seed nor image, is inside V_seed, and was taken out of
    V_image. With one seed V_image is all there is.
    """
    seeds, n = outcomes.shape
    if seeds == 1:
        return 0.0, float(outcomes.var(ddof=1)) / n if n > 1 else 0.0, 0.0
    of_seed, of_image = outcomes.mean(axis=1), outcomes.mean(axis=0)
    rest = outcomes - of_seed[:, None] - of_image[None, :] + outcomes.mean()
    v_rest = float((rest**2).sum()) / ((seeds - 1) * max(n - 1, 1)) / (seeds * n)
    v_seed = float(of_seed.var(ddof=1)) / seeds
    v_image = max(0.0, float(of_image.var(ddof=1)) / n - v_rest) if n > 1 else 0.0
    return v_seed, v_image, v_rest


def moments(d: np.ndarray, rate: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, its variance and psi of `d` (..., n) with one image more on either side.

    The two have the size of a typical difference that is not zero; where there is none, of the
    largest that a rate can have.
    """
    n = d.shape[-1]
    squares, unequal = np.square(d).sum(axis=-1), np.count_nonzero(d, axis=-1)
    size = np.where(unequal > 0, squares / np.maximum(unequal, 1), float(rate))
    mean, psi = d.sum(axis=-1) / (n + 2), (squares + 2 * size) / (n + 2)
    return mean, (psi - mean**2) / (n + 2), psi - mean**2


def mover(
    a: ArrayLike, a_bounds: tuple, b: ArrayLike, b_bounds: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a - b may lie below and above its estimate, from two independent intervals.

        below = sqrt((a - a_low)^2 + (b_high - b)^2),   above likewise.

    For two Wilson intervals this is Newcombe's interval of a difference of two rates.
    """
    below = np.hypot(np.subtract(a, a_bounds[0]), np.subtract(b_bounds[1], b))
    above = np.hypot(np.subtract(a_bounds[1], a), np.subtract(b, b_bounds[0]))
    return below, above
