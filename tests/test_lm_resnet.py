import cmath
import copy
import math

import pytest
import torch
from torch import nn

from harness.models.lm_resnet import TwoStep, lm_resnet, lm_resnet20, preact_resnet20
from harness.models.slots import resnet18_slot


def roots(k: float, z: float) -> tuple[float, float]:
    """Moduli of the roots of r^2 - (1 - k + z) r - k."""
    b = 1 - k + z
    root = cmath.sqrt(b * b + 4 * k)
    return abs((b + root) / 2), abs((b - root) / 2)


class Scaled(nn.Module):
    """f(x) = z x."""

    def __init__(self, z: float) -> None:
        super().__init__()
        self.z = z

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.z * x


def marched(k: float, z: float, steps: int) -> float:
    """Growth of the two-step method on u' = z u, dt = 1."""
    step = TwoStep(Scaled(z), k).double()
    before, x = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 0.7))
    for _ in range(steps):
        before, x = x, step(x, before)
    return float(x.abs())


def test_no_second_step_is_the_plain_network_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain = resnet18_slot(width=8).eval()
    torch.manual_seed(0)
    two = lm_resnet(width=8, k=0.0).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain(images), two(images))


@pytest.mark.parametrize("k", [-0.9, -0.5, -0.1, 0.0, 0.3, 0.9])
def test_the_real_interval_ends_at_minus_two_times_one_minus_k(k: float) -> None:
    edge = -2 * (1 - k)
    assert max(roots(k, 0.999 * edge)) <= 1 < max(roots(k, 1.001 * edge))
    assert marched(k, 0.99 * edge, 500) < 2
    assert any(marched(k, 1.02 * edge, steps) > 100 for steps in (500, 4000))


def test_zero_stability_is_refused_beyond_its_limits() -> None:
    for k in (-0.99, 1.0):
        assert max(roots(k, 0.0)) <= 1 + 1e-12
    for k in (-1.01, 1.01):
        assert max(roots(k, 0.0)) > 1
        with pytest.raises(ValueError, match="zero-stable"):
            lm_resnet(width=8, k=k)


def test_it_is_consistent_with_a_slower_equation() -> None:
    # (1 + k) u' = f(u): to first order in dt.
    k, errors = 0.4, []
    for steps in (200, 400):
        dt = 1 / steps
        before, x = 1.0, math.exp(-dt / (1 + k))
        for _ in range(steps - 1):
            before, x = x, (1 - k) * x + k * before - dt * x
        errors.append(abs(x - math.exp(-1 / (1 + k))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


def test_the_midpoint_rule_is_a_member() -> None:
    step = TwoStep(nn.Linear(3, 3), 1.0)
    before, x = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(step(x, before), before + step.f(x))


def test_k_is_learned_from_a_start_between_minus_a_tenth_and_zero() -> None:
    starts = [p.item() for s in range(20) for n, p in named(s) if n.endswith(".k")]
    assert len(starts) == 80 and -0.1 <= min(starts) < -0.08 < -0.02 < max(starts) <= 0


def named(seed: int) -> list:
    torch.manual_seed(seed)
    return list(lm_resnet(width=8).named_parameters())


def test_presets_restart_where_the_shape_changes() -> None:
    torch.manual_seed(0)
    model = lm_resnet20(width=16).eval()
    learned = [n for n, p in model.named_parameters() if n.endswith(".k")]
    # 9 blocks: the very first has no block before it, two change the shape.
    assert len(learned) == 6
    plain = preact_resnet20(width=16).eval()
    twin = copy.deepcopy(model)
    for name, p in twin.named_parameters():
        if name.endswith(".k"):
            p.data.zero_()
    plain.load_state_dict({n: v for n, v in twin.state_dict().items() if not n.endswith(".k")})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(twin(images), plain(images))
    assert not torch.allclose(model(images), plain(images), rtol=1e-4, atol=1e-5)
