"""Samplers against closed forms, of a Gaussian, and against the table of digits."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from harness.models.ops import samplers, score

LOW, HIGH = 0.02, 80.0
ENDS = {"sigma_min": LOW, "sigma_max": HIGH}
GRIDDED = tuple(m for m in samplers.SAMPLERS if not samplers.is_adaptive(m))
DETERMINISTIC = tuple(m for m in GRIDDED if m != samplers.STOCHASTIC)
DEVIATION = torch.linspace(0.05, 1.5, 12, dtype=torch.float64).view(3, 2, 2)
MEAN = torch.linspace(-0.5, 0.5, 12, dtype=torch.float64).view(3, 2, 2)


def of_gaussian(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
    """The denoiser of independent normal pixels; a label moves the mean."""
    square = sigma.to(x.dtype).square()[:, None, None, None]
    mean = MEAN if labels is None else MEAN + labels[:, None, None, None]
    c2 = DEVIATION.square()
    return ((c2 * x + square * mean) / (c2 + square)).to(x.dtype)


def start(count: int, seed: int = 0) -> Tensor:
    return samplers.noise(torch.arange(count), (3, 2, 2), seed).double()


def exact(noise: Tensor, sigma: float) -> Tensor:
    """x(sigma) = mu + (x(s_max) - mu) sqrt((c^2 + sigma^2) / (c^2 + s_max^2))."""
    c2 = DEVIATION.square()
    return MEAN + (HIGH * noise - MEAN) * ((c2 + sigma**2) / (c2 + HIGH**2)).sqrt()


def exact_image(noise: Tensor) -> Tensor:
    """The exact solution down to s_min, and the last step of all samplers, to 0."""
    return of_gaussian(exact(noise, LOW), torch.full((len(noise),), LOW), None)


def rms(x: Tensor, y: Tensor) -> float:
    """Mean over samples of the root mean square over pixels."""
    return float((x - y).flatten(1).square().mean(1).sqrt().mean())


def cost(method: str, steps: int) -> int:
    stages = samplers.RUNGE_KUTTA[method].stages if method in samplers.RUNGE_KUTTA else 1
    return stages * (steps - 1) + 1


class TestGrid:
    def test_it_is_that_of_edm(self) -> None:
        levels = samplers.grid(18, 0.002, 80.0)
        assert levels.shape == (19,) and levels[-1] == 0
        assert levels[0] == pytest.approx(80) and levels[-2] == pytest.approx(0.002)
        assert levels[1] == pytest.approx(57.5858, rel=1e-5)  # EDM's second level of 18 steps
        roots = torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 18, dtype=torch.float64)
        torch.testing.assert_close(levels[:-1] ** (1 / 7), roots)

    def test_one_step_goes_to_zero(self) -> None:
        assert samplers.grid(1, LOW, HIGH).tolist() == [HIGH, 0]

    def test_levels_that_cannot_be_are_refused(self) -> None:
        for low, high in ((0.0, 1.0), (1.0, 1.0), (0.1, math.inf), (math.nan, 1.0)):
            with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
                samplers.grid(4, low, high)
        with pytest.raises(ValueError, match="`steps` must be >= 1"):
            samplers.grid(0, LOW, HIGH)


class TestCost:
    @pytest.mark.parametrize("method", GRIDDED)
    def test_the_most_steps_that_a_budget_allows(self, method: str) -> None:
        for steps in (1, 2, 5, 18):
            assert samplers.steps_for(method, cost(method, steps)) == steps
            assert samplers.steps_for(method, cost(method, steps + 1) - 1) == steps
        assert samplers.steps_for("heun", 35) == 18  # as of EDM

    @pytest.mark.parametrize("method", GRIDDED)
    def test_what_is_counted_is_what_is_spent(self, method: str) -> None:
        calls = []

        def counted(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            calls.append(len(x))
            return of_gaussian(x, sigma, labels)

        for budget in (1, 2, 9, 20):
            calls.clear()
            found = samplers.sample(counted, start(3), method=method, nfe=budget, **ENDS)
            assert found.nfe.tolist() == [len(calls)] * 3 and len(calls) <= budget
            assert len(calls) == cost(method, samplers.steps_for(method, budget))

    @pytest.mark.parametrize("method", samplers.PER_SAMPLE)
    def test_every_sample_pays_for_itself(self, method: str) -> None:
        calls = torch.zeros(5, dtype=torch.int64)

        def counted(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            assert labels is not None
            calls[labels] += 1
            return of_gaussian(x, sigma, None)

        own = torch.arange(5)
        found = samplers.sample(
            counted, start(5), method=method, tolerance=1e-2, labels=own, **ENDS
        )
        assert torch.equal(found.nfe, calls)


@pytest.mark.parametrize(
    "method, order",
    [("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("heun3", 3), ("rk4", 4)],
)
def test_observed_order(method: str, order: int) -> None:
    noise = start(20)
    expected = exact_image(noise)
    errors = [
        rms(samplers.sample(of_gaussian, noise, method=method, nfe=n, **ENDS).images, expected)
        for n in (cost(method, 80), cost(method, 160))
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("method", samplers.PER_SAMPLE)
def test_a_smaller_tolerance_is_nearer_to_the_closed_form(method: str) -> None:
    noise = start(10)
    errors, spent = [], []
    for tolerance in (1e-2, 1e-4):
        found = samplers.sample(of_gaussian, noise, method=method, tolerance=tolerance, **ENDS)
        errors.append(rms(found.images, exact_image(noise)))
        spent.append(float(found.nfe.double().mean()))
    assert errors[1] < 2e-3 and errors[1] < errors[0] / 20 and spent[1] > 1.3 * spent[0]


def test_the_stochastic_sampler_has_the_moments_of_the_images() -> None:
    def made(seed: int) -> Tensor:
        how = {"method": "euler_maruyama", "nfe": 100, "seed": seed}
        return samplers.sample(of_gaussian, start(1000), **how, **ENDS).images

    # Of the mean of 1,000: DEVIATION / 32; of the deviation: DEVIATION / 45. Four of these, and
    # the error of the steps.
    found = made(0)
    assert ((found.mean(0) - MEAN).abs() < 4 * DEVIATION / 32 + 0.01).all()
    assert ((found.std(0) / DEVIATION - 1).abs() < 4 / 45 + 0.05).all()
    assert torch.equal(found, made(0)) and not torch.equal(found, made(1))


def test_the_states_along_the_path_follow_the_closed_form() -> None:
    noise = start(3)
    found = samplers.sample(of_gaussian, noise, method="rk4", nfe=317, path=True, **ENDS)
    levels = samplers.grid(80, LOW, HIGH)
    assert len(found.path) == len(levels) and torch.equal(found.path[-1], found.images)
    for x, sigma in zip(found.path[:-1], levels[:-1].tolist(), strict=True):
        torch.testing.assert_close(x, exact(noise, sigma), rtol=0, atol=1e-5)
    assert samplers.sample(of_gaussian, noise, method="rk4", nfe=9, **ENDS).path == ()


@pytest.mark.parametrize("method", samplers.SAMPLERS)
def test_a_sample_does_not_depend_on_the_others_nor_on_its_place(method: str) -> None:
    indices, labels = torch.arange(255), torch.arange(255) % 3
    how = {"tolerance": 1e-2} if samplers.is_adaptive(method) else {"nfe": 12}

    def made(which: Tensor) -> samplers.Samples:
        own = samplers.noise(indices[which], (3, 2, 2), 7).double()
        return samplers.sample(
            of_gaussian, own, method=method, labels=labels[which], indices=indices[which], seed=3,
            **how, **ENDS,
        )  # fmt: skip

    whole = made(indices)
    for which in (torch.tensor([200]), torch.tensor([254, 0, 31])):
        few = made(which)
        torch.testing.assert_close(few.images, whole.images[which], rtol=0, atol=1e-12)
        assert torch.equal(few.nfe, whole.nfe[which])


def test_labels_reach_the_denoiser_of_every_sampler() -> None:
    noise, labels = start(6), torch.tensor([0, 5, 0, 5, 5, 0])
    for method in samplers.SAMPLERS:
        how = {"tolerance": 1e-3} if samplers.is_adaptive(method) else {"nfe": 41}
        plain, moved = (
            samplers.sample(of_gaussian, noise, method=method, labels=own, **how, **ENDS).images
            for own in (None, labels)
        )
        assert (moved - plain)[labels == 5].mean() == pytest.approx(5, abs=0.5), method
        torch.testing.assert_close(moved[labels == 0], plain[labels == 0])


@pytest.fixture(scope="module")
def of_digits() -> dict[tuple[str, int], float]:
    """Distance of samples to a fine solution, by method and evaluations; 8 x 8 pixels in [-1, 1].

    As measured once with 1,437 training images, 1,024 samples and Heun with 1,000 steps.
    """
    digits = load_digits()
    kept, _ = train_test_split(
        torch.arange(1797), test_size=0.2, stratify=digits.target, random_state=0
    )
    clean = torch.tensor(digits.images[kept] / 8 - 1, dtype=torch.float32)
    noise = samplers.noise(torch.arange(512), (8, 8), 0)

    def made(method: str, nfe: int) -> Tensor:
        def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            return score.denoise(x, sigma, clean)

        return samplers.sample(denoise, noise, method=method, nfe=nfe, **ENDS).images

    fine = made("heun", 159)
    return {
        (method, nfe): rms(made(method, nfe), fine)
        for method in ("euler", "heun", "dpmpp_2m")
        for nfe in (5, 10, 20)
    }


# Where few samples decide, from .03 down, chance moves the mean by a tenth or more.
@pytest.mark.parametrize(
    "method, expected",
    [
        ("euler", (0.319, 0.138, 0.0734)),
        ("heun", (0.419, 0.253, 0.0428)),
        ("dpmpp_2m", (0.262, 0.082, 0.0337)),
    ],
)
def test_errors_on_digits_are_the_known_ones(
    of_digits: dict[tuple[str, int], float], method: str, expected: tuple[float, ...]
) -> None:
    found = [of_digits[method, nfe] for nfe in (5, 10, 20)]
    assert found == [pytest.approx(e, rel=0.1 if e > 0.05 else 0.3) for e in expected]


def test_euler_beats_heun_at_few_evaluations_and_loses_at_many(
    of_digits: dict[tuple[str, int], float],
) -> None:
    assert of_digits["euler", 5] < of_digits["heun", 5]
    assert of_digits["euler", 10] < of_digits["heun", 10]  # which takes 9
    assert of_digits["euler", 20] > of_digits["heun", 20]
    assert all(of_digits["dpmpp_2m", n] < of_digits["heun", n] for n in (5, 10, 20))


def test_noise_is_a_function_of_seed_and_index() -> None:
    one = samplers.noise(torch.arange(50), (3, 8, 8), 0)
    assert torch.equal(samplers.noise(torch.tensor([13, 2]), (3, 8, 8), 0), one[[13, 2]])
    assert not torch.equal(samplers.noise(torch.arange(50), (3, 8, 8), 1), one)
    assert not torch.equal(samplers.noise(torch.arange(50), (3, 8, 8), 0, draw=1), one)
    assert float(one.mean()) == pytest.approx(0, abs=0.04)
    assert float(one.std()) == pytest.approx(1, abs=0.03)


def test_what_cannot_be_is_refused() -> None:
    noise = start(2)
    with pytest.raises(LookupError, match="Did you mean `dpmpp_2m`"):
        samplers.sample(of_gaussian, noise, method="dpmpp2m", nfe=9, **ENDS)
    with pytest.raises(ValueError, match="needs a number `nfe`"):
        samplers.sample(of_gaussian, noise, method="heun", tolerance=1e-3, **ENDS)
    with pytest.raises(ValueError, match="needs a `tolerance`"):
        samplers.sample(of_gaussian, noise, method="bosh3", nfe=9, **ENDS)
    with pytest.raises(ValueError, match="chooses its own steps"):
        samplers.steps_for("bosh3", 9)
    with pytest.raises(ValueError, match="`nfe` must be at least 1"):
        samplers.steps_for("heun", 0)
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        samplers.sample(of_gaussian, noise, method="heun", nfe=9, sigma_min=1.0, sigma_max=0.5)

    def jumping(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        return x + torch.sin(1e9 * x) * 1e6

    with pytest.raises(ValueError, match="2 of 2 samples do not reach sigma = 0.02"):
        samplers.sample(jumping, noise, method="heun_euler", tolerance=1e-6, **ENDS)
