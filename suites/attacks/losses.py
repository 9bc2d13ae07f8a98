"""What attacks raise: functions of logits that are large where an image is misclassified.

A loss takes logits z (N, K), labels y (N,) and targets t (N,), and returns two tensors (N,): its
value, and the logarithm of a weight of the value's gradient, used where gradients are averaged over
random draws. z_(k) is the k-th largest logit.

    cross_entropy   -log softmax(z)_y, as its increasing function log sum_{k != y} e^z_k - z_y = l
    dlr             -(z_y - max_{k != y} z_k) / (z_(1) - z_(3) + 1e-12)
    targeted_dlr    -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)

The attacks use a loss by its order and its gradient by its direction alone, and grad of the cross
entropy is sigmoid(l) grad l. So nothing changes in exact arithmetic, but in float32 softmax
saturates: at l < -17 its probability rounds to 1 and part of the gradient is lost, at l < -104 all
of it. l has no such limit. sigmoid(l) is the weight above.

Reference: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020, https://arxiv.org/abs/2003.01690, equations 3 and 4.
Deviations: none but the one described.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
TINY = 1e-12


def at(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of one class for each image, (N,)."""
    return logits.gather(1, classes[:, None])[:, 0]


def without(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits with -inf at the labels."""
    return logits.scatter(1, labels[:, None], -math.inf)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - max_{k != y} z_k, (N,)."""
    return at(logits, labels) - without(logits, labels).max(1).values


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    value = without(logits, labels).logsumexp(1) - at(logits, labels)
    return value, functional.logsigmoid(value.detach())


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    enough_classes(logits, 3, "The DLR loss")
    top = logits.topk(3).values
    value = -margin(logits, labels) / (top[:, 0] - top[:, 2] + TINY)
    return value, torch.zeros_like(value)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    enough_classes(logits, 4, "The targeted DLR loss")
    top = logits.topk(4).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY
    value = (at(logits, targets) - at(logits, labels)) / spread
    return value, torch.zeros_like(value)


def enough_classes(logits: Tensor, count: int, what: str) -> None:
    """Refuse a loss that needs more classes than there are.

    Raises:
        ValueError: There are fewer than `count` classes.
    """
    if logits.shape[1] < count:
        raise ValueError(
            f"{what} needs at least {count} classes; got {logits.shape[1]}. Attack with "
            "`apgd_ce`, `fab_t` and `square`, which need two."
        )
