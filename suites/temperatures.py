"""Temperatures at which rows of attention, softmax(scores / tau), have a given mean entropy.

dH / dtau = Var_alpha(scores) / tau^3 >= 0, so that there is one for each head, found by bisection.

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
HALVINGS = 24
LEVEL = 0.75  # entropy of a row of `level`, as a share of the largest
FLAT = 1e-5  # deviation within rows, as a share of the largest score: rounding


def rows(scores: Tensor, tau: Tensor | float) -> Tensor:
    """Return softmax(scores / tau) over keys, scores (N, heads, Q, K), tau (heads,)."""
    tau = tau[:, None, None] if isinstance(tau, Tensor) else tau
    return (scores / tau).softmax(dim=-1)


def match(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return tau (heads,): mean row entropy of softmax(scores / tau) is `wanted` (heads,).

    By bisection in log tau: dH / dtau = Var_alpha(scores) / tau^3 >= 0, so the root is unique. A
    head whose entropy is right at 1, or does not depend on tau, keeps 1.
    """

    def off(tau: Tensor) -> Tensor:
        return entropy(rows(scores, tau)).mean((0, 2)) - wanted

    low = torch.full_like(wanted, 1 / WIDEST)
    high = torch.full_like(wanted, WIDEST)
    same = off(torch.ones_like(wanted)).abs() <= 0.1 * MATCHED * wanted
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        above = off(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(same, torch.ones_like(wanted), (low * high).sqrt())


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
