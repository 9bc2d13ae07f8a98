"""Errors that a network would have avoided by not answering where it is unsure, image by image.

Images are ranked by confidence, the largest probability; R_k is the error among the k surest, those
of equal confidence being taken together.

    AURC = 1/N sum over k of R_k

The values (N,) that these functions return have the metric as their mean, and are the influence of
each image on it, so that their standard deviation over the root of N is its standard error:

    R_i + sum over k >= rank of i of (e_i - R_k) / k

for AURC, e_i being 1 for a wrong image: one more right image among the surest lowers all R_k behind
it. The best that e errors in N images can have, errors last, is r + (1 - r) log(1 - r) for large N,
r = e / N.

Reference: Y. Geifman, R. El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017,
https://arxiv.org/abs/1705.08500; Y. Geifman, G. Uziel, R. El-Yaniv, Bias-Reduced Uncertainty
Estimation for Deep Neural Classifiers, ICLR 2019, https://arxiv.org/abs/1805.08206 (AURC, E-AURC).
"""

import numpy as np

from harness.suites.calibration import by_block

COVERAGE = 0.8


@by_block
def _confidence(logits: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    return log_softmax(logits.astype(np.float64), axis=1).max(axis=1)


def _ranked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) of the order of images, surest first; whether each is wrong, and its confidence."""
    confidence = _confidence(logits)
    order = np.argsort(-confidence, kind="stable")
    wrong = (logits.argmax(axis=1) != labels).astype(np.float64)
    return order, wrong[order], confidence[order]


def _risks(wrong: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(N,) of R_k, where k counts all images of equal confidence."""
    last = np.searchsorted(-confidence, -confidence, side="right")
    return np.cumsum(wrong)[last - 1] / last


def aurc(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Influence of each image on the area under the risk-coverage curve, less its mean, plus it."""
    order, wrong, confidence = _ranked(logits, labels)
    risks = _risks(wrong, confidence)
    first = np.searchsorted(-confidence, -confidence, side="left")
    last = np.searchsorted(-confidence, -confidence, side="right")
    # Of all ranks from the first of equal confidence on: 1 / k, and R_k / k.
    weights = np.append(np.cumsum((1 / last)[::-1])[::-1], 0)[first]
    pulled = np.append(np.cumsum((risks / last)[::-1])[::-1], 0)[first]
    return _unranked(risks + wrong * weights - pulled, order)


def excess_aurc(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AURC less the least that as many errors can have."""
    wrong = (logits.argmax(axis=1) != labels).astype(np.float64)
    n, errors = len(wrong), int(wrong.sum())
    ranked_last = np.sort(wrong)
    best = float((np.cumsum(ranked_last) / np.arange(1, n + 1)).mean())
    slope = -np.log1p(-errors / n) if errors < n else 0.0
    return aurc(logits, labels) - best - slope * (wrong - errors / n)


def accuracy_at_80(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy among the surest 80 %, with the influence of each image on the threshold, too."""
    order, wrong, _ = _ranked(logits, labels)
    n = len(wrong)
    kept = max(1, round(COVERAGE * n))
    share, near = kept / n, int(np.sqrt(n)) + 1
    inside = np.arange(n) < kept
    accuracy = 1 - wrong[:kept].mean()
    at_threshold = 1 - wrong[max(0, kept - near) : kept + near].mean()
    own = inside * (1 - wrong - accuracy) - (at_threshold - accuracy) * (inside - share)
    return _unranked(accuracy + own / share, order)


def _unranked(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values by rank, image by image."""
    found = np.empty_like(values)
    found[order] = values
    return found
