"""What a metric's name says: title, meaning, which side is better, and how it is printed.

A metric that is not known here is shown under its own name. Which side is better, and what is
printed in per cent, is what the leaderboard goes by (`harness.analysis.scores`).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from harness.analysis import scores

RATE_DECIMALS = 1  # of a rate in per cent
DIGITS = 4  # of the largest number of a column that is no rate


@dataclass(frozen=True)
class Metric:
    """A metric as a person reads it.

    Args:
        meaning: Its formula and range, in one sentence; "" for one that is not known.
    """

    name: str
    title: str
    meaning: str = ""

    @cached_property
    def better(self) -> int:
        """1 where more is better, -1 where less is, 0 where neither is said."""
        return scores.better(self.name)

    @cached_property
    def rate(self) -> bool:
        """Whether it is a share of images: a fraction that is printed in per cent."""
        return scores.in_points(self.name)

    @property
    def unit(self) -> str:
        return "%" if self.rate else ""


METRICS = (
    Metric("accuracy", "accuracy", "Share of images whose largest logit is the label's."),
    Metric("error", "error", "1 - accuracy."),
    Metric(
        "top5",
        "top-5 accuracy",
        "Share of images whose label is among the five largest logits.",
    ),
    Metric(
        "nll",
        "NLL",
        "Negative log-likelihood: the mean of -log p(label), in nats; 0 is perfect.",
    ),
    Metric(
        "brier",
        "Brier score",
        "The mean over images of the sum over classes of (p - [class is the label])²; 0 to 2.",
    ),
    Metric(
        "ece",
        "ECE",
        "Expected calibration error: how far confidence is from accuracy, over 15 bins of equal "
        "width, weighted by their images; 0 to 1. Few images raise it: compare at equal numbers.",
    ),
    Metric(
        "mce",
        "mCE",
        "Mean corruption error: error by corruption over that of the reference, averaged; the "
        "reference has 1.",
    ),
    Metric(
        "nfe",
        "NFE",
        "Evaluations of the right-hand side of the differential equation that contributed to an "
        "image, averaged over images; counted in the equation, not in solver steps.",
    ),
    Metric("nfe_min", "fewest NFE", "Evaluations of the image that took fewest."),
    Metric("nfe_max", "most NFE", "Evaluations of the image that took most."),
    Metric("seconds", "seconds an image", "Wall time of a batch, shared out evenly."),
    Metric(
        "nfe_rho_loss",
        "NFE and loss, rank correlation",
        "Spearman's rho over images of evaluations and loss: above 0, hard images cost more.",
    ),
    Metric(
        "nfe_rho_margin",
        "NFE and margin, rank correlation",
        "Spearman's rho over images of evaluations and p(label) less the largest other "
        "probability: below 0, hard images cost more.",
    ),
    Metric(
        "nfe_rho_loss_dealt",
        "dealt NFE and loss, rank correlation",
        "As of NFE and loss, with evaluations dealt to other images: what chance gives.",
    ),
    Metric(
        "nfe_rho_severity",
        "NFE and severity, rank correlation",
        "Spearman's rho over images of evaluations and the severity of their noise.",
    ),
    Metric(
        "entropy",
        "row entropy",
        "Of an attention row a: minus the sum of a log a, in nats; log K for a uniform row of K "
        "keys.",
    ),
    Metric("concentration", "concentration", "1 - entropy / log K; 0 for a uniform row."),
    Metric("effective_support", "effective support", "exp(entropy): how many keys share a row."),
    Metric("gini", "Gini coefficient", "Inequality of an attention row; 0 for a uniform one."),
    Metric(
        "total_variation",
        "total variation",
        "Sum over the edges of the token grid of the difference of attention.",
    ),
    Metric(
        "dirichlet_energy",
        "Dirichlet energy",
        "Half the sum over the edges of the token grid of the squared difference of attention.",
    ),
    Metric("border_mass", "border mass", "Attention on the outer ring of the token grid."),
    Metric(
        "instability",
        "instability",
        "1 - the rank correlation of attention on the clean and on the changed image; 0 to 2.",
    ),
)
NAMED = {m.name: m for m in METRICS}
OF_CLASS = re.compile(r"accuracy_class_(\d+)")


def metric(name: str) -> Metric:
    """Return what is known of a metric."""
    if name in NAMED:
        return NAMED[name]
    if found := OF_CLASS.fullmatch(name):
        return Metric(name, f"accuracy, class {found[1]}")
    return Metric(name, name.replace("_", " "))


def ends(names: Iterable[str]) -> set[str]:
    """Return those that are an end of another's interval: rho_low and rho_high beside rho."""
    known = set(names)
    return {
        name
        for name in known
        for side in ("_low", "_high")
        if name.endswith(side) and name.removesuffix(side) in known
    }


def decimals(metric: Metric, values: Iterable[float]) -> int:
    """Return how many decimals all numbers of a column have."""
    if metric.rate:
        return RATE_DECIMALS
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if largest == 0:
        return 0
    return min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), 6)


def rounded(metric: Metric, value: float, places: int) -> float | str | None:
    """Return a value in the unit in which it is printed; None where it is not known."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return float(f"{100 * value if metric.rate else value:.{places}f}")


def shown(value: float | str | None, places: int) -> str:
    """Return a rounded value as text."""
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:.{places}f}"
