"""What is measured: every metric with its formula, its unit and which way is better.

A metric of a classifier has a per-image form, of logits (N, K) and labels (N,), with p =
softmax(logits), conf = max_k p_k and hit = [argmax p = label]; its value is the mean over images.
Metrics that a suite observes otherwise (of attention maps, of solvers, of depth) have their formula
where they are observed. A family of statistics is one metric with several variants: the entropy of
the `used`, the `sharp` or the `matched` map; `variant` joins the parts of one.

Arrays are NumPy's, so that a table can be read, compared and checked without PyTorch.

Formulas that take more than a line stand in `calibration`, `selective` and `detection`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.suites import calibration, detection, selective
from harness.suites.adversarial_metrics import OF_ATTACKS
from harness.suites.generation_metrics import OF_SAMPLES
from harness.suites.metric import EXTREMES, RATE, Metric, parts_of


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

NFE = Metric(
    "nfe",
    "NFE",
    "Evaluations of the right-hand side of the differential equation that contributed to an image, "
    "averaged over images; counted in the equation, not in solver steps.",
    "down",
    "evaluations",
    0,
    by_image=True,
)
EVALUATIONS = Metric(
    "evaluations",
    "residual evaluations",
    "Functions f of x + f(x) evaluated for an image, anywhere in the network: one for each block, "
    "as many as it applies for a block of several, those of the solver for an equation.",
    "down",
    "evaluations",
    0,
    by_image=True,
)
MACS = Metric(
    "macs",
    "multiply-adds",
    "Multiply-adds of convolutions and matrix products that the whole network spends on an image.",
    "down",
    "multiply-adds",
    0,
    by_image=True,
)
STOPPED = Metric(
    "stopped_early",
    "stopped early",
    "Share of images for which an adaptive solver ran out of evaluations, or of step size, before "
    "the end of the interval: their answers are of an unfinished solution.",
    "down",
    "",
    0,
    1,
    by_image=True,
)
SECONDS = Metric(
    "seconds",
    "seconds an image",
    "Wall time of a batch, shared out evenly; of one machine, so that nobody is ranked by it.",
    unit="s",
    low=0,
    by_image=True,
)
NFE_GAMMA = Metric(
    "nfe_gamma",
    "gamma of NFE",
    "Goodman and Kruskal's gamma over images of their evaluations and how hard they are: minus "
    "their `margin` (p(label) less the largest other probability), or the `severity` of their "
    "noise; 1: of two images with unlike evaluations the harder one always costs more. `dealt "
    "margin` has evaluations dealt to other images: what chance gives.",
    low=-1,
    high=1,
    reference="Goodman and Kruskal 1963",
)
NFE_AUROC = Metric(
    "nfe_auroc",
    "AUROC of NFE",
    "Share of pairs of a misclassified and a right image in which the former costs more "
    "evaluations, ties counting half; 0.5: evaluations tell nothing of errors.",
    low=0,
    high=1,
    reference="DeLong et al. 1988",
)
NFE_TIE = Metric(
    "nfe_tie",
    "equal NFE",
    "Largest share of images with equal evaluations: where it is near 1 nothing is ordered.",
    low=0,
    high=1,
)
TRAINED_WITH = Metric(
    "trained_with",
    "trained with",
    "1 for the solver, with its steps or tolerance, that the network was trained with.",
    low=0,
    high=1,
)
NFE_RHO = Metric(  # of results before version 3 of the suite
    "nfe_rho",
    "rank correlation of NFE",
    "Spearman's rho over images of their evaluations with their loss, their margin (p(label) less "
    "the largest other probability) or the severity of their noise; `dealt loss` has evaluations "
    "dealt to other images: what chance gives. Ties bound it, so that `nfe_gamma` took its place.",
    low=-1,
    high=1,
    reference="Bonett and Wright 2000",
)

OF_A_MAP = " Of a row of the map, averaged over rows and images."
ENTROPY = Metric(
    "entropy",
    "row entropy",
    "Minus the sum of a log a; log K for a uniform row of K keys." + OF_A_MAP,
    unit="nats",
    low=0,
    by_image=True,
)
CONCENTRATION = Metric(
    "concentration",
    "concentration",
    "1 - entropy / log K; 0 for a uniform row." + OF_A_MAP,
    low=0,
    high=1,
    by_image=True,
)
SUPPORT = Metric(
    "support",
    "effective support",
    "exp(entropy): how many keys share a row.",
    unit="keys",
    low=1,
    by_image=True,
)
GINI = Metric(
    "gini",
    "Gini coefficient",
    "Inequality of a row; 0 for a uniform one." + OF_A_MAP,
    low=0,
    high=1,
    by_image=True,
)
TOTAL_VARIATION = Metric(
    "total_variation",
    "total variation",
    "K / edges times the sum over neighbors of |a_u - a_v|; 0 for a uniform row." + OF_A_MAP,
    low=0,
    by_image=True,
)
DIRICHLET = Metric(
    "dirichlet",
    "Dirichlet energy",
    "K² / edges times half the sum over neighbors of (a_u - a_v)²." + OF_A_MAP,
    low=0,
    by_image=True,
)
BORDER = Metric(
    "border",
    "border mass",
    "Share of a row on the outer ring of the grid.",
    low=0,
    high=1,
    by_image=True,
)
SPREAD = Metric(
    "spread",
    "spread",
    "Root mean square distance of a row from its center.",
    unit="tokens",
    low=0,
    by_image=True,
)
DISTANCE = Metric(
    "distance",
    "attention distance",
    "Mean distance of the keys from the query.",
    unit="tokens",
    low=0,
    by_image=True,
)
MAP_STATISTICS = (
    ENTROPY,
    CONCENTRATION,
    SUPPORT,
    GINI,
    TOTAL_VARIATION,
    DIRICHLET,
    BORDER,
    SPREAD,
    DISTANCE,
)
INSTABILITY = Metric(
    "instability",
    "instability",
    "1 - Spearman's rank correlation of a row under the clean and under the changed image.",
    low=0,
    high=2,
    by_image=True,
)
CONSTANT = Metric(
    "constant",
    "constant rows",
    "Share of rows without ranks, left out of the instability; of `level`, share of heads that no "
    "temperature brings to its entropy, left out of all.",
    low=0,
    high=1,
    by_image=True,
)
ZERO = Metric(
    "zero",
    "empty maps",
    "Share of saliency maps without a positive place, left out.",
    low=0,
    high=1,
    by_image=True,
)
TAU = Metric(
    "tau",
    "temperature",
    "Temperature at which the rows of softmax(scores / tau) have the entropy of the used map; of "
    "`level`, 0.75 log K.",
    low=0,
    by_image=True,
)
GAIN = Metric(
    "gain",
    "gain in accuracy",
    "Accuracy with the used map less that of the same network with another map in its place.",
    low=-1,
    high=1,
    by_image=True,
)

GROWTH = Metric(
    "log10_growth",
    "growth, log10",
    "log10 of the relative change behind a block over that of the image.",
    by_image=True,
)
GRADIENT_NORM = Metric(
    "log10_gradient_norm",
    "gradient norm, log10",
    "log10 of |d loss / d h| behind a block.",
    by_image=True,
)
SPECTRAL_NORM = Metric(
    "spectral_norm",
    "spectral norm",
    "Largest singular value of a block's derivative.",
    low=0,
    by_image=True,
)
SPECTRAL_RADIUS = Metric(
    "spectral_radius",
    "spectral radius",
    "Largest |eigenvalue| of a block's derivative.",
    low=0,
    by_image=True,
)
LOG_NORM = Metric(
    "log_norm",
    "logarithmic norm",
    "Largest eigenvalue of (J + J^T) / 2, less 1; <= 0 where the flow of a block contracts.",
    by_image=True,
)
STEP_RATIO = Metric(
    "step_ratio",
    "step over limit",
    "Step size of a block over its stability limit.",
    low=0,
    by_image=True,
)

OOD_AUROC = Metric(
    "ood_auroc",
    "AUROC",
    "Share of pairs of an image of the data set and one of another in which the score of the former"
    " is larger, ties counting half; 0.5: the score tells nothing.",
    "up",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_auroc"),
    reference="Hendrycks and Gimpel 2017",
)
OOD_AUPR = Metric(
    "ood_aupr",
    "AUPR",
    "Average precision, the images of the data set being the positive ones; a score that tells "
    "nothing has their share among all.",
    "up",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_aupr"),
    reference="Hendrycks and Gimpel 2017",
)
OOD_FPR95 = Metric(
    "ood_fpr95",
    "FPR at 95 % TPR",
    "Share of images of another data set whose score reaches the largest threshold that 95 % of "
    "the data set's own reach; 0.95: the score tells nothing.",
    "down",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_fpr95"),
    reference="Liu et al. 2020",
)

METRICS.add(*SCORES, *SCALED, AURC, EXCESS_AURC, ACCURACY_AT_80)
METRICS.add(ERROR, TOP5, MCE, RELATIVE_MCE, NFE, EVALUATIONS, MACS, STOPPED, SECONDS)
METRICS.add(NFE_GAMMA, NFE_AUROC, NFE_TIE, TRAINED_WITH, NFE_RHO)
METRICS.add(OOD_AUROC, OOD_AUPR, OOD_FPR95)
METRICS.add(*OF_ATTACKS)
METRICS.add(*OF_SAMPLES)
METRICS.add(*MAP_STATISTICS, INSTABILITY, CONSTANT, ZERO, TAU, GAIN)
METRICS.add(GROWTH, GRADIENT_NORM, SPECTRAL_NORM, SPECTRAL_RADIUS, LOG_NORM, STEP_RATIO)
BUILT_IN = frozenset(METRICS)
