"""The conductances g of Perona-Malik diffusion as functions of q = (s / kappa)².

    rational      g = 1 / (1 + q)                g' = -g²
    exponential   g = exp(-q)                    g' = -g
    weickert      g = 1 - exp(-3.31488 / q⁴)     g' = -(1 - g) 4 * 3.31488 / q⁵

g' is dg/dq. Weickert's constant makes the flux s g(s) grow for s < kappa and fall beyond.
"""

import torch
from torch import Tensor

EDGE_STOPS = ("rational", "exponential", "weickert")
WEICKERT = 3.31488
START = {"rational": 1.0, "exponential": 0.0, "weickert": 0.0}  # added to q: 1 + q is 1 / g itself
FLAT = 0.2  # at and below this q Weickert's g is 1 to the last bit of float64


def conductance(q: Tensor, edge_stop: str) -> Tensor:
    """Return g(q), differentiable."""
    if edge_stop == "rational":
        return 1 / (1 + q)
    if edge_stop == "exponential":
        return torch.exp(-q)
    return -torch.expm1(-WEICKERT / q.clamp(min=FLAT) ** 4)


def resistance_(q: Tensor, edge_stop: str) -> Tensor:
    """Replace START + q by 1 / g(q): infinite where g vanishes."""
    if edge_stop == "rational":
        return q
    if edge_stop == "exponential":
        return q.exp_()
    return q.clamp_(min=FLAT).pow_(-4).mul_(-WEICKERT).expm1_().neg_().reciprocal_()


def conductance_and_slope(q: Tensor, edge_stop: str) -> tuple[Tensor, Tensor]:
    """Return g(q) and 2 g'(q), in new tensors, given START + q."""
    if edge_stop == "rational":
        g = q.reciprocal()
        return g, (g * g).mul_(-2)
    if edge_stop == "exponential":
        g = torch.neg(q).exp_()
        return g, g * -2
    q = q.clamp(min=FLAT)
    loss = q.pow(-4).mul_(-WEICKERT).exp_()
    return 1 - loss, loss.mul(-8 * WEICKERT).div_(q.pow_(5))


def flux_slope_(q: Tensor, edge_stop: str) -> Tensor:
    """Replace START + q by -(g + 2 g' q), minus the slope of the flux s g in s."""
    if edge_stop == "rational":
        g = q.reciprocal_()
        return torch.addcmul(g, g, g, value=-2, out=g)
    g, slope = conductance_and_slope(q, edge_stop)
    return q.mul_(slope).add_(g).neg_()
