"""Nulls of networks that are random in training: of equal output variance, measured on digits."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.models.catalog import CATALOG
from harness.models.equal_variance import (
    MATCHED,
    MATCHED_AT_THE_START,
    MOST,
    dropout,
    dropped,
    feature_noise,
)
from harness.models.neural_sde import SDEBlock
from harness.models.shake_shake import ShakeBlock
from harness.models.size import size_of
from harness.models.slots import ResidualFunction
from harness.models.stochastic_depth import StochasticSlot
from harness.running.initial import initialize
from harness.suites.datasets import as_input, load

IDEAS = {
    "neural_sde": ("neural_sde_dropout", "neural_sde_feature_noise"),
    "stochastic_depth": ("stochastic_depth_dropout", "stochastic_depth_feature_noise"),
    "shake_shake": ("shake_shake_dropout", "shake_shake_feature_noise"),
}
PAIRS = [(idea, null) for idea, nulls in IDEAS.items() for null in nulls]
MEANS = {
    "neural_sde": "neural_sde_plain",
    "stochastic_depth": "stochastic_depth_mean",
    "shake_shake": "shake_shake_even",
}
DRAWS = {"stochastic_depth": 2000, "shake_shake": 300}  # for the batch, or the image, not elements
SLOTS = (SDEBlock, StochasticSlot, ShakeBlock)


class Given(nn.Module):
    """A branch whose value is known: it is computed once for all draws."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *inputs: Tensor | float) -> Tensor:
        return self.value


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """(8, 3, 32, 32) in [0, 1]."""
    return as_input(load("digits", train=True, root=Path()).images[:8])


def network(name: str, awake: bool) -> nn.Module:
    """A network of seed 0; awake, its branches are not zero, as after some training."""
    model = initialize(lambda: MODELS[name](width=8), 0)
    torch.manual_seed(1)
    for f in model.modules():
        if awake and isinstance(f, ResidualFunction):
            nn.init.kaiming_normal_(f[5].weight, mode="fan_out", nonlinearity="relu")
    return model


def slots_of(model: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """The slots, each with the features that it is given in evaluation."""
    found: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        m.register_forward_pre_hook(lambda m, x: found.append((m, x[0].clone())))
        for m in model.modules()
        if isinstance(m, SLOTS)
    ]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def freeze(slot: nn.Module, x: Tensor) -> None:
    """Replace branches that see `x` alone, not the noise, by what they give there."""
    if isinstance(slot, StochasticSlot | ShakeBlock):
        for name in ("f", "f1", "f2"):
            if hasattr(slot, name):
                setattr(slot, name, Given(getattr(slot, name)(x)))


@functools.cache
@torch.no_grad()
def moments(name: str, images: Tensor, awake: bool) -> list[tuple[float, float, Tensor]]:
    """Of each slot: the variance of its output over draws, its input's square, its mean."""
    found = []
    for slot, x in slots_of(network(name, awake), images):
        freeze(slot, x)
        slot.train()
        torch.manual_seed(2)
        first, total, square = None, torch.zeros_like(x), torch.zeros_like(x)
        draws = DRAWS.get(name, 60)
        for _ in range(draws):
            y = slot(x)
            first = y if first is None else first
            total, square = total + (y - first), square + (y - first) ** 2
        variance = square / draws - (total / draws) ** 2
        assert first is not None
        found.append((float(variance.mean()), float(x.square().mean()), first + total / draws))
    return found


@pytest.mark.parametrize("idea, null", PAIRS)
@pytest.mark.parametrize("awake", [False, True], ids=["start", "awake"])
def test_the_output_variance_is_that_of_the_idea(
    idea: str, null: str, awake: bool, digits: Tensor
) -> None:
    wanted, found = (moments(name, digits, awake) for name in (idea, null))
    assert len(wanted) == len(found) == 4
    for (variance, square, mean), (other, _, its_mean) in zip(wanted, found, strict=True):
        if idea != "neural_sde" and not awake:
            assert variance == other == 0, "the branches start at zero, and with them their noise"
            continue
        assert variance > 1e-3 * square > 0
        if idea == "neural_sde" and awake:  # whose steps hand noise on, which they increase
            assert 0.5 * variance < other < 1.1 * variance
        else:
            assert other == pytest.approx(variance, rel=0.1)
        gap = (mean - its_mean).square().mean().sqrt()
        # 60 draws know a mean to 0.18 of the deviation; awake it goes through f besides.
        assert float(gap) < (0.5 if idea == "neural_sde" and awake else 0.3) * variance**0.5


def test_the_noise_of_an_sde_is_sigma_at_the_start(digits: Tensor) -> None:
    for name in ("neural_sde", *IDEAS["neural_sde"]):
        assert [v for v, _, _ in moments(name, digits, False)] == pytest.approx([0.01] * 4, rel=0.1)


def test_a_fixed_strength_is_no_equal_variance(digits: Tensor) -> None:
    # What was there before: dropout of a tenth of f(x), which is nothing at the start.
    slot, x = slots_of(network("neural_sde", False), digits)[0]
    assert isinstance(slot, SDEBlock)
    torch.manual_seed(0)
    draws = torch.stack([nn.functional.dropout(slot.f(0.0, x), 0.1) for _ in range(50)])
    assert float(draws.var(0).mean().detach()) == 0


@pytest.mark.parametrize("idea, null", [*PAIRS, *MEANS.items()])
def test_evaluations_parameters_and_evaluation_mode_are_those_of_the_idea(
    idea: str, null: str, digits: Tensor
) -> None:
    assert size_of(MODELS[null]) == size_of(MODELS[idea])
    model, other = network(idea, True), network(null, True)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(digits), other.eval()(digits)), "noiseless alike"
    assert null in CATALOG[idea].nulls
    matched = MATCHED_AT_THE_START if idea == "neural_sde" else MATCHED
    claimed = matched if null not in MEANS.values() else (matched[0], *matched[2:])
    assert CATALOG[null].matched == claimed


def test_noise_on_images_is_a_rival_and_no_null() -> None:
    assert CATALOG["input_noise_aug"].family == "rival"
    assert not any("input_noise_aug" in entry.nulls for entry in CATALOG.values())


@pytest.mark.parametrize("variance", [0.0, 0.01, 0.3])
def test_an_image_has_the_variance_that_is_given(variance: float) -> None:
    torch.manual_seed(0)
    y = torch.randn(3, 4, 5, 5, dtype=torch.float64) * torch.tensor([0.5, 1.0, 2.0]).view(
        3, 1, 1, 1
    )
    given = torch.tensor([1.0, 2.0, 0.0]).double().view(3, 1, 1, 1) * variance
    makers: tuple[Callable[[], Tensor], ...] = (
        lambda: dropout(y, given, torch.rand_like(y)),
        lambda: feature_noise(y, given, torch.randn_like(y)),
    )
    for make in makers:
        draws = torch.stack([make() for _ in range(3000)])
        found = draws.var(0).mean((1, 2, 3))
        torch.testing.assert_close(found, given.flatten(), rtol=0.05, atol=1e-12)
        assert float((draws.mean(0) - y).abs().mean()) < 0.05


def test_nothing_is_dropped_of_nothing() -> None:
    zero = torch.zeros(1, 2, 3, 3)
    assert torch.equal(dropout(zero, 0.0, torch.rand_like(zero)), zero)
    assert float(dropped(torch.zeros(()), torch.zeros(()))) == 0
    assert float(dropped(torch.zeros(()), torch.ones(()))) == pytest.approx(MOST)
