"""Temperatures at which rows of attention, softmax(scores / tau), have a given mean entropy.

dH / dlog tau = Var_alpha(scores / tau) >= 0, so that there is one for each head, found by Newton's
method.

The entropy of `level` is 0.75 log K for K keys: of 64 keys, 23 share a row. A share near 1 leaves
rows that are nearly uniform, whose statistics are proportional to the contrast of the scores; one
near 0 leaves their maxima alone. All between is reached by every head that is not constant.
"""

import math

import torch
from torch import Tensor

from harness.suites.map_statistics import entropy

MATCHED = 1e-3  # relative error of the matched entropy
WIDEST = 2.0**16  # the temperatures tried are 1 / WIDEST to WIDEST
STEPS = 40  # of Newton's method, or halvings; about six are taken
ROUNDING = 2e-6  # relative error of the entropy at which the search ends
LEVEL = 0.75  # entropy of a row of `level`, as a share of the largest
FLAT = 1e-5  # deviation within rows, as a share of the largest score: rounding


def rows(scores: Tensor, tau: Tensor | float) -> Tensor:
    """Return softmax(scores / tau) over keys, scores (N, heads, Q, K), tau (heads,)."""
    tau = tau[:, None, None] if isinstance(tau, Tensor) else tau
    return (scores / tau).softmax(dim=-1)


def match(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return tau (heads,): mean row entropy of softmax(scores / tau) is `wanted` (heads,).

    By Newton's method in log tau, within a bracket that halves where a step would leave it: with z
    = scores / tau, dH / dlog tau = Var_alpha(z) >= 0, so the root is unique. A head whose entropy
    is right at 1, or does not depend on tau, keeps 1.
    """
    at = torch.zeros_like(wanted)  # log tau
    low, high = at - math.log(WIDEST), at + math.log(WIDEST)
    for _ in range(STEPS):
        found, slope = entropy_and_slope(scores, at.exp())
        off = found - wanted
        close = off.abs() <= torch.where(at == 0, 0.1 * MATCHED, ROUNDING) * wanted
        if close.all():
            break
        low, high = torch.where(off > 0, low, at), torch.where(off > 0, at, high)
        step = at - off / slope
        middle = (low + high) / 2
        at = torch.where(close, at, torch.where((step > low) & (step < high), step, middle))
    return at.exp()


def entropy_and_slope(scores: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row entropy H of softmax(scores / tau), and dH / dlog tau, each (heads,).

    With l = log alpha, H = -E_alpha[l] and dH / dlog tau = Var_alpha(l), averaged over rows.
    """
    logs = (scores / tau[:, None, None]).log_softmax(dim=-1)
    product = logs.exp()
    first = product.mul_(logs).sum(dim=-1)
    second = product.mul_(logs).sum(dim=-1)
    return -first.mean((0, 2)), (second - first.square()).mean((0, 2))


def level(scores: Tensor) -> Tensor:
    """Return tau (heads,): mean row entropy of softmax(scores / tau) is `LEVEL` log K.

    NaN for a head that no temperature brings there: one whose rows are constant but for rounding,
    or so many of them that the mean stays above.
    """
    wanted = scores.new_full(scores.shape[1:2], LEVEL * math.log(scores.shape[-1]))
    spread = scores.var(dim=-1, correction=0).mean((0, 2)).sqrt()
    flat = spread <= FLAT * scores.abs().amax((0, 2, 3))
    unit = torch.where(flat, torch.ones_like(spread), spread)
    tau = unit * match(scores / unit[:, None, None], wanted)
    off = (entropy(rows(scores, tau)).mean((0, 2)) - wanted).abs()
    return tau.masked_fill(flat | ~(off <= MATCHED * wanted), torch.nan)
