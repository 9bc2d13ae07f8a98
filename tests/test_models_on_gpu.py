"""Every model, attack and suite on a CUDA device beside the CPU."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import evaluate
from harness.models.base import Augmenting
from harness.models.cards import MODELS, takes_width
from harness.models.folding import fold
from harness.models.fusing import fuse
from harness.running.initial import initialize
from harness.running.recipes import recipe_for
from harness.running.step import Replayed
from harness.running.train import train
from harness.suites.attacks import ATTACKS
from harness.suites.datasets import Split, load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
THERE = torch.device("cuda")
CLOSE = 2e-3  # of the largest value: float32 through some twenty layers, sums in other orders
GRAPHS = ["resnet18", "pde_layer", "pde_aug", "pde_attention", "ode_block", "neural_sde"]
GRAPHS += ["gaussian_blur_layer", "depthwise_heat_layer", "pde_layer_frozen", "shake_shake"]
TRAINED = ["resnet18", "pde_layer", "pde_aug", "pde_attention", "ode_block", "neural_sde"]
TRAINED += ["shake_shake", "hamiltonian", "coin", "diffusifynet"]


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Products in float32 as they are, not by TensorFloat-32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def images(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(name: str, width: int = 8) -> nn.Module:
    """A model some steps from its start, so that no scale is zero."""
    builder = MODELS[name]
    if not takes_width(builder):  # it keeps training images
        model = builder(num_classes=7)
        model.fit((255 * images(21)).byte(), torch.arange(21) % 7)
        return model.eval()
    model = initialize(lambda: builder(num_classes=7, width=width), 0).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for p in model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
        model(images())
    return model.eval()


def near(there: Tensor, here: Tensor, tolerance: float = CLOSE) -> None:
    apart = (there.detach().cpu().double() - here.detach().double()).abs().max()
    assert apart <= tolerance * here.detach().abs().max(), float(apart / here.detach().abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients(name: str) -> None:
    def ask(model: nn.Module, device: torch.device) -> tuple[Tensor, ...]:
        x = images().to(device).requires_grad_()
        logits = model.to(device).to(memory_format=torch.channels_last)(x)
        logits.float().square().sum().backward()
        assert x.grad is not None
        norms = [p.grad.double().norm() for p in model.parameters() if p.grad is not None]
        return logits, x.grad, torch.stack(norms)

    model = build(name)
    here = ask(copy.deepcopy(model), torch.device("cpu"))
    there = ask(model, THERE)
    for tolerance, a, b in zip((CLOSE, 10 * CLOSE, 10 * CLOSE), there, here, strict=True):
        near(a, b, tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16(name: str) -> None:
    model = build(name)
    here = model(images())
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        near(model.to(THERE)(images().to(THERE)).float(), here, 0.2)


@pytest.mark.parametrize("name", ["resnet18", "pde_layer", "pde_attention", "ode_block"])
def test_fused_blocks(name: str) -> None:
    model = build(name, width=16).to(THERE).to(memory_format=torch.channels_last)
    x = images(64).to(THERE)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        plain = model(x).float()
        with fold(model, x[:2]), fuse(model) as count:
            fused = model(x).float()
    exact = build(name, width=16)(images(64))
    near(fused, exact, 0.1)
    apart = [float((y.cpu() - exact).norm()) for y in (fused, plain)]
    assert count >= 6 and apart[0] <= 1.2 * apart[1]  # rounded less often


@pytest.mark.parametrize("name", MODELS)
def test_draws(name: str) -> None:
    model: Any = build(name)
    if not getattr(model, "stochastic", False):
        pytest.skip("draws nothing")
    where = torch.tensor([3, 1, 4, 15, 9, 2, 6, 5])
    with torch.no_grad():
        here = model.sample(images(), where, 0, 1)
        near(model.to(THERE).sample(images().to(THERE), where, 0, 1), here, 5 * CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_augmented_images(name: str) -> None:
    model = build(name)
    if not isinstance(model, Augmenting):
        pytest.skip("augments nothing")
    here = model.augment(images(64), torch.Generator().manual_seed(2))
    there = model.to(THERE).augment(images(64).to(THERE), torch.Generator().manual_seed(2)).cpu()
    # Where a decision lies between two values of a scale, a rounding may take the other.
    apart = (there - here).abs().flatten(1).amax(1)
    assert float((apart > 1e-3).double().mean()) <= 0.05, apart


def split_of(count: int) -> Split:
    split = load("digits", train=True, root=Path())
    return replace(split, images=split.images[:count], labels=split.labels[:count])


@pytest.mark.parametrize("name", TRAINED)
def test_training_twice_gives_the_same_weights(name: str) -> None:
    split = split_of(640)
    recipe = recipe_for(split, 2, THERE)

    def once() -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        start = initialize(lambda: MODELS[name](width=8), 0)
        model, history = train(start, split, recipe, seed=0, device=THERE)
        return model.state_dict(), history

    first, second = once(), once()
    assert first[1] == second[1] and first[1][-1]["loss"] < first[1][0]["loss"]
    assert all(torch.equal(a, second[0][key]) for key, a in first[0].items())


@pytest.mark.parametrize("name", [name for name in MODELS if takes_width(MODELS[name])])
def test_a_graph_of_the_step_gives_the_same_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a graph; models that draw on the host have none, and lose nothing."""
    split, made = split_of(448), list[Replayed]()
    recipe = recipe_for(split, 2, THERE)

    class Noted(Replayed):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    class Eager(Noted):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.why_not = "a test"

    found = []
    for kind in (Noted, Eager):
        monkeypatch.setattr("harness.running.train.Replayed", kind)
        start = initialize(lambda: MODELS[name](width=8), 0)
        model, history = train(start, split, recipe, seed=0, device=THERE)
        found.append((model.state_dict(), history))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(a, found[1][0][key]) for key, a in found[0][0].items())
    print(name, made[0].why_not or "has a graph")
    if name in GRAPHS:
        assert not made[0].why_not
    if name == "fractalnet":
        assert made[0].why_not == "a step draws on the CPU"


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4"])
def test_a_fixed_grid_never_waits_for_the_device(solver: str) -> None:
    model = MODELS["ode_block"](width=8, solver=solver).to(THERE).eval()
    x = images().to(THERE)
    with torch.no_grad():
        model(x)
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("norm, eps", [("linf", 0.06), ("l2", 0.5)])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_break_the_same_images(
    name: str, norm: str, eps: float, network: nn.Module
) -> None:
    split = load("digits", train=False, root=Path())
    x, labels = split.images[:64].float() / 255, split.labels[:64]
    x = functional.interpolate(x, size=8) if x.shape[-1] != 8 else x
    broken = []
    for device in (torch.device("cpu"), THERE):
        net = copy.deepcopy(network).to(device)
        found = ATTACKS[name](net, x.to(device), labels.to(device), eps=eps, norm=norm)
        moved = (found.cpu() - x).flatten(1)
        size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
        assert size.max() <= eps * (1 + 1e-5)
        with torch.no_grad():
            broken.append(net(found).argmax(1).cpu() != labels)
    assert int((broken[0] != broken[1]).sum()) <= 2, (int(broken[0].sum()), int(broken[1].sum()))


@pytest.mark.parametrize("suite", ["clean", "robustness", "stability", "attention", "nfe"])
@pytest.mark.parametrize("name", ["resnet18", "pde_attention", "ode_block"])
def test_suites_measure_the_same(suite: str, name: str) -> None:
    """All but what has jumps: an adaptive solver counts other steps after another rounding."""
    if suite == {"resnet18": "attention", "ode_block": "attention"}.get(name) or (
        suite == "nfe" and name != "ode_block"
    ):
        pytest.skip("has neither maps nor a solver")
    model = initialize(lambda: MODELS[name](width=8), 0)
    here, there = (
        evaluate(model, suite, limit=40, device=device, name="it") for device in ("cpu", "cuda")
    )
    both = here.merge(there, on=["condition", "level", "metric", "variant"])
    assert len(both) == len(here) == len(there) > 0
    apart = (both["value_x"] - both["value_y"]).abs() / both["value_x"].abs().clip(lower=0.1)
    far = both[apart > 0.06]
    assert len(far) <= 0.02 * len(both), far.to_string()
