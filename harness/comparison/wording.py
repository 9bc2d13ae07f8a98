"""Differences, intervals and p values as a person reads them."""

import math
from decimal import ROUND_HALF_UP, Decimal

from harness.suites.metrics import METRICS


def amount(metric: str, value: float) -> str:
    """Return the size of a difference, of rates in points: "1.3"."""
    if not METRICS[metric].is_rate:
        return f"{abs(value):.3g}"
    return _points(abs(value), _digits(value))


def unit(metric: str) -> str:
    """Return what stands behind an amount: " points" of rates."""
    return " points" if METRICS[metric].is_rate else ""


def signed(metric: str, value: float) -> str:
    """Return a difference with its sign and unit: "+1.3 points"; "-" where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{'-' if value < 0 else '+'}{amount(metric, value)}{unit(metric)}"


def bounds(metric: str, low: float, high: float) -> str:
    """Return an interval of a difference, in brackets: "[0.4, 2.2]"."""
    if not METRICS[metric].is_rate:
        return f"[{low:.3g}, {high:.3g}]"
    digits = _digits(max(abs(low), abs(high)))
    return f"[{_points(low, digits)}, {_points(high, digits)}]"


def chance(p: float) -> str:
    """Return a p value."""
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def _points(rate: float, digits: int) -> str:
    """A rate in points, rounded as by hand: 0.0225 to "2.3", 0.00845 to "0.85"."""
    if not math.isfinite(rate):
        return f"{rate}"
    points = (100 * Decimal(str(float(rate)))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{points:f}"


def _digits(rate: float) -> int:
    return 1 if abs(rate) >= 0.0095 else 2
