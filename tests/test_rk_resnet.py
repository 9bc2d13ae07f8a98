import pytest
import torch

from models.rk_resnet import EVALUATIONS, RungeKuttaBlock, rk_resnet, rk_resnet_tied
from models.slots import resnet18_slot


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


def test_weights_are_those_of_plain_slots() -> None:
    counts = {
        sum(p.numel() for p in build(width=8).parameters())
        for build in (rk_resnet, rk_resnet_tied, resnet18_slot)
    }
    assert len(counts) == 1


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(LookupError, match="Did you mean `rk4`"):
        rk_resnet(width=8, method="rk5")
