import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from harness.models.base import Layered, Regularized, Solving
from harness.models.lookup import source
from harness.models.neural_ode import Augment, neural_ode, neural_ode_blocks, neural_ode_tied
from harness.models.ode_block import ODEBlock, VectorField, ode_block, ode_blocks
from harness.models.ops.solvers import solver
from harness.models.ruthotto_haber import parabolic
from harness.models.slots import resnet18_slot4
from harness.models.tied_blocks import Autonomous, TiedBlock, tied_resnet
from harness.progress import Progress
from harness.running.execute import execute
from harness.running.options import Options
from harness.running.plan import plan
from harness.running.recipes import recipe_for
from harness.running.state import State
from harness.running.train import train
from harness.storage.results import read
from harness.suites.datasets import Split


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def states(n: int = 4, c: int = 8) -> torch.Tensor:
    return torch.randn(n, c, 4, 4, generator=torch.Generator().manual_seed(0))


def awake(block: ODEBlock) -> ODEBlock:
    """A block whose field is not zero."""
    torch.manual_seed(0)
    torch.nn.init.normal_(block.f.norms[2].weight)
    return block


def test_weights_are_those_of_the_formula_and_of_the_null_but_for_time_and_one_norm() -> None:
    c = 8
    assert count(VectorField(c)) == 18 * c * (c + 1) + 6 * c
    assert count(ode_block()) - count(resnet18_slot4()) == 18 * 512 + 2 * 512
    assert count(ode_block()) - count(tied_resnet()) == 18 * 512


def test_a_field_of_zero_is_the_identity_at_its_least_cost() -> None:
    z = states()
    for method, least in (("rk4", 8), ("dopri5", 8), ("bosh3", 5)):
        settings = {"num_steps": 2} if method == "rk4" else {}
        block = ODEBlock(8, solver(method, **settings))
        torch.nn.init.zeros_(block.f.norms[2].weight)
        assert torch.equal(block(z), z)
        assert block.nfe.tolist() == [least] * 4


def test_euler_steps_without_time_are_the_tied_network() -> None:
    torch.manual_seed(0)
    f = Autonomous(8)
    torch.nn.init.normal_(f.norms[2].weight)
    z = states()
    euler = solver("euler", num_steps=5)(lambda t, u: f(u), z).u
    torch.testing.assert_close(euler, TiedBlock(f, 5, dt=1 / 5)(z))


def test_solvers_converge_to_one_flow() -> None:
    block, z = awake(ODEBlock(8, solver("rk4", num_steps=2))), states()
    errors = {}
    with torch.no_grad():
        exact = solver("rk4", num_steps=64)(block.f, z).u
        for num_steps in (4, 8):
            for method in ("euler", "midpoint", "rk4"):
                block.solver = solver(method, num_steps=num_steps)
                errors[method, num_steps] = float((block(z) - exact).abs().max())
    assert errors["rk4", 4] < errors["midpoint", 4] < errors["euler", 4]
    assert errors["euler", 8] < errors["euler", 4]


def test_the_solver_of_a_model_can_be_replaced_and_its_cost_read() -> None:
    model = ode_block(width=8, stages=(3, 4)).eval()
    assert isinstance(model, Solving) and isinstance(model, Layered)
    for block in model.modules():
        if isinstance(block, ODEBlock):
            awake(block)
    images = torch.rand(5, 3, 32, 32)
    with torch.no_grad():
        coarse = model(images)
        assert model.nfe.tolist() == [16] * 5, "of both blocks together"
        model.solver = solver("dopri5", rtol=1e-4, atol=1e-4)
        fine = model(images)
    assert model.solver.name == "dopri5"
    assert model.nfe.shape == (5,) and ((model.nfe - 4) % 6 == 0).all()
    torch.testing.assert_close(fine, coarse, rtol=0.05, atol=0.05)


def test_cost_and_answer_of_an_image_do_not_depend_on_its_batch() -> None:
    model = ode_block(width=8, solver="dopri5", rtol=1e-2, atol=1e-2).eval()
    awake(next(m for m in model.modules() if isinstance(m, ODEBlock)))
    images = torch.rand(12, 3, 32, 32) * torch.linspace(0.1, 1, 12)[:, None, None, None]
    with torch.no_grad():
        whole, nfe = model(images), model.nfe
        for i in (0, 5, 11):
            torch.testing.assert_close(model(images[i : i + 1])[0], whole[i], rtol=1e-4, atol=1e-5)
            assert model.nfe.tolist() == [nfe[i]]
        order = torch.randperm(12)
        torch.testing.assert_close(model(images[order]), whole[order], rtol=1e-4, atol=1e-5)
        assert torch.equal(model.nfe, nfe[order])


def test_time_reaches_the_field() -> None:
    f = VectorField(8)
    torch.nn.init.normal_(f.norms[2].weight)
    z = states()
    # Group norm takes out a constant; the border of the convolution leaves something of it.
    assert not torch.allclose(f(0.0, z), f(1.0, z))
    each = f(torch.tensor([0.0, 0.3, 0.7, 1.0]), z)
    torch.testing.assert_close(each[2], f(0.7, z)[2])


def test_checkpointing_changes_no_gradient() -> None:
    images, grads = torch.rand(2, 3, 32, 32), []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = ode_block(width=8, checkpointed=checkpointed)
        awake(next(m for m in model.modules() if isinstance(m, ODEBlock)))
        model(images).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_the_paper_s_null_has_six_blocks() -> None:
    ode, tied, blocks = (
        count(m(width=8)) for m in (neural_ode, neural_ode_tied, neural_ode_blocks)
    )
    assert ode - tied == 18 * 32, "the time channels"
    field = count(Autonomous(32))
    assert blocks - tied == 5 * field


def test_augmentation_adds_channels_of_zeros() -> None:
    z = states()
    wide = Augment(5)(z)
    assert wide.shape == (4, 13, 4, 4) and not wide[:, 8:].any() and torch.equal(wide[:, :8], z)
    model = neural_ode(width=8, augmented=5).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"solver": "rk5"}, "Did you mean `rk4`"),
        ({"solver": "leapfrog"}, "There is no solver"),
        ({"num_steps": 0}, "at least 1"),
        ({"stages": 5}, "slots in the stages 1, 2, 3 and 4"),
        ({"solver": "dopri5", "rtol": -1.0}, "`rtol` must be > 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=message):
        ode_block(width=8, **arguments)
    with pytest.raises(ValueError, match="`applications` must be at least 1"):
        tied_resnet(width=8, applications=0)


def test_a_solver_that_stops_early_is_an_error_in_training_and_counted_in_evaluation(
    tmp_path: Path,
) -> None:
    name = "ode_block(max_nfe=9, rtol=1e-06, solver='dopri5')"
    model = source(name).build(num_classes=10, width=8)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match=r"dopri5 stopped .* for \d of 4 images: 9 evalua"):
        model.train()(images)
    options = Options(results=tmp_path, data=tmp_path, width=8, limit=30)
    state = model.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    options = replace(options, weights=(tmp_path / "w.safetensors",))
    progress = Progress(Console(quiet=True))
    for suite in ("clean", "nfe"):
        list(execute(plan([name], ["digits"], [], [suite], options), options, progress))
    rows = read(tmp_path / "quick")
    stopped = rows[rows["metric"] == "stopped_early"].set_index(["suite", "condition", "level"])
    assert stopped["value"]["clean", "clean", 0] == 1 and set(stopped["n"]) == {30}
    assert not stopped["value"]["nfe"].any(), "with a budget of a thousand all arrive"
    assert set(stopped.loc["nfe"].index.get_level_values(0)) >= {"bosh3", "dopri5"}
    assert "euler" not in stopped.loc["nfe"].index.get_level_values(0), "a fixed grid ends"


def test_an_adaptive_solver_keeps_float32_under_autocast() -> None:
    torch.manual_seed(0)
    block = ODEBlock(8, solver("dopri5", rtol=1e-6, atol=1e-6)).eval()
    z = torch.randn(4, 8, 16, 16)
    with torch.no_grad():
        exact = block(z)
        nfe = block.nfe
        with torch.autocast("cpu", torch.bfloat16):
            found = block(z)
    assert torch.equal(found, exact) and torch.equal(block.nfe, nfe) and not block.spent.any()


PAIRS = ("heun_euler", "bosh3", "dopri5")


def of_all_sizes(n: int = 6) -> torch.Tensor:
    """States that need different numbers of steps."""
    sizes = torch.logspace(-1.5, 0.5, n, dtype=torch.float64)
    return states(n).double() * sizes[:, None, None, None]


def exact_block(method: str, rtol: float, **arguments: float | bool) -> ODEBlock:
    made = ODEBlock(8, solver(method, rtol=rtol, atol=1e-3), **arguments)
    return awake(made).double().train()


def slopes(
    block: ODEBlock, p: torch.Tensor, loss: Callable[[], torch.Tensor]
) -> tuple[float, float]:
    """The derivative of a loss in a random direction of `p`, and its finite difference."""
    block.zero_grad()
    loss().backward()
    assert p.grad is not None
    direction = torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            p.add_(sign * 1e-8 * direction)
            ends.append(float(loss()))
            p.sub_(sign * 1e-8 * direction)
    return float((p.grad * direction).sum()), (ends[0] - ends[1]) / 2e-8


@pytest.mark.parametrize("method", PAIRS)
def test_gradients_of_an_adaptive_solve_are_those_of_finite_differences(method: str) -> None:
    # Step sizes are rounded: a change of 1e-8 leaves them as they are.
    block, z = exact_block(method, 1e-3), of_all_sizes()
    block(z)
    assert block.nfe.unique().numel() >= 2, "images of different cost"
    for p in block.f.parameters():
        mine, found = slopes(block, p, lambda: block(z).square().sum())
        assert mine == pytest.approx(found, rel=1e-4, abs=1e-5)


def effort(block: ODEBlock, z: torch.Tensor) -> torch.Tensor:
    block(z)
    assert block.effort is not None
    return block.effort


@pytest.mark.parametrize("method", PAIRS)
def test_effort_is_a_smooth_count_of_evaluations(method: str) -> None:
    block, z = exact_block(method, 1e-12), of_all_sizes()
    for p in block.f.parameters():
        mine, found = slopes(block, p, lambda: effort(block, z).sum())
        assert mine == pytest.approx(found, rel=1e-3, abs=2e-3)  # a fifth root of a small error
    cost, smooth = [], []
    for tol in (1e-2, 1e-4, 1e-6):
        block.solver = solver(method, rtol=tol, atol=tol, max_nfe=10_000)
        smooth.append(effort(block, z).detach())
        cost.append(block.nfe)
    found, counted = torch.stack(smooth).flatten(), torch.stack(cost).flatten().double()
    # Less than the count: the last step is cut, and rejected steps are left out.
    assert (found <= counted).all() and (found >= 0.25 * counted).all()
    assert float(torch.corrcoef(torch.stack((found, counted)))[0, 1]) > 0.98


def test_effort_of_an_image_does_not_depend_on_its_batch() -> None:
    block, z = exact_block("bosh3", 1e-3), of_all_sizes()
    whole = effort(block, z)
    for i in (0, 3, 5):
        torch.testing.assert_close(effort(block, z[i : i + 1])[0], whole[i])


def test_a_field_of_zero_has_a_finite_gradient_of_effort() -> None:
    block = ODEBlock(8, solver("dopri5", rtol=1e-3, atol=1e-3)).train()
    torch.nn.init.zeros_(block.f.norms[2].weight)
    effort(block, states()).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in block.parameters())


def test_a_price_is_added_to_the_loss_and_lowers_the_evaluations() -> None:
    torch.manual_seed(0)
    model = ode_block(width=8, solver="heun_euler", penalty=0.5, stages=(3, 4)).train()
    assert isinstance(model, Regularized)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model(images)
    mean = sum(float(b.effort.detach().mean()) for b in ode_blocks(model) if b.effort is not None)
    first = float(model.nfe.double().mean())
    assert float(model.regularization().detach()) == pytest.approx(0.5 * mean)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        model(images)
        model.regularization().backward()
        optimizer.step()
    model(images)
    assert float(model.nfe.double().mean()) < 0.9 * first
    model.regularization()
    copy.deepcopy(model)  # nothing of the last step is held


def test_a_price_leaves_weight_decay_as_the_null_has_it() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(64) % 2, ("a", "b"), flip=False)
    recipe = recipe_for(split, 1, torch.device("cpu"))
    decay = [
        State.start(m, recipe).optimizer.param_groups[0]["weight_decay"]
        for m in (
            resnet18_slot4(width=8),
            ode_block(width=8),
            ode_block(width=8, solver="bosh3", penalty=0.1),
            parabolic(width=8),
        )
    ]
    assert decay == [5e-4, 5e-4, 5e-4, 0.0]
    ends = []
    for penalty in (0.0, 0.1):
        torch.manual_seed(0)
        model = ode_block(num_classes=2, width=8, solver="bosh3", penalty=penalty)
        made, history = train(model, split, recipe, seed=0, device=torch.device("cpu"))
        ends.append(history[0]["loss"])
        assert made(images[:2] / 255).isfinite().all()
    assert ends[1] > ends[0] + 0.1 * 5, "at least a step's evaluations"


def test_a_price_asks_for_an_adaptive_solver() -> None:
    with pytest.raises(ValueError, match=r"an adaptive solver; got 0.1 with rk4. Use one of heun"):
        ode_block(width=8, penalty=0.1)
    with pytest.raises(ValueError, match="`penalty` must be >= 0"):
        ode_block(width=8, penalty=-0.1, solver="bosh3")
    model = ode_block(width=8, penalty=0.1, solver="bosh3").train()
    model.solver = solver("rk4", num_steps=2)
    model(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="needs an adaptive solver; got rk4"):
        model.regularization()


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_twice_the_time_is_the_flow_continued(method: str) -> None:
    settings = {"num_steps": 4} if method == "rk4" else {"rtol": 1e-7, "atol": 1e-7}
    block, z = (
        awake(ODEBlock(8, solver(method, **settings), time=2.0)).double(),
        2 * states(3).double(),
    )
    with torch.no_grad():
        half = solver("rk4", num_steps=64)
        wanted = half(block.f, half(block.f, z).u, 1.0, 2.0).u
        torch.testing.assert_close(block(z), wanted, rtol=0, atol=0.02 if method == "rk4" else 1e-4)
        assert not torch.allclose(block(z), half(block.f, z).u, atol=0.1)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_learned_time_starts_as_the_given_one_and_has_a_gradient(method: str) -> None:
    settings = {"num_steps": 2} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-6}
    given, learned = (
        awake(ODEBlock(8, solver(method, **settings), time=1.5, learned=x)).double()
        for x in (False, True)
    )
    z = 2 * states(3).double()
    assert given.time == 1.5 and learned.time == pytest.approx(1.5)
    torch.testing.assert_close(learned(z), given(z), rtol=1e-4, atol=1e-5)
    assert learned.log_time is not None
    mine, found = slopes(learned, learned.log_time, lambda: learned(z).square().sum())
    assert mine == pytest.approx(found, rel=1e-4)


def test_time_one_is_the_network_that_there_was() -> None:
    model, longer = ode_block(width=8), ode_block(width=8, learn_time=True)
    assert not [k for k in model.state_dict() if "time" in k]
    assert count(longer) - count(model) == 1
    block = next(ode_blocks(model))
    z = states(4, 64)
    assert torch.equal(block(z), block.solver(block.f, z).u)
    for wrong in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="`time` must be > 0 and finite"):
            ode_block(width=8, time=wrong)
