"""Models that keep their training images, against formulas over all of them."""

import dataclasses
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from harness.analysis import comparability
from harness.models import fitting
from harness.models.cards import MODELS
from harness.models.exact_score import diffusion_classifier, exact_score, nearest_neighbors
from harness.models.gaussian_fit import gaussian_fit
from harness.models.ops import samplers, score
from harness.progress import Progress
from harness.refusal import Refusal
from harness.running.jobs import Job
from harness.running.networks import trained
from harness.running.options import Options
from harness.running.plan import plan
from harness.running.recipes import FITTED, describe_recipe
from harness.running.train import TRAINER, train
from harness.storage import checkpoints
from harness.suites.datasets import Split, as_input, load

NAMES = ("exact_score", "diffusion_classifier", "nearest_neighbors", "gaussian_fit")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def halves() -> tuple[Split, Split]:
    """Digits at 8 x 8 pixels: as many images as numbers need, for some seconds of arithmetic."""

    def half(train: bool) -> Split:
        whole = load("digits", train=train, root=Path())
        return dataclasses.replace(whole, images=whole.images[:, :, ::4, ::4].contiguous())

    return half(True), half(False)


def fitted(model: nn.Module, split: Split) -> nn.Module:
    return train(model, split, FITTED, seed=0, device=CPU)[0]


def flat(images: Tensor) -> Tensor:
    return images.flatten(1).double() / 127.5 - 1


def exponents(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    return -(flat(x)[:, None] - flat(y)).square().sum(2) / (2 * sigma**2)


def test_it_classifies_by_the_sum_over_each_class(halves: tuple[Split, Split]) -> None:
    known, new = halves
    for sigma in (0.3, 2.0):
        model = fitted(diffusion_classifier(sigma=sigma), known)
        found = model(as_input(new.images[:40]))
        e = exponents(new.images[:40], known.images, sigma)
        sums = torch.stack([e[:, known.labels == c].logsumexp(1) for c in range(10)], 1)
        torch.testing.assert_close(found.double(), sums.log_softmax(1), rtol=1e-4, atol=2e-4)


def test_the_nearest_neighbor_is_that_of_scikit_learn(halves: tuple[Split, Split]) -> None:
    known, new = halves
    model = fitted(nearest_neighbors(), known)
    other = KNeighborsClassifier(1).fit(known.images.flatten(1).double(), known.labels)
    found = model(as_input(new.images)).argmax(1)
    assert torch.equal(found, torch.tensor(other.predict(new.images.flatten(1).double())))


def test_the_sum_tends_to_the_nearest_neighbor(halves: tuple[Split, Split]) -> None:
    known, new = halves
    one, other = (fitted(m(sigma=0.05), known) for m in (diffusion_classifier, nearest_neighbors))
    images = as_input(new.images)
    assert torch.equal(one(images).argmax(1), other(images).argmax(1))


@pytest.mark.parametrize("build", [diffusion_classifier, nearest_neighbors, gaussian_fit])
def test_the_level_is_the_best_of_all_for_images_held_out(
    halves: tuple[Split, Split], build: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = halves[0]
    monkeypatch.setattr(fitting, "LEVELS", fitting.LEVELS[::6])
    model = fitted(build(), known)
    held = fitting.held_out(len(known))
    if build is not gaussian_fit:  # which keeps images in the order of classes
        order = known.labels.argsort(stable=True)
        known = dataclasses.replace(known, images=known.images[order], labels=known.labels[order])
    rest = dataclasses.replace(known, images=known.images[~held], labels=known.labels[~held])
    losses = {}
    for level in fitting.LEVELS:
        logits = fitted(build(sigma=level), rest)(as_input(known.images[held]))
        losses[level] = float(nn.functional.cross_entropy(logits, known.labels[held]))
    assert int(held.sum()) == len(known) // 5
    assert float(model.level) == pytest.approx(min(losses, key=losses.__getitem__))


def test_the_mean_of_a_class_is_over_its_images_alone(halves: tuple[Split, Split]) -> None:
    known = halves[0]
    model = fitted(exact_score(), known)
    labels = torch.tensor([3, 0, 3, 9])
    x = torch.randn(4, *known.images.shape[1:], generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 1.0, 5.0, 80.0])
    found = model.denoise(x, sigma, labels)
    for i, label in enumerate(labels):
        own = known.images[known.labels == label]
        expected = score.denoise(x[i : i + 1], sigma[i : i + 1], own)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", [exact_score, gaussian_fit])
def test_samples_of_a_class_are_of_that_class(build: type, halves: tuple[Split, Split]) -> None:
    known = halves[0]
    model = fitted(build(), known)
    labels = torch.arange(40) % 10
    with torch.no_grad():
        made = samplers.sample(
            model.denoise,
            samplers.noise(torch.arange(40), (3, 8, 8), 0),
            method="dpmpp_2m",
            nfe=20,
            sigma_min=model.sigma_min,
            sigma_max=model.sigma_max,
            labels=labels,
        ).images
        found = fitted(nearest_neighbors(), known)((made / 2 + 0.5).clamp(0, 1)).argmax(1)
    assert (found == labels).float().mean() > 0.85
    if build is exact_score:
        gaps = (made.flatten(1)[:, None] - flat(known.images)).abs().amax(2).amin(1)
        assert (gaps < 1e-3).all(), "they are training images"


class TestGaussian:
    @pytest.mark.parametrize("count", [60, 1442])
    def test_it_is_the_formula_with_mean_and_covariance(
        self, count: int, halves: tuple[Split, Split]
    ) -> None:
        known, new = halves
        known = dataclasses.replace(known, images=known.images[:count], labels=known.labels[:count])
        model = fitted(gaussian_fit(sigma=1.0), known)
        y, sigma = flat(known.images), torch.linspace(0.05, 20, 30, dtype=torch.float64)
        x = new.images[:30].double() / 127.5 - 1 + sigma.view(-1, 1, 1, 1)
        labels = new.labels[:30]
        means = torch.stack([y[known.labels == c].mean(0) for c in range(10)])
        for wanted, mean, residual in (
            (None, y.mean(0).expand(30, -1), y - y.mean(0)),
            (labels, means[labels], y - means[known.labels]),
        ):
            covariance = residual.T @ residual / count
            found = model.denoise(x, sigma, wanted).flatten(1)
            for i in range(30):
                ridge = covariance + sigma[i] ** 2 * torch.eye(192, dtype=torch.float64)
                gap = x[i].flatten() - mean[i]
                expected = mean[i] + covariance @ torch.linalg.solve(ridge, gap)
                torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-4)

    def test_it_classifies_by_the_densities_of_gaussians(self, halves: tuple[Split, Split]) -> None:
        known, new = halves
        model = fitted(gaussian_fit(sigma=0.5), known)
        y, x = flat(known.images), flat(new.images[:50])
        means = torch.stack([y[known.labels == c].mean(0) for c in range(10)])
        residual = y - means[known.labels]
        ridge = residual.T @ residual / len(y) + 0.25 * torch.eye(192, dtype=torch.float64)
        densities = torch.stack(
            [torch.distributions.MultivariateNormal(m, ridge).log_prob(x) for m in means], 1
        )
        prior = torch.bincount(known.labels).double().log()
        found = model(as_input(new.images[:50])).double()
        torch.testing.assert_close(found, (densities + prior).log_softmax(1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_without_images_all_classes_are_alike(name: str) -> None:
    model = MODELS[name](num_classes=3)
    assert torch.equal(model(torch.rand(2, 3, 32, 32)), torch.zeros(2, 3))
    if hasattr(model, "denoise"):
        with pytest.raises(ValueError, match="Call `fit` first"):
            model.denoise(torch.zeros(1, 3, 8, 8), torch.ones(1), None)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_images_is_never_predicted(name: str, halves: tuple[Split, Split]) -> None:
    model = fitted(MODELS[name](num_classes=12), halves[0])
    logits = model(as_input(halves[1].images[:20]))
    assert torch.isfinite(logits).all() and (logits.argmax(1) < 10).all()


def test_the_denoiser_of_a_class_without_images_is_refused(halves: tuple[Split, Split]) -> None:
    model = fitted(exact_score(num_classes=12), halves[0])
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="each class that is asked for"):
        model.denoise(x, torch.ones(2), torch.tensor([0, 11]))
    assert torch.isfinite(model.denoise(x, torch.ones(2), torch.tensor([0, 9]))).all()


def test_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="`sigma` must be > 0"):
        diffusion_classifier(sigma=0.0)
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        nearest_neighbors(k=0)


def test_images_are_kept_as_bytes(halves: tuple[Split, Split], tmp_path: Path) -> None:
    model = fitted(exact_score(), halves[0])
    checkpoints.write(tmp_path / "kept.safetensors", model.state_dict(), {})
    state, _ = checkpoints.read(tmp_path / "kept.safetensors")
    assert state["images"].dtype == torch.uint8
    assert sorted(map(bytes, state["images"].numpy())) == sorted(
        map(bytes, halves[0].images.flatten(1).numpy())
    )
    assert (tmp_path / "kept.safetensors").stat().st_size < 1442 * (192 + 8) + 2000


def planned(models: tuple[str, ...], options: Options, seeds: tuple[int, ...] = (0,)) -> list[Job]:
    return plan(models, ["digits"], seeds, ["clean"], options)


def test_training_keeps_the_images_once_whatever_the_recipe(tmp_path: Path) -> None:
    options = Options(results=tmp_path, data=tmp_path, limit=40)
    models = ("diffusion_classifier", "diffusion_classifier(sigma=0.5)")
    said = io.StringIO()
    for job in planned(models, options, (0, 1)):
        assert job.fitted and not job.trained and job.width is None
        trained(job, options, Progress(Console(file=said, width=200)))
    assert "fitting it to 1442 images" in said.getvalue()
    other = dataclasses.replace(options, epochs=3, recipe="full", may_train=False)
    jobs = planned(models, other, (0, 1))
    states = [checkpoints.read(job.weights.path) for job in jobs]
    assert all(job.fitted and job.trained for job in jobs)
    for state, description in states[1:2]:
        assert description["recipe"] == {"epochs": 0}
        assert describe_recipe(description["recipe"]) == "no steps"
        assert all(torch.equal(value, states[0][0][name]) for name, value in state.items())
    assert float(states[2][0]["level"]) == 0.5 != float(states[0][0]["level"])


def test_it_is_compared_with_a_network_of_any_training(tmp_path: Path) -> None:
    options = Options(results=tmp_path, data=tmp_path, limit=40)
    first = dataclasses.replace(options, width=8, epochs=1)
    (net,) = planned(("resnet18",), first)
    path = net.weights.path
    recipe = {"epochs": 1}
    described = {"model": "resnet18", "dataset": "digits", "seed": 0, "arguments": {"width": 8}}
    described |= {"recipe": recipe, "code": dict(net.source.code), "trainer": TRAINER}
    described |= {"data": load("digits", train=True, root=tmp_path).fingerprint()}
    checkpoints.write(path, net.build().state_dict(), described)
    fit, old = planned(("nearest_neighbors", "resnet18"), options)
    assert old.trained and fit.fitted and not fit.trained
    with pytest.raises(Refusal, match="was trained for 1 epoch, and `resnet20`"):
        planned(("resnet20", "resnet18"), options)
    trained(fit, options, Progress(Console(file=io.StringIO())))
    assert all(job.trained for job in planned(("nearest_neighbors", "resnet18"), options))


def test_how_it_was_trained_is_no_difference_in_tables() -> None:
    known = {"training": {"recipe": {"epochs": 0}, "arguments": {}, "data": "abc"}}
    net = {"training": {"recipe": {"epochs": 26}, "arguments": {"width": 8}, "data": "abc"}}
    assert list(comparability._training(known)) == ["training images"]
    assert comparability._training(net)["epochs"] == "26"
