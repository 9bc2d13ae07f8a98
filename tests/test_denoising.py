"""Learned denoisers against closed forms, and training by a loss of a model's own."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.models import denoising
from harness.models.base import Averaged, Denoising, WithOwnLoss
from harness.models.cards import MODELS
from harness.models.denoising import Denoiser
from harness.models.edm_score import DATA, coefficients, edm_score
from harness.models.flow_matching import Flow, flow_matching
from harness.models.unet import UNet
from harness.running import train as training
from harness.running.average import Average
from harness.running.initial import initialize
from harness.running.options import Options
from harness.running.plan import check_fairness, plan
from harness.running.recipes import Recipe, describe_recipe, flags, recipe_for
from harness.running.state import State
from harness.running.step import Replayed, Step
from harness.running.train import train
from harness.suites.datasets import Split, load

CPU = torch.device("cpu")
SIGMAS = torch.tensor([0.02, 0.1, 0.5, 3.0, 80.0], dtype=torch.float64)
LEARNED = (edm_score, flow_matching)


@pytest.fixture(scope="module")
def split() -> Split:
    whole = load("digits", train=True, root=Path())
    return dataclasses.replace(whole, images=whole.images[:320], labels=whole.labels[:320])


def moved(builder: Any) -> Any:
    """A small model some way from its start, where many weights are zero."""
    model = initialize(lambda: builder(num_classes=4, width=8), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return model.eval()


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.mark.parametrize("builder", LEARNED)
def test_it_promises_what_training_and_sampling_ask_for(builder: Any) -> None:
    model = builder(width=8)
    assert all(isinstance(model, kind) for kind in (Denoising, WithOwnLoss, Averaged))


def test_inputs_and_targets_of_the_network_have_unit_variance() -> None:
    c_skip, c_out, c_in = (c.flatten() for c in coefficients(SIGMAS))
    one, d = torch.ones_like(SIGMAS), DATA
    torch.testing.assert_close(c_in**2 * (SIGMAS**2 + d**2), one)
    # T = ((1 - c_skip) x - c_skip s n) / c_out of independent x and n
    targets = ((1 - c_skip) ** 2 * d**2 + c_skip**2 * SIGMAS**2) / c_out**2
    torch.testing.assert_close(targets, one)
    weights = (SIGMAS**2 + d**2) / (SIGMAS * d) ** 2
    torch.testing.assert_close(weights * c_out**2, one)
    for other in (0.99, 1.01):  # the skip lets the network do the least
        away = (1 - other * c_skip) ** 2 * d**2 + (other * c_skip) ** 2 * SIGMAS**2
        assert (away > c_out**2).all()


def test_before_training_it_is_the_denoiser_of_a_gaussian() -> None:
    model, y = edm_score(width=8).double(), noise(5, 3, 32, 32, dtype=torch.float64)
    shrunk = DATA**2 / (DATA**2 + SIGMAS**2)
    torch.testing.assert_close(model.denoise(y, SIGMAS, None), shrunk[:, None, None, None] * y)


@pytest.mark.parametrize("log_mean", [-1.2, 0.2])
def test_the_loss_is_the_weighted_error_of_denoising(log_mean: float) -> None:
    model, images = moved(partial(edm_score, log_mean=log_mean)), torch.rand(6, 3, 32, 32)
    labels = torch.arange(6) % 4
    found = model.training_loss(images, labels, torch.Generator().manual_seed(3))
    generator, x = torch.Generator().manual_seed(3), 2 * images - 1
    sigma = (1.2 * torch.randn(6, generator=generator) + log_mean).exp()
    noisy = x + sigma[:, None, None, None] * torch.randn(x.shape, generator=generator)
    known = labels.where(torch.rand(6, generator=generator) >= 0.1, -1)
    error = (model.denoise(noisy, sigma, known) - x).square().flatten(1).mean(1)
    weights = (sigma**2 + DATA**2) / (sigma * DATA) ** 2
    torch.testing.assert_close(found, (weights * error).mean(), rtol=1e-4, atol=0)


def test_a_mean_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="`log_mean` must be finite; got inf"):
        edm_score(log_mean=math.inf)


def test_a_velocity_and_a_denoiser_are_two_forms_of_one_thing() -> None:
    """Of images from N(mu, d^2), whose velocity and denoiser are known."""
    mu, d = 0.3, 0.7

    class Known(Flow):
        def velocity(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            t = t[:, None, None, None]
            slope = (t - (1 - t) * d**2) / ((1 - t) ** 2 * d**2 + t**2)  # of E[n - x | x_t]
            return slope * (x - (1 - t) * mu) - mu

    y = noise(5, 3, 32, 32, dtype=torch.float64) * SIGMAS[:, None, None, None]
    found = Known(4, 8, 1, 1).double().denoise(y, SIGMAS, None)
    shrunk = (d**2 / (d**2 + SIGMAS**2))[:, None, None, None]
    torch.testing.assert_close(found, mu + shrunk * (y - mu), rtol=1e-9, atol=1e-9)


def test_the_classifier_is_bayes_rule_where_the_denoiser_is_that_of_gaussians() -> None:
    """log p(x | c) = -|x - mu_c|^2 / (2 d^2), but for levels beyond the ends of the integral."""
    d, means = 0.4, torch.linspace(-0.02, 0.02, 4)

    class Known(Denoiser):
        def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            mu, s = means[labels][:, None, None, None], sigma[:, None, None, None]
            return mu + d**2 / (d**2 + s**2) * (noisy - mu)

    model = Known(4, 8, levels=30, draws=1)
    model.noise.zero_()  # its mean, since the error is linear in the noise but for what all share
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.02 + 0.49
    away = (2 * images[:, None] - 1 - means[:, None, None, None]).square().flatten(2).sum(2)
    low, high = denoising.FROM, denoising.TO
    inside = (1 / (d**2 + low**2) - 1 / (d**2 + high**2)) / 2  # of 1 / (2 d^2) in all
    expected = (-inside * away).log_softmax(1)
    torch.testing.assert_close(model(images), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("builder", LEARNED)
def test_an_image_is_denoised_as_its_class_says_and_alone(builder: Any) -> None:
    model, y = moved(builder), noise(1, 3, 32, 32).expand(6, -1, -1, -1)
    sigma = torch.full((6,), 0.7)
    with torch.no_grad():
        found = model.denoise(y, sigma, torch.tensor([0, 1, 2, 3, -1, 0]))
        unknown = model.denoise(y, sigma, None)
        alone = model.denoise(y[:1], torch.tensor([0.7]), torch.tensor([0]))
    apart = torch.cdist(found[:5].flatten(1), found[:5].flatten(1)) + 9 * torch.eye(5)
    assert apart.min() > 1e-3, "four classes and any class"
    torch.testing.assert_close(found[4], unknown[0])
    torch.testing.assert_close(found[5], found[0])
    torch.testing.assert_close(alone[0], found[0])


def test_images_of_any_size_go_through_the_network() -> None:
    net = UNet(4, 8)
    nn.init.normal_(net.last.weight)
    x = noise(2, 3, 37, 34)
    out = net(x, torch.zeros(2), None)
    assert out.shape == x.shape
    padded = nn.functional.pad(x, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(out, net(padded, torch.zeros(2), None)[:, :, :37, :34])


def test_logits_have_a_gradient_in_the_image() -> None:
    model, images = moved(edm_score).double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    images.requires_grad_()
    (slope,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    step = 1e-5 * noise(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (model(images + sign * step)[:, 0].sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2, (slope * step).sum(), rtol=1e-5, atol=0)


class Line(nn.Module):
    """Learns the mean of numbers by a loss that draws; nothing here is an image's business."""

    ema = 0.7

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * self.weight

    def training_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(len(images), 2, generator=generator)
        return (self.weight - images.mean((1, 2, 3))[:, None] - drawn).square().mean()


RECIPE = Recipe(3, 32, 0.1, 0.9, 0.0, 0, False, "float32", optimizer="adam")


def test_the_average_is_that_of_the_formula() -> None:
    model = Line()
    step = Step(State.start(model, RECIPE), model, RECIPE, CPU)
    step.generator = torch.Generator().manual_seed(0)
    seen, expected = [model.weight.detach().clone()], model.weight.detach().double()
    for n in range(1, 31):
        step(torch.rand(8, 3, 4, 4), torch.zeros(8, dtype=torch.int64), 0.1)
        seen.append(model.weight.detach().clone())
        kept = min(0.7, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * seen[-1].double()
    average = step.state.average
    assert isinstance(average, Average) and len({tuple(w.tolist()) for w in seen}) == 31
    torch.testing.assert_close(average.values["weight"].double(), expected, rtol=1e-5, atol=1e-6)
    with step.state.evaluated():
        assert torch.equal(model.weight, average.values["weight"])
    assert torch.equal(model.weight, seen[-1]), "and the training goes on from its own weights"
    assert step.means(30) == (float(step.losses) / 30, None)


def test_adam_is_that_of_its_paper() -> None:
    model = Line()
    step = Step(State.start(model, RECIPE), model, RECIPE, CPU)
    weight = model.weight.detach().double()
    m = v = torch.zeros(2, dtype=torch.float64)
    for n in range(1, 6):
        step.generator = torch.Generator().manual_seed(n)
        images = torch.rand(8, 3, 4, 4)
        x, drawn = images.mean((1, 2, 3))[:, None], noise_of(n)
        slope = (2 * (weight - x - drawn) / 16).sum(0)
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        weight = weight - 0.1 * (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)).sqrt() + 1e-8)
        step(images, torch.zeros(8, dtype=torch.int64), 0.1)
    torch.testing.assert_close(model.weight.detach().double(), weight, rtol=1e-5, atol=1e-5)


def noise_of(seed: int) -> Tensor:
    return torch.randn(8, 2, generator=torch.Generator().manual_seed(seed)).double()


def trained(split: Split, builder: Any, recipe: Recipe, **kwargs: Any) -> tuple[Any, Any]:
    model, history = train(initialize(builder, 0), split, recipe, seed=0, device=CPU, **kwargs)
    return model.state_dict(), history


@pytest.mark.parametrize("held_out", [0.0, 0.25])
@pytest.mark.parametrize("last", [1, 3, 5, 8])  # three steps an epoch
def test_a_killed_training_goes_on_bit_for_bit(
    split: Split, last: int, held_out: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that Adam and the average keep, after every step."""
    few = dataclasses.replace(split, images=split.images[:100], labels=split.labels[:100] % 2)
    recipe = dataclasses.replace(RECIPE, held_out=held_out, batch_size=25)
    whole = trained(few, Line, recipe)

    class Killed(Exception):
        pass

    def die(*, step: int, **kwargs: Any) -> None:
        if step > last:
            raise Killed

    partial = tmp_path / "seed0.partial"
    monkeypatch.setattr(training.Clock, "due", lambda self: True)
    with pytest.raises(Killed):
        trained(few, Line, recipe, partial=partial, report=die)
    assert partial.exists()
    weights, history = trained(few, Line, recipe, partial=partial)
    assert torch.equal(weights["weight"], whole[0]["weight"]) and history == whole[1]
    assert ("held_out" in history[0]) == bool(held_out) and "accuracy" not in history[0]


@pytest.mark.parametrize("builder", LEARNED)
def test_the_loss_falls_and_a_stop_changes_no_bit(
    builder: Any, split: Split, tmp_path: Path
) -> None:
    recipe = recipe_for(split, 3, CPU, "generative")
    assert recipe.batch_size == 32

    def build() -> nn.Module:
        return builder(width=8)

    weights, history = trained(split, build, recipe)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]

    class Killed(Exception):
        pass

    def die(*, step: int, **kwargs: Any) -> None:
        if step > 20:
            raise Killed

    partial = tmp_path / "seed0.partial"
    with pytest.raises(Killed):
        trained(split, build, recipe, partial=partial, report=die)
    again, _ = trained(split, build, recipe, partial=partial)
    assert all(torch.equal(weights[k], again[k]) for k in weights)


def test_a_loss_that_draws_is_no_graph() -> None:
    model = Line()
    assert Replayed(Step(State.start(model, RECIPE), model, RECIPE, CPU)).why_not == (
        "the loss draws on the CPU"
    )


def test_a_loss_of_its_own_can_be_compiled(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    few = dataclasses.replace(split, images=split.images[:64], labels=split.labels[:64] % 2)
    compiled = dataclasses.replace(RECIPE, epochs=1, compiled=True)
    try:
        weights, _ = trained(few, Line, compiled)
    finally:
        torch.compiler.reset()
    eager, _ = trained(few, Line, dataclasses.replace(compiled, compiled=False))
    torch.testing.assert_close(weights["weight"], eager["weight"])


def test_the_recipe_is_told_from_the_others(split: Split) -> None:
    recipe = recipe_for(split, 2, CPU, "generative")
    told = recipe.described()
    assert told["optimizer"] == "adam" and Recipe(**told) == recipe
    assert recipe.crop_padding == 0 and recipe.weight_decay == 0
    assert describe_recipe(told) == "2 epochs by `generative`"
    assert flags(told) == "--epochs 2 --recipe generative"
    assert "optimizer" not in recipe_for(split, 2, CPU).described()


def test_it_is_the_usual_one_of_a_model_with_a_loss_of_its_own(tmp_path: Path) -> None:
    options = Options(results=tmp_path, data=tmp_path)
    jobs = plan(["flow_matching", "resnet18"], ["digits"], [0], ["clean"], options)
    check_fairness(jobs, options)  # side by side in one folder
    own, other = (job.recipe(job.split, options) for job in jobs)
    assert own.optimizer == "adam" and own.epochs == 60 and other.optimizer == "sgd"
    asked = dataclasses.replace(options, recipe="fast")
    assert jobs[0].recipe(jobs[0].split, asked).optimizer == "sgd"
    assert jobs[1].recipe(jobs[1].split, options, Line()).optimizer == "adam"  # of a user


def test_levels_and_draws_are_arguments_of_the_builder() -> None:
    model = MODELS["flow_matching"](num_classes=4, width=8, levels=2, draws=3)
    assert model.noise.shape == (6, 3, 32, 32)
    middle = math.sqrt(denoising.FROM * denoising.TO)
    expected = [math.sqrt(denoising.FROM * middle)] * 3 + [math.sqrt(middle * denoising.TO)] * 3
    torch.testing.assert_close(model.levels, torch.tensor(expected))
    assert model(torch.rand(2, 3, 48, 48)).shape == (2, 4)
