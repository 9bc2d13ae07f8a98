"""What the card of a null model says it is matched in, measured on photographs and digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from harness.models.cards import MODELS
from harness.models.catalog import CATALOG
from harness.models.convection_diffusion import shuffle
from harness.models.matched_aug import MATCHED, blur_until, rms
from harness.models.pde_layer import DepthwiseHeatLayer, GaussianBlurLayer, PDELayer, mirror
from harness.models.size import size_of
from harness.running.initial import initialize, shared_name
from harness.suites.datasets import as_input, load

OF_EQUAL_CHANGE = [name for name, entry in CATALOG.items() if MATCHED in entry.matched]


@pytest.fixture(scope="module", params=["photographs", "digits"])
def images(request: pytest.FixtureRequest) -> Tensor:
    """(64, 3, 32, 32) in [0, 1]."""
    if request.param == "digits":
        return as_input(load("digits", train=True, root=Path()).images[:64])
    draw, cut = np.random.default_rng(0), []
    for photograph in load_sample_images().images:
        for _ in range(32):
            h, w = draw.integers(0, photograph.shape[0] - 96), draw.integers(0, 500)
            cut.append(photograph[h : h + 96 : 3, w : w + 96 : 3])
    return as_input(torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2))


def augmented(name: str, images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return MODELS[name](num_classes=10, width=8).augment(images, generator)


@pytest.mark.parametrize("name", OF_EQUAL_CHANGE)
def test_an_equal_change_is_equal_image_by_image(name: str, images: Tensor) -> None:
    wanted = rms(augmented("pde_aug", images) - images)
    found = rms(augmented(name, images) - images)
    assert ((wanted == 0) == (found == 0)).all(), "the same images are changed"
    there = wanted > 0
    assert there.sum() >= 20
    torch.testing.assert_close(found[there], wanted[there], rtol=0.05, atol=0)


def test_an_equal_time_is_no_equal_change(images: Tensor) -> None:
    wanted = rms(augmented("pde_aug", images) - images)
    plain = rms(augmented("gaussian_blur_aug", images) - images)
    assert plain.mean() > 2 * wanted.mean()


def test_there_is_a_matched_null_of_each_kind_of_filter() -> None:
    assert len(OF_EQUAL_CHANGE) == 3 and set(OF_EQUAL_CHANGE) <= set(CATALOG["pde_aug"].nulls)


def test_blur_reaches_any_change_up_to_the_mean_of_the_image(images: Tensor) -> None:
    most = rms(images - images.mean((2, 3), keepdim=True))
    for share in (0.0, 0.01, 0.5, 0.99):
        found = blur_until(images.clone(), share * most)
        torch.testing.assert_close(rms(found - images), share * most, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=1e-5)


def test_layers_that_are_matched_at_the_start_are_one_map(images: Tensor) -> None:
    maps = torch.nn.functional.avg_pool2d(images, 4)
    wanted = PDELayer(3)(maps).detach()
    for layer in (DepthwiseHeatLayer(3), PDELayer(3, learned=False)):
        torch.testing.assert_close(layer(maps), wanted, rtol=0, atol=1e-6)
    assert not list(PDELayer(3, learned=False).parameters())
    gaussian = GaussianBlurLayer(3, 1.0, learned=False)
    assert float(rms(gaussian(maps) - wanted).max()) < 0.2 * float(rms(maps - wanted).max())


def test_a_gaussian_has_the_variance_of_the_diffusion_and_keeps_means(images: Tensor) -> None:
    impulse = torch.zeros(1, 1, 41, 41)
    impulse[..., 20, 20] = 1
    x = torch.arange(-20, 21.0)
    for layer in (PDELayer(1), DepthwiseHeatLayer(1), GaussianBlurLayer(1, 1.0, learned=False)):
        spread = layer(impulse).detach()[0, 0]
        assert float((spread.sum(0) * x**2).sum()) == pytest.approx(1.0, abs=2e-3)
        maps = torch.nn.functional.avg_pool2d(images[:, :1], 4)
        torch.testing.assert_close(
            layer(maps).detach().mean((2, 3)), maps.mean((2, 3)), rtol=0, atol=1e-5
        )


def test_a_mirror_repeats_the_border() -> None:
    row = torch.arange(3.0).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    assert mirror(row, 2)[0, 0, 0].tolist() == [1, 0, 0, 1, 2, 2, 1]
    assert mirror(row, 4)[0, 0, 0].tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]


def test_untied_evaluations_cost_what_tied_ones_cost() -> None:
    euler = size_of(lambda **k: MODELS["ode_block"](**k, solver="euler", num_steps=8))
    untied, whole = size_of(MODELS["untied_resnet"]), size_of(MODELS["ode_block"])
    assert untied.macs == euler.macs == whole.macs
    assert untied.parameters > whole.parameters


def test_one_function_untied_is_the_tied_one() -> None:
    torch.manual_seed(0)
    tied = MODELS["ode_block"](num_classes=10, width=8, solver="euler", num_steps=3).eval()
    untied = MODELS["untied_resnet"](num_classes=10, width=8, applications=3).eval()
    state = {}
    for name, value in tied.state_dict().items():
        for m in range(3) if ".f." in name else ():
            state[name.replace(".f.", f".fields.{m}.")] = value
        state |= {} if ".f." in name else {name: value}
    untied.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(untied(images), tied(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, e in CATALOG.items() if e.matched])
def test_what_is_matched_is_a_null(name: str) -> None:
    assert CATALOG[name].family == "null"
    assert any(name in entry.nulls for entry in CATALOG.values())


def ideas_of(null: str) -> list[str]:
    return [name for name, entry in CATALOG.items() if null in entry.nulls]


@pytest.mark.parametrize(
    "null", [n for n, e in CATALOG.items() if {"parameters", "multiply-adds"} & {*e.matched}]
)
def test_sizes_that_are_matched_are_within_two_percent(null: str) -> None:
    own, ideas = CATALOG[null], [CATALOG[name] for name in ideas_of(null)]
    if "parameters" in own.matched:
        assert any(own.parameters == pytest.approx(i.parameters, rel=0.02) for i in ideas)
    if "multiply-adds" in own.matched:
        assert any(own.macs == pytest.approx(i.macs, rel=0.02) for i in ideas)


@pytest.mark.parametrize("null", [n for n, e in CATALOG.items() if "initial values" in e.matched])
def test_initial_values_that_are_matched_are_equal(null: str) -> None:
    def start(name: str) -> dict[str, Tensor]:
        model = initialize(lambda: MODELS[name](num_classes=10, width=8), 0)
        return {shared_name(k): v.detach() for k, v in model.named_parameters()}

    own = start(null)
    for idea in ideas_of(null):
        wanted = start(idea)
        # A coefficient of the idea, such as kappa, has no counterpart everywhere.
        assert len(own.keys() ^ wanted.keys()) <= 1
        assert all(torch.equal(own[k], wanted[k]) for k in own.keys() & wanted.keys())


@pytest.mark.parametrize("null", [n for n, e in CATALOG.items() if "degrees" in e.matched])
def test_a_random_graph_has_the_degrees_of_the_graph(null: str) -> None:
    W = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    seen = []

    def spread(u: Tensor, W: Tensor) -> Tensor:
        seen.append(W.sum(1))
        return u

    shuffle(spread)(torch.zeros(6, 1), W)
    torch.testing.assert_close(seen[0].sort().values, W.sum(1).sort().values)
    assert not torch.equal(seen[0], W.sum(1)) and null.endswith("_random_graph")
