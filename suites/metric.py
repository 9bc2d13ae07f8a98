"""What a metric is: its name, formula, unit, and which way is better; and variants of one.

Arrays are NumPy's, so that a table can be read, compared and checked without PyTorch. All metrics
are in `harness.suites.metrics`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

PerImage = Callable[[np.ndarray, np.ndarray], np.ndarray]
PerCell = Callable[[Mapping[str, np.ndarray], str], tuple[np.ndarray, np.ndarray] | None]
Better = Literal["up", "down", "neither"]

RATE = "rate"  # the unit of a share of images: a fraction, printed in per cent
BOUNDS = ("low", "high", "p10", "p90")  # last parts of a variant: ends of intervals, percentiles
EXTREMES = ("fewest", "most")  # last parts of a variant that is no mean over images


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        title: Heading in tables and figures.
        meaning: One sentence, with the formula; "" for a metric that is not known.
        better: Direction in which it is better.
        unit: `RATE`, "nats", "s", "evaluations", ...; "" for a plain number.
        low: Smallest possible value; `high` the largest.
        of_images: (logits (N, K), labels (N,)) to (N,), whose mean the metric is; None for metrics
            that are observed otherwise.
        of_cell: (arrays of a cell, variant) to values of images, whose mean the metric is, and
            their positions; None for metrics that are observed otherwise.
        reference: Paper that defines it.
        by_image: Whether it is a mean over images, so that a table of its means does not show how
            much they depend on the choice of images.
        biased: Whether its bias exceeds its standard error, so that it has no interval.
        square: Whether it is a mean of squares, which is skewed over training seeds.
    """

    name: str
    title: str
    meaning: str = ""
    better: Better = "neither"
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    of_images: PerImage | None = field(default=None, compare=False)
    of_cell: PerCell | None = field(default=None, compare=False, kw_only=True)
    reference: str = ""
    by_image: bool = False
    biased: bool = False
    square: bool = False

    def __post_init__(self) -> None:
        if self.of_images is not None or self.of_cell is not None:
            object.__setattr__(self, "by_image", not self.biased)

    @property
    def sign(self) -> int:
        """1 where up is better, -1 where down is, 0 where neither is."""
        return {"up": 1, "down": -1, "neither": 0}[self.better]

    @property
    def is_rate(self) -> bool:
        """Whether it is a share of images: printed in per cent, differences in points."""
        return self.unit == RATE

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean over images.

        Raises:
            ValueError: There are no images, or shapes do not agree.
        """
        assert self.of_images is not None, f"{self.name} is not a function of logits"
        if len(logits) == 0:
            raise ValueError("A metric needs at least one image; got 0.")
        if labels.shape != logits.shape[:1]:
            raise ValueError(
                f"`labels` must have shape ({len(logits)},), one per image; got {labels.shape}."
            )
        return float(self.of_images(logits, labels).astype(np.float64).mean())

    def describe(self) -> dict[str, Any]:
        """Return it as JSON, without its formula; `METRICS.declare` takes it."""
        fields = {k: v for k, v in asdict(self).items() if k not in ("of_images", "of_cell")}
        unsaid = ("", math.inf, -math.inf)
        return {k: v for k, v in fields.items() if v is not False and v not in unsaid}


def variant(*parts: str) -> str:
    """Join the parts of a variant: "used, head 2"."""
    return ", ".join(part for part in parts if part)


def parts_of(variant: str) -> list[str]:
    """Return the parts of a variant."""
    return variant.split(", ") if variant else []


def is_bound(variant: str) -> bool:
    """Return whether a variant is the end of an interval, or a percentile, of another."""
    return bool(variant) and parts_of(variant)[-1] in BOUNDS


def array_name(metric: Metric, variant: str = "") -> str:
    """Return the name of the array (N,) that holds a metric image by image."""
    return f"{metric.name}:{variant}" if variant else metric.name
