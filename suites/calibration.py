"""Calibration of logits (N, K) with labels (N,), image by image; the values' mean is the metric.

With p = softmax(logits), conf = max_k p_k and hit = [argmax p = label]. What is `scaled` is of
softmax(logits / T), T being the temperature with the least NLL on the other half of the images,
every second of them: no image has a part in its own temperature.

Reference: M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining Well Calibrated Probabilities Using
Bayesian Binning, AAAI 2015 (ece); G. W. Brier, Verification of forecasts expressed in terms of
probability, Monthly Weather Review 78(1), 1950 (brier); C. A. T. Ferro, T. E. Fricker, A
bias-corrected decomposition of the Brier score, QJRMS 138, 2012, and A. Kumar, P. Liang, T. Ma,
Verified Uncertainty Calibration, NeurIPS 2019, https://arxiv.org/abs/1909.10155
(squared_calibration_error); C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On Calibration of Modern
Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599 (scaled).
"""

import functools
from collections.abc import Callable

import numpy as np

POINTS = 100  # percentage points in 1
BINS = 15  # of equal width, right-closed; empty ones add nothing
AT_ONCE = 2**21  # logits
HOTTEST = 100.0  # temperatures that are tried are 1 / HOTTEST to HOTTEST

PerImage = Callable[..., np.ndarray]


def by_block(of_rows: PerImage) -> PerImage:
    """Return a function of logits (N, K), and of other arrays (N,), that takes some rows at a time.

    Args:
        of_rows: Function that gives each row a value, whatever the others are; in float64 all rows
            at once take gigabytes.
    """

    @functools.wraps(of_rows)
    def of_all(logits: np.ndarray, *others: np.ndarray) -> np.ndarray:
        step = max(1, AT_ONCE // max(1, logits.shape[1]))
        starts, arrays = range(0, max(1, len(logits)), step), (logits, *others)
        return np.concatenate([of_rows(*(a[i : i + step] for a in arrays)) for i in starts])

    return of_all


@by_block
def nll(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax  # not at the start of every command

    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


@by_block
def brier(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    p = softmax(logits.astype(np.float64), axis=1)
    p[np.arange(len(labels)), labels] -= 1
    return np.square(p).sum(axis=1)


@by_block
def _confidence(logits: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logits.astype(np.float64), axis=1).max(axis=1)


def _gaps(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of hit - conf, and the bin of each image's confidence."""
    conf = _confidence(logits)
    hits = logits.argmax(axis=1) == labels
    return hits - conf, np.clip(np.ceil(conf * BINS).astype(int) - 1, 0, BINS - 1)


def ece(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) of +-(hit - conf), the sign being that of the sum over the image's bin.

    Only their mean means something.
    """
    gap, bins = _gaps(logits, labels)
    return gap * np.sign(np.bincount(bins, gap, BINS))[bins]


def squared_calibration_error(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) of 2 gap m_B - m_B² - s_B² / n_B, in points², B being the image's bin.

    With m_B and s_B² the mean and the variance (over n_B - 1) of gap = hit - conf in a bin, the
    mean of these values is

        sum over bins of (n_B / N) (m_B² - s_B² / n_B),

    which has no bias: m_B² exceeds the square of the expected gap by s_B² / n_B. A bin of one image
    adds nothing. What varies from image to image is the influence of an image on this sum, so that
    the variance of these values over N is that of their mean; for a calibrated network, where all
    m_B are chance, it is twice that.
    """
    gap, bins = _gaps(logits, labels)
    count = np.bincount(bins, minlength=BINS)
    mean = np.bincount(bins, gap, BINS) / np.maximum(count, 1)
    squares = np.bincount(bins, np.square(gap - mean[bins]), BINS)
    chance = squares / np.maximum(count * (count - 1), 1)
    mean = np.where(count > 1, mean, 0.0)
    return POINTS**2 * (2 * gap * mean[bins] - (mean**2 + chance)[bins])


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of logits (N, K) with the least NLL; NLL is convex in its inverse."""

    from scipy.optimize import minimize_scalar  # a third of the start of commands that only read

    def loss(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        of_scaled = by_block(lambda some, of_some: nll(some.astype(np.float64) * factor, of_some))
        return float(of_scaled(logits, labels).mean())

    ends = -np.log(HOTTEST), np.log(HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded").x))


def temperatures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) of the temperature fitted to the half that an image is not in; 1 for a single image."""
    found = np.ones(len(labels))
    if len(labels) > 1:
        for own, other in ((0, 1), (1, 0)):
            found[own::2] = fit_temperature(logits[other::2], labels[other::2])
    return found


def scaled(metric: PerImage) -> PerImage:
    """Return a metric of logits as one of logits / T."""

    def of_scaled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return metric(logits / temperatures(logits, labels)[:, None], labels)

    return of_scaled
