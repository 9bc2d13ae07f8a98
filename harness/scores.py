"""What a metric's name says: which side is better, which values it can take, how it is printed.

A metric that is not known here is averaged and given an interval like any other; it has no better
side, so that nobody is ranked by it.
"""

import math

import numpy as np

from harness.statistics.samples import RATE

# Metrics by the words that their names are made of: `accuracy_class_3` is an accuracy.
HIGHER = ("accuracy", "top5")
LOWER = ("error", "nll", "brier", "ece", "nfe", "mce")
NEITHER = ("rho",)  # correlations: `nfe_rho_loss` is no count of evaluations
LOWER_UNITS = ("_s", "_ms", "_mib", "_macs")  # what is paid
SPANS = {
    "accuracy": RATE,
    "top5": RATE,
    "error": RATE,
    "ece": RATE,
    "brier": (0.0, 2.0),
    "nll": (0.0, math.inf),
    "nfe": (0.0, math.inf),
}
# Means of per-image values in [0, 1], whose variance is at most p (1 - p). `ece` is none.
RATES = ("accuracy", "top5", "error")


def _is(metric: str, names: tuple[str, ...]) -> bool:
    words = metric.partition("[")[0].split("_")  # mce[ref=...]
    return any(name in words for name in names)


def better(metric: str) -> int:
    """Return 1 where more is better, -1 where less is, 0 where neither is said."""
    if _is(metric, NEITHER):
        return 0
    if _is(metric, HIGHER):
        return 1
    if _is(metric, LOWER) or metric.endswith(LOWER_UNITS):
        return -1
    return 0


def is_bound(metric: str) -> bool:
    """Return whether a metric is the end of an interval, or a percentile, of another."""
    return metric.endswith(("_low", "_high", "_p10", "_p90"))


def is_rate(metric: str, values: np.ndarray, n: np.ndarray) -> bool:
    """Return whether a metric is a share of images: by its name, or because it counts them.

    Args:
        values: All there are of it, rounded to six decimals; `n` the images behind each.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0 or known.min() < 0 or known.max() > 1:
        return False
    if _is(metric, RATES):
        return True
    counts = values * n
    whole = np.abs(counts - np.round(counts)) <= 1e-6 * n
    between = (known > 0) & (known < 1)
    return better(metric) == 0 and bool(whole[np.isfinite(values)].all() and between.any())


def span(metric: str, rate: bool) -> tuple[float, float]:
    """Return the values that a mean of it can take; `RATE` for a rate and for nothing else."""
    if rate:
        return RATE
    words = metric.split("_")
    if _is(metric, NEITHER):
        return -1.0, 1.0
    found = [SPANS[name] for name in words if name in SPANS]
    low, high = found[0] if found else (-math.inf, math.inf)
    return (low, high) if (low, high) != RATE else (low, math.inf)


def in_points(metric: str) -> bool:
    """Return whether a metric is printed in per cent, and its differences in points."""
    return _is(metric, RATES)
