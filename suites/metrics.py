"""Logits and labels to a number.

With p = softmax(logits), conf = max_k p_k and hit = [argmax p = label]. Every function takes
logits (N, K) and labels (N,), returns a float, and refuses N = 0.

Reference: M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining Well Calibrated Probabilities Using
Bayesian Binning, AAAI 2015 (ece); G. W. Brier, Verification of forecasts expressed in terms of
probability, Monthly Weather Review 78(1), 1950 (brier).
"""

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

BINS = 15  # of equal width, right-closed; empty ones add nothing


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if len(logits) == 0:
        raise ValueError("A metric needs at least one image; got 0.")
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"`labels` must have shape ({len(logits)},), one per image; got {tuple(labels.shape)}."
        )
    return logits.double(), labels


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) booleans: whether the largest logit is the label's."""
    return logits.argmax(dim=1) == labels


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """mean hit, in [0, 1]."""
    logits, labels = _checked(logits, labels)
    return float(hits(logits, labels).double().mean())


def top5(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose label is among the five largest logits, in [0, 1]."""
    logits, labels = _checked(logits, labels)
    largest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return float((largest == labels[:, None]).any(dim=1).double().mean())


def nll(logits: Tensor, labels: Tensor) -> float:
    """mean of -log p_label, in nats, >= 0."""
    logits, labels = _checked(logits, labels)
    return float(nll_loss(logits.log_softmax(dim=1), labels))


def brier(logits: Tensor, labels: Tensor) -> float:
    """mean of sum_k (p_k - [k = label])^2, in [0, 2]."""
    logits, labels = _checked(logits, labels)
    p = logits.softmax(dim=1)
    p[torch.arange(len(p)), labels] -= 1
    return float(p.square().sum(dim=1).mean())


def ece(logits: Tensor, labels: Tensor) -> float:
    """sum over bins ((m-1)/15, m/15] of (|B| / N) |mean hit(B) - mean conf(B)|, in [0, 1].

    Biased upward at small N: compare at equal N only.
    """
    logits, labels = _checked(logits, labels)
    conf = logits.softmax(dim=1).amax(dim=1)
    bins = ((conf * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    gap = hits(logits, labels).double() - conf
    sums = torch.zeros(BINS, dtype=gap.dtype).index_add_(0, bins, gap)
    return float(sums.abs().sum() / len(gap))


def nll_of_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) of -log p_label; `nll` is their mean."""
    logits, labels = _checked(logits, labels)
    return nll_loss(logits.log_softmax(dim=1), labels, reduction="none")


def brier_of_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) of sum_k (p_k - [k = label])^2; `brier` is their mean."""
    logits, labels = _checked(logits, labels)
    p = logits.softmax(dim=1)
    p[torch.arange(len(p)), labels] -= 1
    return p.square().sum(dim=1)


def top5_of_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) booleans; `top5` is their mean."""
    logits, labels = _checked(logits, labels)
    largest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (largest == labels[:, None]).any(dim=1)


def ece_of_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) of +-(hit - conf), the sign being that of the sum over the image's bin.

    `ece` is their mean. It is no mean of what single images do, since the sign depends on all; but
    where no sum is near 0 the signs stay, and the variance of these values over N is that of `ece`:
    the infinitesimal jackknife, to which the bootstrap over images converges. Where a sum is near 0
    its absolute value varies less than that, so that the variance is too large rather than small.
    """
    logits, labels = _checked(logits, labels)
    conf = logits.softmax(dim=1).amax(dim=1)
    bins = ((conf * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    gap = hits(logits, labels).double() - conf
    sums = torch.zeros(BINS, dtype=gap.dtype).index_add_(0, bins, gap)
    return gap * sums.sign()[bins]


METRICS = (accuracy, nll, brier, ece)  # what is measured wherever there are logits
OF_IMAGES = {
    "accuracy": hits,
    "top5": top5_of_images,
    "nll": nll_of_images,
    "brier": brier_of_images,
    "ece": ece_of_images,
}  # the metrics that are means over images, image by image
