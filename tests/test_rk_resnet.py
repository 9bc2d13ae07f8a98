import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.models.rk_resnet import EVALUATIONS, RungeKuttaBlock, rk_resnet, rk_resnet_tied
from harness.models.slots import resnet18_slot


def block(method: str) -> RungeKuttaBlock:
    torch.manual_seed(0)
    made = RungeKuttaBlock(8, method).double()
    torch.nn.init.normal_(made.f[5].weight, std=0.02)
    return made


@pytest.mark.parametrize("method", EVALUATIONS)
def test_stages_share_one_function(method: str) -> None:
    made, calls = block(method), []
    made.f.register_forward_hook(lambda *_: calls.append(1))
    made(torch.randn(2, 8, 4, 4, dtype=torch.float64))
    assert len(calls) == EVALUATIONS[method]


def test_updates_are_the_textbook_s() -> None:
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    made = block("midpoint")
    f = made.f
    torch.testing.assert_close(made(x), x + f(x + f(x) / 2))
    made = block("heun")
    torch.testing.assert_close(made(x), x + (made.f(x) + made.f(x + made.f(x))) / 2)
    made = block("rk4")
    f = made.f
    k1 = f(x)
    k2 = f(x + k1 / 2)
    k3 = f(x + k2 / 2)
    k4 = f(x + k3)
    torch.testing.assert_close(made(x), x + (k1 + 2 * k2 + 2 * k3 + k4) / 6)


class Field(nn.Module):
    """f(u) = step g(u)."""

    def __init__(self, g: Callable[[Tensor], Tensor], step: float) -> None:
        super().__init__()
        self.g, self.step = g, step

    def forward(self, u: Tensor) -> Tensor:
        return self.step * self.g(u)


def stepped(method: str, g: Callable[[Tensor], Tensor], step: float, u: float) -> float:
    made = RungeKuttaBlock(8, method)
    made.f = Field(g, step)
    return float(made(torch.full((1, 1, 1, 1), u, dtype=torch.float64)))


@pytest.mark.parametrize("method, order", [("midpoint", 2), ("heun", 2), ("heun3", 3), ("rk4", 4)])
def test_orders_on_a_linear_and_on_a_nonlinear_equation(method: str, order: int) -> None:
    # u' = -u and u' = u^2 from 1/2, whose solution is 1 / (2 - t).
    for g, u, exact in (
        (torch.neg, 1.0, lambda t: math.exp(-t)),
        (torch.square, 0.5, lambda t: 1 / (2 - t)),
    ):
        errors = [abs(stepped(method, g, h, u) - exact(h)) for h in (0.1, 0.05)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.2)


@pytest.mark.parametrize(
    "method, edge", [("midpoint", -2.0), ("heun", -2.0), ("heun3", -2.51275), ("rk4", -2.78529)]
)
def test_the_real_interval_ends_where_it_should(method: str, edge: float) -> None:
    inside, outside, right = (
        abs(stepped(method, torch.clone, z, 1.0)) for z in (0.999 * edge, 1.001 * edge, 1e-3)
    )
    assert inside < 1 < outside and right > 1


def turned(u: Tensor) -> Tensor:
    """i u, for u of two channels, real and imaginary part."""
    return torch.stack((-u[:, 1], u[:, 0]), dim=1)


@pytest.mark.parametrize("method, edge", [("heun", 0.0), ("heun3", 3**0.5), ("rk4", 8**0.5)])
def test_the_imaginary_interval_ends_where_it_should(method: str, edge: float) -> None:
    u = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    made = RungeKuttaBlock(8, method)

    def growth(y: float) -> float:
        made.f = Field(turned, y)
        return float(made(u).norm())

    assert growth(edge + 0.1) > 1 + 1e-6
    assert edge == 0 or growth(edge - 0.1) < 1


def test_weights_are_those_of_plain_slots() -> None:
    counts = {
        sum(p.numel() for p in build(width=8).parameters())
        for build in (rk_resnet, rk_resnet_tied, resnet18_slot)
    }
    assert len(counts) == 1


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(LookupError, match="Did you mean `rk4`"):
        rk_resnet(width=8, method="rk5")
