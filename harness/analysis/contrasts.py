"""Weighted sums of several means: differences of differences, and interactions.

    sum_k w_k mean_k

Samples of the same seeds on the same images are summed network by network and image by image, and
what varies is the variance of these sums, by the two-way analysis of variance (see `intervals`).
Samples on the same images with other seeds share images alone; all others are independent.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from harness.analysis.intervals import Z, moments, shape_of, skew_factors, spread, variance_parts
from harness.analysis.pairs import Differences
from harness.analysis.sample import RATE, Sample
from harness.analysis.tails import p_value


def contrast(samples: Sequence[Sample], weights: Sequence[float]) -> Differences:
    """Return the sum of w_k mean_k, floats, with its interval and the p value of zero.

    Raises:
        ValueError: There are no samples, or not as many weights.
    """
    if not samples or len(samples) != len(weights):
        raise ValueError(
            f"A contrast needs a weight for each sample; got {len(samples)} samples and "
            f"{len(weights)} weights."
        )
    of_images: dict[str, list[int]] = defaultdict(list)
    for k, sample in enumerate(samples):
        of_images[sample.on if sample.images is not None and sample.on else f"alone {k}"].append(k)
    parts: list[tuple[float, float]] = []  # variances, and their degrees of freedom
    seeds: list[tuple[float, float]] = []  # those of them that are due to seeds
    below, above, psi = 0.0, 0.0, np.nan
    for which in of_images.values():
        own, w = [samples[k] for k in which], np.array([weights[k] for k in which], float)
        if own[0].images is None or not own[0].on:
            reach = np.array([own[0].value - own[0].low, own[0].high - own[0].value]) * w[0] / Z
            left, right = np.square(reach if w[0] > 0 else reach[::-1])
            parts.append((max(left, right), np.inf))
            below, above = below + left, above + right
            continue
        of_seeds, rest = _seeds(own, w)
        images = np.tensordot(w, np.stack([np.asarray(s.images, float) for s in own]), axes=1)
        rate = all(s.span == RATE for s in own)
        _, v_all, variance = moments(images, rate)
        v_image = max(0.0, float(v_all) - rest)
        skew, freedom = shape_of(images)
        parts.append((v_image, float(freedom)))
        seeds += of_seeds
        seed = sum(v for v, _ in of_seeds)
        left, right = (float(f) ** 2 for f in skew_factors(skew, len(images)))
        below, above = below + seed + v_image * left, above + seed + v_image * right
        psi = float(variance) if len(of_images) == 1 else np.nan
    value = float(np.dot(weights, [s.value for s in samples]))
    (v, df), (v_seed, df_seed) = spread(*seeds, *parts), spread(*seeds)
    share = v_seed / v if v > 0 else 0.0
    se = np.sqrt(below if value > 0 else above)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 1.0 if value == 0 else float(p_value(value / se, df, share, df_seed))
    known = {"value": value, "center": value, "below": np.sqrt(below), "above": np.sqrt(above)}
    known |= {"df": df, "p": p, "paired": len(of_images) == 1, "identical": False}
    known |= {"b": np.nan, "c": np.nan, "psi": psi, "share": share, "freedom": df_seed}
    ends = [sorted(w * np.array(s.span)) for w, s in zip(weights, samples, strict=True) if w]
    known |= dict(zip(("least", "most"), np.sum(ends, axis=0), strict=True))
    return Differences(**{name: np.asarray(x) for name, x in known.items()})


def _seeds(samples: Sequence[Sample], w: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """Variances of samples on the same images that are due to seeds, and the rest in them."""
    of_seeds: dict[object, list[int]] = defaultdict(list)
    for k, s in enumerate(samples):
        pairs = s.outcomes is not None and s.seed_names
        of_seeds[s.seed_names if pairs else k].append(k)
    parts, rest = [], 0.0
    for which in of_seeds.values():
        first = samples[which[0]]
        if len(which) == 1:
            v_seed, v_rest = first.v_seed * w[which[0]] ** 2, first.v_rest * w[which[0]] ** 2
        else:
            total = sum(w[k] * np.asarray(samples[k].outcomes, float) for k in which)
            v_seed, _, v_rest = variance_parts(np.asarray(total))
        parts.append((v_seed, float(first.seeds - 1)))
        rest += v_rest
    return parts, rest
