"""Checks of gradients against the loss itself: tensors with one row an image, of true and false.

    gradients     zero            gradient of the loss exactly 0, or not finite
                  flat            the loss does not rise on a step of eps / 4 along the gradient
                  probabilities   logits in [0, 1] that sum to 1
    derivatives   disagree        a directional derivative is not the difference quotient

The loss is the cross entropy as attacks take it (see `harness.suites.attacks.losses`).

Reference: A. Athalye, N. Carlini and D. Wagner, Obfuscated gradients give a false sense of
security, ICML 2018, https://arxiv.org/abs/1802.00420. Deviations: `flat`, the steps and the
tolerances are ours.
"""

import copy
import math

import torch
from torch import Tensor, nn

from harness.suites.attacks.balls import Ball
from harness.suites.attacks.checks import Flags, keys_of, moves
from harness.suites.attacks.contract import check, unseen
from harness.suites.attacks.losses import cross_entropy
from harness.suites.attacks.problem import Classifier, ask

DIRECTIONS = 4  # the first is that of the gradient
TOLERANCE = 0.05  # of a derivative


def in_float64(model: nn.Module) -> nn.Module:
    """Return a copy of a model that calculates in float64, for difference quotients."""
    return copy.deepcopy(model).double()


def gradients(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
) -> Flags:
    """Check gradients as an attack meets them: zero, flat, probabilities.

    Args:
        subject: Model as it is attacked, in its own precision.
    """
    check(images, labels, eps, norm, indices)
    keys, ball = keys_of(images, indices), Ball(eps, norm)
    logits, value, slope = loss_and_slope(subject, images, labels, keys)
    step = ball.project(images + eps / 4 * ball.direction(slope.nan_to_num()), images)
    sums = (logits.sum(1) - 1).abs() < 1e-3
    return {
        "zero": unseen(subject, images, labels, indices=keys),
        "flat": ~(loss_at(subject, step, labels, keys) > value),
        "probabilities": sums & (logits >= 0).all(1) & (logits <= 1).all(1),
    }


def derivatives(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    indices: Tensor | None = None,
    seed: int = 0,
) -> Flags:
    """Check gradients against difference quotients: disagree.

    One derivative is along the gradient, three are along random directions; the quotient is central
    with a step of 1e-5 eps in float64 (1e-2 eps in float32). A derivative disagrees where it is off
    by more than 5 % of itself and of a random direction's usual one, and what rounding explains.

    Args:
        subject: Model, best as `in_float64` copies it, and then with `images` in float64.
    """
    check(images, labels, eps, "l2", indices)
    keys, ball = keys_of(images, indices), Ball(eps, "l2")
    logits, _, slope = loss_and_slope(subject, images, labels, keys)
    step = eps * (1e-5 if images.dtype == torch.float64 else 1e-2)
    room, size = torch.finfo(images.dtype).eps, math.sqrt(math.prod(images.shape[1:]))
    disagree, usual = torch.zeros_like(labels, dtype=torch.bool), slope.flatten(1).norm(dim=1)
    for number in range(DIRECTIONS):
        way = moves(images, keys, ball, seed, "derivative", number)
        if number == 0:
            way = ball.direction(slope)
        known = (slope * way).flatten(1).sum(1)
        above = loss_at(subject, images + step * way, labels, keys)
        below = loss_at(subject, images - step * way, labels, keys)
        found = (above - below) / (2 * step)
        rounding = 100 * room * (above.abs() + logits.abs().amax(1)) / step
        allowed = TOLERANCE * (torch.maximum(found.abs(), known.abs()) + usual / size) + rounding
        disagree |= ~((found - known).abs() <= allowed)
    return {"disagree": disagree}


def loss_and_slope(
    subject: Classifier, images: Tensor, labels: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, K), the loss (N,) and its gradient, 0 where logits carry none."""
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        logits = ask(subject, inputs, keys)
        value, _ = cross_entropy(logits, labels, labels)
        slope = torch.zeros_like(inputs)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), inputs)
    return logits.detach(), value.detach(), slope


def loss_at(subject: Classifier, points: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
    """Return the loss, (N,)."""
    with torch.no_grad():
        return cross_entropy(ask(subject, points, keys), labels, labels)[0]
