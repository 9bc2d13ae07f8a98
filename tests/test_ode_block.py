from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from harness.models.base import Layered, Solving
from harness.models.lookup import source
from harness.models.neural_ode import Augment, neural_ode, neural_ode_blocks, neural_ode_tied
from harness.models.ode_block import (
    Autonomous,
    ODEBlock,
    TiedBlock,
    VectorField,
    ode_block,
    tied_resnet,
)
from harness.models.ops.solvers import solver
from harness.models.slots import resnet18_slot4
from harness.progress import Progress
from harness.running.execute import execute
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage.results import read


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
    options = replace(options, weights=tmp_path / "w.safetensors")
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
