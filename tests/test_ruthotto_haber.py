import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from harness.models.base import Constrained, Regularized
from harness.models.ruthotto_haber import (
    hamiltonian,
    parabolic,
    rh_resnet,
    rh_resnet_narrow,
    rh_revnet,
    second_order,
    steps_of,
)
from harness.models.symmetric import Parabolic, PixelNorm, SecondOrder, SymmetricLayer, verlet
from harness.running.initial import initialize
from harness.running.recipes import recipe_for
from harness.running.train import train
from harness.suites.datasets import Split

C, N = 3, 5
STATE = (1, C, N, N)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def linear(seed: int = 0) -> SymmetricLayer:
    """-K^T K in float64."""
    torch.manual_seed(seed)
    return SymmetricLayer(C, norm=False, relu=False).double()


def jacobian(layer: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The Jacobian at y (1, ...) of a layer that treats the samples of a batch alike."""
    size = y.numel()
    copies = y.expand(size, *y.shape[1:]).clone().requires_grad_()
    basis = torch.eye(size, dtype=y.dtype).view_as(copies)
    with torch.enable_grad():
        return torch.autograd.grad(layer(copies), copies, basis)[0].reshape(size, size).detach()


def norm_squared(layer: SymmetricLayer) -> float:
    """|K|^2, the largest eigenvalue of K^T K."""
    matrix = jacobian(layer, torch.zeros(STATE, dtype=torch.float64))
    return -float(torch.linalg.eigvalsh(matrix)[0])


@pytest.mark.parametrize(
    "builder, stl10, cifar10, cifar100",
    [
        (parabolic, 618_554, 502_570, 652_484),
        (hamiltonian, 324_794, 264_106, 362_180),
        (second_order, 618_554, 502_570, 652_484),
    ],
)
def test_weights_are_those_of_table_1(
    builder: Any, stl10: int, cifar10: int, cifar100: int
) -> None:
    assert count(builder(skeleton="stl10")) == stl10
    assert count(builder()) == cifar10
    assert count(builder(num_classes=100, skeleton="cifar100")) == cifar100


@pytest.mark.parametrize(
    "skeleton, classes, weights",
    [("stl10", 10, 1_011_194), ("cifar10", 10, 821_354), ("cifar100", 100, 1_040_452)],
)
def test_weights_of_five_steps(skeleton: str, classes: int, weights: int) -> None:
    assert count(parabolic(num_classes=classes, skeleton=skeleton, steps=5)) == weights


def test_the_narrow_null_has_the_weights_and_the_other_the_width() -> None:
    for skeleton in ("cifar10", "stl10", "cifar100"):
        wanted = count(parabolic(skeleton=skeleton))
        assert abs(count(rh_resnet_narrow(skeleton=skeleton)) / wanted - 1) < 0.02
    assert count(rh_resnet()) - count(parabolic()) == 3 * 9 * (32**2 + 64**2 + 112**2)


def test_the_transposed_convolution_is_the_adjoint() -> None:
    K = torch.randn(C, C, 3, 3, dtype=torch.float64)
    x, y = torch.randn(STATE, dtype=torch.float64), torch.randn(STATE, dtype=torch.float64)
    left = (conv2d(x, K, padding=1) * y).sum()
    torch.testing.assert_close(left, (x * conv_transpose2d(y, K, padding=1)).sum())


def test_the_jacobian_is_symmetric_and_has_no_positive_eigenvalue_by_power_iteration() -> None:
    torch.manual_seed(0)
    layer = SymmetricLayer(C, norm=False).double()
    J = jacobian(layer, torch.randn(STATE, dtype=torch.float64))
    torch.testing.assert_close(J, J.T)

    def dominant(A: Tensor) -> float:
        v = torch.randn(len(A), dtype=torch.float64)
        for _ in range(3000):
            v = A @ v
            v = v / v.norm()
        return float(v @ A @ v)

    rho = dominant(J)
    assert rho < 0
    largest = dominant(J + abs(rho) * torch.eye(len(J), dtype=torch.float64)) - abs(rho)
    assert largest < 1e-8
    # With the norm there is no such promise, and indeed no symmetry.
    with_norm = SymmetricLayer(C).double()
    J = jacobian(with_norm, torch.randn(STATE, dtype=torch.float64))
    assert (J - J.T).abs().max() > 1e-3


def test_the_bound_of_the_norm_bounds_it() -> None:
    for seed in range(5):
        layer = linear(seed)
        assert norm_squared(layer) <= float(layer.norm_bound()) < 9 * norm_squared(layer)


@pytest.mark.parametrize("factor, grows", [(0.99, False), (1.01, True)])
def test_steps_are_stable_up_to_their_limits(factor: float, grows: bool) -> None:
    J = jacobian(linear(), torch.zeros(STATE, dtype=torch.float64))
    squared = norm_squared(linear())
    start = torch.randn(len(J), dtype=torch.float64)
    dt, y = factor * 2 / squared, start
    for _ in range(2000):
        y = y + dt * J @ y
    assert (y.norm() > 1e3) == grows, "parabolic: 2 / |K|^2"
    dt, y, old = factor * 2 / math.sqrt(squared), start, start
    for _ in range(1000):
        y, old = 2 * y - old + dt**2 * J @ y, y
    assert (y.norm() > 1e3) == grows, "second order: 2 / |K|"


def test_parabolic_flows_bring_states_together_below_the_limit() -> None:
    torch.manual_seed(0)
    block = Parabolic(C, lambda c: SymmetricLayer(c, norm=False), steps=3, dt=1.0).double()
    a, b = (torch.randn(STATE, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        apart = [(a - b).norm()]
        for layer in block.layers:
            dt = block.step_size(layer)
            straight = SymmetricLayer(C, norm=False, relu=False).double()
            straight.weight = layer.weight
            assert dt <= 2 / norm_squared(straight), "cut to the limit"
            a, b = a + dt * layer(a), b + dt * layer(b)
            apart.append((a - b).norm())
    assert all(later <= earlier for earlier, later in pairwise(apart))
    # The flipped sign drives them apart.
    flipped = Parabolic(C, lambda c: SymmetricLayer(c, 1, False), steps=3, dt=1.0).double()
    a, b = (torch.randn(STATE, dtype=torch.float64) for _ in range(2))
    assert (flipped(a) - flipped(b)).norm() > (a - b).norm()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_verlet_steps_can_be_undone(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    block = verlet(8, SymmetricLayer, 3, 1.0, -1, True).to(dtype)
    x = torch.randn(2, 8, N, N, dtype=dtype)
    with torch.no_grad():
        back = block.inverse(block(x))
    assert (back - x).norm() <= tolerance * x.norm()


def test_the_hamiltonian_field_turns_and_neither_grows_nor_decays() -> None:
    torch.manual_seed(0)
    first, second = linear(0), linear(1)

    def field(x: Tensor) -> Tensor:
        y, z = x.chunk(2, dim=1)
        return torch.cat((first(z), -second(y)), dim=1)

    J = jacobian(field, torch.zeros(1, 2 * C, N, N, dtype=torch.float64))
    eigenvalues = torch.linalg.eigvals(J)
    assert eigenvalues.real.abs().max() < 1e-6 * eigenvalues.abs().max()


def test_linear_leapfrog_conserves_its_energy_and_runs_backwards() -> None:
    layer = linear()
    dt = 0.5 / math.sqrt(norm_squared(layer))
    torch.manual_seed(1)
    old = torch.randn(STATE, dtype=torch.float64)
    y = old + 0.1 * torch.randn_like(old)

    def energy(y: Tensor, after: Tensor) -> Tensor:
        return ((after - y) / dt).square().sum() - (layer(y) * after).sum()

    with torch.no_grad():
        first, states = energy(old, y), [old, y]
        for _ in range(100):
            states.append(2 * states[-1] - states[-2] + dt**2 * layer(states[-1]))
        torch.testing.assert_close(energy(*states[-2:]), first, rtol=1e-11, atol=0)
        back = states[-1], states[-2]
        for _ in range(100):
            back = back[1], 2 * back[1] - back[0] + dt**2 * layer(back[1])
    torch.testing.assert_close(back[1], old, rtol=0, atol=1e-10)


def test_second_order_starts_at_rest() -> None:
    torch.manual_seed(0)
    one = SecondOrder(C, SymmetricLayer, steps=1, dt=0.5).double()
    y = torch.randn(STATE, dtype=torch.float64)
    torch.testing.assert_close(one(y), y + 0.25 * one.layers[0](y))


def test_the_norm_gives_pixels_of_unit_length() -> None:
    y = 100 * torch.randn(2, 16, 4, 4)
    length = PixelNorm(16)(y).square().sum(1).sqrt()
    torch.testing.assert_close(length, torch.ones_like(length), rtol=1e-4, atol=0)
    assert not PixelNorm(16)(torch.zeros(1, 16, 2, 2)).any()


class TestPenalty:
    @pytest.mark.parametrize(
        "build", [parabolic, hamiltonian, second_order, rh_resnet, rh_resnet_narrow, rh_revnet]
    )
    def test_steps_start_alike_and_do_not_vary_in_time(
        self, build: Callable[..., nn.Module]
    ) -> None:
        model = initialize(lambda: build(width=8), 0)
        assert isinstance(model, Regularized)
        assert model.variation().item() == pytest.approx(0, abs=1e-3)
        for block in model.stages:
            first, *others = steps_of(block)
            assert len(others) == 2
            for other in others:
                assert all(map(torch.equal, first.parameters(), other.parameters()))
            assert float(next(first.parameters()).detach().std()) > 0
            with torch.no_grad():
                next(others[0].parameters()).add_(0.1)
        assert model.variation() > 1

    def test_its_value_by_hand(self) -> None:
        model = parabolic(width=8, steps=2)
        for p in model.parameters():
            p.data.zero_()
        model.stages[0].layers[1].weight.data[0, 0, 0, 0] = 3.0
        tv = math.sqrt(9 + 1e-3) - math.sqrt(1e-3)
        expected = 2e-4 * tv + 0.5 * 2e-4 * 9
        assert model.regularization().item() == pytest.approx(expected, rel=1e-5)

    def test_weights_stay_in_their_box(self) -> None:
        model = second_order(width=8)
        assert isinstance(model, Constrained)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(2.0)
        model.constrain_()
        assert all(p.max() <= 1 for p in model.stages.parameters() if p.ndim == 4)
        assert model.head.weight.max() == 2 and model.opening[0].weight.max() == 2

    def test_training_asks_for_both(self) -> None:
        torch.manual_seed(0)
        split = Split(
            torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8),
            torch.arange(64) % 2,
            ("a", "b"),
            flip=False,
        )

        device, penalties = torch.device("cpu"), []
        for strength in (10.0, 0.0):  # strong, so that it shows

            def build(strength: float = strength) -> nn.Module:
                model = parabolic(num_classes=2, width=8)
                model.a1 = model.a2 = strength
                return model

            recipe = recipe_for(split, 12, device)
            model, _ = train(initialize(build, 0), split, recipe, seed=0, device=device)
            model.a1 = model.a2 = 10.0
            penalties.append(float(model.regularization().detach()))
        assert penalties[0] < 0.9 * penalties[1]
        assert all(p.abs().max() <= 1 for p in model.stages.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"skeleton": "cifar11"}, "Did you mean `cifar10`"),
        ({"steps": 0}, "must be >= 1"),
        ({"dt": 0.0}, "`dt` > 0"),
        ({"sign": 2}, "-1 or 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=message):
        parabolic(width=8, **arguments)
