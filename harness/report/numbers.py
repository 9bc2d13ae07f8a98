"""Numbers as the page has them: rounded once, in the unit in which they are printed."""

import math
from collections.abc import Iterable, Sequence

from harness.suites.metric import Metric

RATE_DECIMALS = 1  # of a rate in per cent
DIGITS = 4  # of the largest number of a column that is no rate
STEPS = (1, 2, 2.5, 5, 10)  # between the ends of a scale, times a power of ten
Number = float | str | None  # a text for one that is infinite, None for one that is not known


def unit_of(metric: Metric) -> str:
    """Return the unit in which a metric is printed."""
    return "%" if metric.is_rate else metric.unit


def count_decimals(metric: Metric, values: Iterable[float]) -> int:
    """Return how many decimals all numbers of a column have."""
    if metric.is_rate:
        return RATE_DECIMALS
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if largest == 0:
        return 0
    return min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), 6)


def convert(metric: Metric, value: float, places: int) -> Number:
    """Return a value, rounded, in the unit in which it is printed."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return float(f"{100 * value if metric.is_rate else value:.{places}f}")


def format_number(value: Number, places: int) -> str:
    """Return a converted value as text."""
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:.{places}f}"


def find_scale(values: Sequence[Number]) -> tuple[float, float]:
    """Return round numbers with all values between them: the ends of a scale."""
    known = [v for v in values if isinstance(v, float)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    width = (high - low or abs(high) or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(width))
    step = next(s * power for s in STEPS if s * power >= width * (1 - 1e-9))
    ends = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if ends[0] == ends[1]:
        ends = ends[0] - step, ends[1] + step
    return float(f"{ends[0]:.10g}"), float(f"{ends[1]:.10g}")
