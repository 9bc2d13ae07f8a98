import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.models.reversible import Chain, Coupling
from harness.models.revnet import Uncoupled, branch, revnet, revnet38, revnet110
from harness.models.ruthotto_haber import hamiltonian
from harness.models.s20 import resnet32, resnet110
from harness.models.slots import EulerSlot, ResidualFunction


def chain(units: int, channels: int = 4, norm: bool = False) -> Chain:
    torch.manual_seed(0)
    half = channels // 2
    make = (lambda: branch(half, half)) if norm else (lambda: nn.Conv2d(half, half, 3, padding=1))
    return Chain([Coupling(make(), make(), 0.5, -0.5) for _ in range(units)])


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    model.zero_grad()
    model(x).square().sum().backward()
    assert x.grad is not None
    return [x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_going_back_gives_the_gradients_of_remembering(
    norm: bool, dtype: torch.dtype, tolerance: float
) -> None:
    remembering = chain(5, norm=norm).to(dtype)
    going_back = copy.deepcopy(remembering)
    going_back.store_activations = False
    x = torch.randn(3, 4, 6, 7, dtype=dtype)
    for a, b in zip(gradients(remembering, x), gradients(going_back, x), strict=True):
        assert (a - b).norm() <= tolerance * a.norm()
    # Batch statistics were counted once in both.
    for (name, a), (_, b) in zip(
        remembering.named_buffers(), going_back.named_buffers(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("build", [revnet, revnet38, hamiltonian], ids=lambda f: f.__name__)
def test_models_train_alike_without_stored_activations(build: Any) -> None:
    images, grads = torch.rand(4, 3, 32, 32, dtype=torch.float64), []
    for store in (True, False):
        torch.manual_seed(0)
        model = build(width=8, store_activations=store).double().train()
        for p in model.parameters():
            p.data.add_(0.05 * torch.randn_like(p))
        model(images).square().sum().backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    for name, a in grads[0].items():
        torch.testing.assert_close(grads[1][name], a, rtol=1e-8, atol=1e-10)


def test_memory_does_not_grow_with_the_number_of_units() -> None:
    kept = {}
    for store in (True, False):
        for units in (2, 8):
            model = chain(units)
            saved: list[int] = []
            model.store_activations = store

            def keep(x: Tensor, saved: list[int] = saved) -> Tensor:
                saved.append(x.numel())
                return x

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                model(torch.randn(2, 4, 16, 16, requires_grad=True)).sum()
            kept[store, units] = sum(saved)
    assert kept[False, 8] == kept[False, 2] == 2 * 4 * 16 * 16
    assert kept[True, 8] > 3 * kept[True, 2]


def test_it_works_under_autocast() -> None:
    model = chain(3)
    x = torch.randn(2, 4, 8, 8)
    found = []
    for store in (True, False):
        model.store_activations = store
        with torch.autocast("cpu", torch.bfloat16):
            found.append(gradients(model, x))
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() <= 0.03 * a.norm()


def test_a_hundred_units_can_be_undone_and_round_off_grows_slowly() -> None:
    torch.manual_seed(0)
    units = [Coupling(ResidualFunction(8), ResidualFunction(8), 0.1, 0.1) for _ in range(100)]
    for p in (p for u in units for p in u.parameters()):
        p.data.add_(0.05 * torch.randn_like(p))
    model, x = Chain(units), torch.randn(2, 16, 8, 8)
    errors = {}
    with torch.no_grad():
        for count in (10, 100):
            part = Chain(units[:count])
            errors[count] = ((part.inverse(part(x)) - x).norm() / x.norm()).item()
        exact = model.double()
        wide = x.double()
        errors["float64"] = ((exact.inverse(exact(wide)) - wide).norm() / wide.norm()).item()
    assert errors[10] < 1e-5 and errors[100] < 1e-4 and errors["float64"] < 1e-12


def test_weights_of_the_presets_are_near_those_of_their_nulls() -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(revnet38()) == pytest.approx(count(resnet32()), rel=0.005)
    assert count(revnet110()) == pytest.approx(count(resnet110()), rel=0.005)


def test_a_coupled_slot_has_half_the_weights_of_a_plain_one() -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    coupled = Coupling(ResidualFunction(32), ResidualFunction(32))
    assert count(coupled) == count(Uncoupled(64)) == 4 * 9 * 32**2 + 8 * 32
    assert count(EulerSlot(64)) == 2 * 9 * 64**2 + 4 * 64


def test_uncoupled_halves_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    for make, sees in (
        (Uncoupled(8), False),
        (Chain([Coupling(*(ResidualFunction(4) for _ in "fg"))]), True),
    ):
        for p in make.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        x = torch.randn(1, 8, 4, 4)
        other = x.clone()
        other[:, 4:] += 1 + torch.randn(1, 4, 4, 4)
        assert torch.equal(make(x)[:, :4], make(other)[:, :4]) != sees
