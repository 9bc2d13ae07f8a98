from typing import Any

import pytest
import torch

from harness.models.base import Attending, capabilities
from harness.models.cards import MODELS
from harness.models.diffusifynet import GRID, OFF, TOUCHPOINTS, DiffusifyNet, diffusifynet
from harness.models.lookup import source
from harness.models.ode_block import ODEBlock
from harness.models.ops.solvers import solver
from harness.models.pde_layer import PDELayer
from harness.models.slots import resnet18_slot4
from harness.running.initial import initialize
from harness.running.recipes import recipe_for
from harness.running.train import train
from harness.suites.datasets import Split

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
    assert list(model.attention_maps(images)) == ["layer3.2"]
    model.solver = solver("euler", num_steps=3)
    model(images)
    assert model.nfe.tolist() == [3, 3]
    assert list(model.blocks())[-4:] == ["layer3.layer", "layer3.2", "layer4.0", "layer4.1"]


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


def name_of(arguments: dict[str, str]) -> str:
    """A combination of the grid as the name of a model, spelled by the program itself."""
    return source(f"diffusifynet({', '.join(f'{k}={v!r}' for k, v in arguments.items())})").name


def on(arguments: dict[str, str]) -> list[str]:
    return [touchpoint for touchpoint, what in arguments.items() if what != OFF]


def start(**arguments: Any) -> DiffusifyNet:
    model = initialize(lambda: diffusifynet(width=8, **arguments), 0)
    assert isinstance(model, DiffusifyNet)
    return model


def test_every_combination_has_a_name_of_its_own() -> None:
    names = [name_of(arguments) for arguments in GRID]
    assert len(set(names)) == 16 and "diffusifynet" in names
    assert "diffusifynet(attention='off', augmentation='off', block='off', layer='off')" in names
    assert "diffusifynet(layer='off')" in names


@pytest.mark.parametrize("arguments", GRID, ids=lambda a: "+".join(on(a)) or "none")
def test_what_is_switched_on_is_there_and_trains_and_nothing_else(
    arguments: dict[str, str],
) -> None:
    built = source(name_of(arguments)).build(num_classes=2, width=8)
    assert isinstance(built, DiffusifyNet) and isinstance(built, Attending)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    there = {
        "layer": any(isinstance(m, PDELayer) for m in built.modules()),
        "attention": "attention" in capabilities(built),
        "augmentation": not torch.equal(
            built.augment(images / 255, torch.Generator().manual_seed(0)), images / 255
        ),
        "block": any(isinstance(m, ODEBlock) for m in built.modules()),
    }
    assert [touchpoint for touchpoint, found in there.items() if found] == on(arguments)
    before = {k: v.clone() for k, v in built.named_parameters()}
    split = Split(images, torch.arange(64) % 2, ("a", "b"), flip=False)
    cpu = torch.device("cpu")
    model, history = train(built, split, recipe_for(split, 1, cpu), seed=0, device=cpu)
    still = [k for k, v in model.named_parameters() if torch.equal(v, before[k])]
    # One step: what lies behind a scale or a projection of zero is moved by weight decay alone.
    assert history[0]["loss"] < 10 and not [k for k in still if before[k].any()]


def test_networks_of_the_grid_share_the_initial_values_of_all_that_they_share() -> None:
    whole = dict(start().named_parameters())
    for arguments in GRID:
        other = dict(start(**arguments).named_parameters())
        both = [k for k in other if k in whole and other[k].shape == whole[k].shape]
        assert [k for k in both if not torch.equal(other[k], whole[k])] == []
        if arguments["block"] != OFF:
            assert len(both) == len(other), "all of it"


@pytest.mark.parametrize(
    "touchpoint, name, own", [("attention", "pde_attention", "qkv"), ("block", "ode_block", ".f.")]
)
def test_a_touchpoint_starts_as_in_the_model_that_has_it_alone(
    touchpoint: str, name: str, own: str
) -> None:
    alone = initialize(lambda: MODELS[name](width=8), 0).state_dict()
    inside = start().state_dict()
    shared = [k for k in alone if own in k]
    assert shared and all(torch.equal(alone[k], inside[k]) for k in shared)


def test_a_switch_changes_what_the_network_computes() -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def answer(**arguments: str) -> torch.Tensor:
        model = start(**arguments).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():  # behind zeros nothing would be seen
                if not p.any() and not name.endswith(".a"):  # a diffusion starts at a = 0
                    p.add_(0.1)
            return model(images)

    whole = answer()
    for touchpoint, choices in TOUCHPOINTS.items():
        for choice in (OFF, *list(choices)[1:]):
            same = torch.allclose(answer(**{touchpoint: choice}), whole, rtol=1e-4, atol=1e-5)
            # Augmentation is of training images alone; three layers start as one map.
            alike = touchpoint == "augmentation" or choice in (
                "pde_layer_frozen",
                "depthwise_heat_layer",
            )
            assert same == alike, (touchpoint, choice)


def test_the_null_of_every_touchpoint_can_stand_alone_or_with_the_others() -> None:
    nulls = {
        "layer": "gaussian_blur_layer",
        "attention": "plain_attention",
        "augmentation": "matched_blur_aug",
        "block": "one_step",
    }
    images = torch.rand(2, 3, 32, 32)
    whole = initialize(lambda: MODELS["diffusifynet_nulls"](width=8), 0).eval()
    assert torch.equal(whole(images), start(**nulls).eval()(images))
    for touchpoint, null in nulls.items():
        assert start(**{touchpoint: null}).eval()(images).isfinite().all()
