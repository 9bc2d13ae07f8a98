import pytest
import torch

from harness.models.diffusifynet import GRID, OFF, TOUCHPOINTS, diffusifynet
from harness.models.ops.solvers import solver
from harness.models.slots import resnet18_slot4

ALL_OFF = dict.fromkeys(TOUCHPOINTS, OFF)


def test_with_everything_off_it_is_resnet18_with_a_plain_slot_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain = resnet18_slot4(width=8)
    torch.manual_seed(0)
    off = diffusifynet(width=8, **ALL_OFF)
    assert off.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(off.parameters(), plain.parameters(), strict=True))
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(off.eval()(images), plain.eval()(images))


def test_what_is_off_cannot_be_done() -> None:
    off, images = diffusifynet(width=8, **ALL_OFF).eval(), torch.rand(2, 3, 32, 32)
    assert off.attention_maps(images) == {} and off.solver is None and off.nfe is None
    assert torch.equal(off.augment(images, torch.Generator()), images)
    with pytest.raises(ValueError, match="There is no ODE block to solve"):
        off.solver = solver("rk4", num_steps=2)


def test_everything_on_can_do_everything() -> None:
    model, images = diffusifynet(width=8).eval(), torch.rand(2, 3, 32, 32)
    assert list(model.attention_maps(images)) == ["layer3.3"]
    model.solver = solver("euler", num_steps=3)
    model(images)
    assert model.nfe.tolist() == [3, 3]
    assert list(model.blocks())[-4:] == ["layer3.2", "layer3.3", "layer4.0", "layer4.1"]


def test_the_grid_has_every_combination_once() -> None:
    assert len(GRID) == 16 and len({tuple(g.values()) for g in GRID}) == 16
    assert GRID[0] == ALL_OFF
    assert all(name in (OFF, next(iter(TOUCHPOINTS[t]))) for g in GRID for t, name in g.items())


@pytest.mark.parametrize(
    "touchpoint, name", [(t, n) for t, choices in TOUCHPOINTS.items() for n in choices]
)
def test_every_touchpoint_can_stand_alone(touchpoint: str, name: str) -> None:
    model = diffusifynet(width=8, **(ALL_OFF | {touchpoint: name})).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.isfinite(model(images)).all()
    changed = model.augment(images, torch.Generator().manual_seed(1))
    assert (touchpoint == "augmentation") or torch.equal(changed, images)


def test_unknown_touchpoints_are_refused() -> None:
    with pytest.raises(LookupError, match="Did you mean `pde_layer`"):
        diffusifynet(width=8, layer="pde_leyer")
