"""All metrics by name, and those of logits with their formulas.

A metric of a classifier has a per-image form, of logits (N, K) and labels (N,), with p =
softmax(logits), conf = max_k p_k and hit = [argmax p = label]; its value is the mean over images.
Metrics that a suite observes otherwise are in a file of its own (`nfe_metrics`, ...). A family of
statistics is one metric with several variants: the entropy of the `used`, the `sharp` or the
`matched` map; `variant` joins the parts of one.

Arrays are NumPy's, so that a table can be read, compared and checked without PyTorch.

Formulas that take more than a line stand in `calibration` and `selective`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.suites import calibration, selective
from harness.suites.adversarial_metrics import OF_ATTACKS
from harness.suites.attention_metrics import OF_MAPS
from harness.suites.generation_metrics import OF_SAMPLES
from harness.suites.metric import EXTREMES, RATE, Metric, parts_of
from harness.suites.nfe_metrics import OF_COSTS
from harness.suites.ood_metrics import OF_OTHER_DATA
from harness.suites.stability_metrics import OF_DEPTH


def hits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N,) booleans: whether the largest logit is the label's."""
    return logits.argmax(axis=1) == labels


def _errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return ~hits(logits, labels)


def _in_top5(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    own = logits[np.arange(len(labels)), labels]
    # Of equal logits the first counts, as in argmax.
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    above = (logits > own[:, None]) | ((logits == own[:, None]) & earlier)
    return above.sum(axis=1) < 5


class Metrics(dict[str, Metric]):
    """Metrics by name; one that is not there is a metric of which nothing is known."""

    def __init__(self) -> None:
        super().__init__()
        self._declared: set[str] = set()  # by results, which may be older than the metric itself

    def add(self, *metrics: Metric) -> None:
        """Add metrics.

        Raises:
            ValueError: The name is that of another metric.
        """
        for metric in metrics:
            if metric.name in self._declared:
                self._declared.remove(metric.name)
                del self[metric.name]
            if metric.name in self and self[metric.name] != metric:
                raise ValueError(f"The metric `{metric.name}` is defined twice. Rename one.")
            self[metric.name] = metric

    def declare(self, description: Mapping[str, Any]) -> None:
        """Add a metric as `Metric.describe` gives it, unless its name is known.

        Raises:
            ValueError: Another file declares one of this name that is read differently.
        """
        name, metric = description["name"], Metric(**description)
        if name not in self:
            self[name] = metric
            self._declared.add(name)
        for part in ("better", "unit", "low", "high") if name in self._declared else ():
            here, there = getattr(metric, part), getattr(self[name], part)
            if here != there:
                raise ValueError(
                    f"the metric `{name}` has {part} {here!a}, that of another run {there!a}"
                )

    def __missing__(self, name: str) -> Metric:
        return Metric(name, name.replace("_", " "))


METRICS = Metrics()


def is_by_image(name: str, variant: str) -> bool:
    """Return whether a number is a mean over images."""
    return METRICS[name].by_image and parts_of(variant)[-1:] not in [[part] for part in EXTREMES]


def span_of(name: str, variant: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a metric, or of its difference over another."""
    low, high = METRICS[name].low, METRICS[name].high
    first = parts_of(variant)[:1]
    if first and first[0].startswith("over ") and low >= 0:  # a metric below 0 is a difference
        return low - high, high - low
    return low, high


def full_title(name: str, variant: str) -> str:
    """Return a metric's title with its variant: "row entropy (used, head 2)"."""
    title = METRICS[name].title
    return f"{title} ({variant})" if variant else title


def metric_of(name: str) -> tuple[Metric, str] | None:
    """Return the metric and variant of an array's name; None for an array that is no metric's."""
    metric, _, variant = name.partition(":")
    return (METRICS[metric], variant) if metric in METRICS else None


ACCURACY = Metric(
    "accuracy",
    "accuracy",
    "Share of images whose largest logit is the label's.",
    "up",
    RATE,
    0,
    1,
    hits,
)
ERROR = Metric("error", "error", "1 - accuracy.", "down", RATE, 0, 1, _errors)
TOP5 = Metric(
    "top5",
    "top-5 accuracy",
    "Share of images whose label is among the five largest logits.",
    "up",
    RATE,
    0,
    1,
    _in_top5,
)
NLL = Metric(
    "nll",
    "NLL",
    "Negative log-likelihood: the mean of -log p(label); 0 is perfect.",
    "down",
    "nats",
    0,
    math.inf,
    calibration.nll,
)
BRIER = Metric(
    "brier",
    "Brier score",
    "The mean over images of the sum over classes of (p - [class is the label])².",
    "down",
    "",
    0,
    2,
    calibration.brier,
    "Brier 1950",
)
ECE = Metric(
    "ece",
    "ECE",
    "Expected calibration error: how far confidence is from accuracy, over 15 bins of equal width, "
    "weighted by their images. Chance raises it, by .06 at 355 images and .01 at 10,000 for a "
    "calibrated network, so that it has no interval: the squared calibration error has one.",
    "down",
    "",
    0,
    1,
    calibration.ece,
    "Naeini et al. 2015",
    biased=True,
)
SQUARED_CALIBRATION_ERROR = Metric(
    "squared_calibration_error",
    "squared calibration error",
    "The mean over images of the square of (accuracy - confidence) of the image's bin, of ECE's 15 "
    "bins, less what chance adds to it. Its root is the calibration error in points; an estimate "
    "without bias may be below 0 where that is near 0.",
    "down",
    "points²",
    of_images=calibration.squared_calibration_error,
    reference="Ferro and Fricker 2012, Kumar et al. 2019",
    square=True,
)
SCALED = (
    Metric(
        "scaling_temperature",
        "scaling temperature",
        "Temperature T with the least NLL of softmax(logits / T), fitted to one half of the images "
        "for the other; above 1: the network is too sure.",
        low=0,
        of_images=calibration.temperatures,
        reference="Guo et al. 2017",
        biased=True,
    ),
    *(
        replace(
            metric,
            name=f"{short or metric.name}_scaled",
            title=f"{metric.title}, scaled",
            meaning=f"{metric.title} of softmax(logits / T), T fitted to the images' other half.",
            of_images=calibration.scaled(metric.of_images),
            reference="Guo et al. 2017",
        )
        for metric, short in (
            *((metric, "") for metric in (NLL, BRIER, ECE)),
            (SQUARED_CALIBRATION_ERROR, "sce"),
        )
        if metric.of_images is not None
    ),
)
AURC = Metric(
    "aurc",
    "AURC",
    "Area under the risk-coverage curve: the error among the images that the network is surest of, "
    "averaged over their share.",
    "down",
    "",
    0,
    1,
    selective.aurc,
    "Geifman et al. 2019",
)
EXCESS_AURC = Metric(
    "excess_aurc",
    "excess AURC",
    "AURC less that of the same errors, ranked last: 0 is perfect at any accuracy.",
    "down",
    "",
    0,
    1,
    selective.excess_aurc,
    "Geifman et al. 2019",
)
ACCURACY_AT_80 = Metric(
    "accuracy_at_80",
    "accuracy at 80 % coverage",
    "Accuracy among the 80 % of images that the network is surest of.",
    "up",
    "",
    0,
    1,
    selective.accuracy_at_80,
    "Geifman and El-Yaniv 2017",
)

# Measured wherever there are logits.
SCORES = (ACCURACY, NLL, BRIER, ECE, SQUARED_CALIBRATION_ERROR)

MCE = Metric(
    "mce",
    "mCE",
    "Mean corruption error: the error by corruption over that of the reference, averaged over the "
    "15 common corruptions; the reference has 100.",
    "down",
    "%",
    0,
    reference="Hendrycks and Dietterich 2019",
)
RELATIVE_MCE = Metric(
    "relative_mce",
    "relative mCE",
    "As mCE, of errors less the clean ones: how much is lost, over how much the reference loses.",
    "down",
    "%",
    reference="Hendrycks and Dietterich 2019",
)

METRICS.add(*SCORES, *SCALED, AURC, EXCESS_AURC, ACCURACY_AT_80, ERROR, TOP5, MCE, RELATIVE_MCE)
METRICS.add(*OF_COSTS, *OF_OTHER_DATA, *OF_ATTACKS, *OF_SAMPLES, *OF_MAPS, *OF_DEPTH)
BUILT_IN = frozenset(METRICS)
