import math

import pytest
import torch
from torch import Tensor, nn

from harness.models.base import Stochastic
from harness.models.neural_sde import (
    Noise,
    SDEBlock,
    neural_sde,
    neural_sde_noisy,
    neural_sde_plain,
)
from harness.running.evaluate import Evaluated
from harness.suites.base import Batch


class Field(nn.Module):
    """f(t, h) = rate h."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.times: list[float] = []

    def forward(self, t: float, h: Tensor) -> Tensor:
        self.times.append(t)
        return self.rate * h


def block(rate: float, steps: int, kind: str, sigma: float, jumps: float = 0.1) -> SDEBlock:
    return SDEBlock(Field(rate), steps, kind, sigma, jumps).train()


class Given:
    """Brownian increments handed in: (steps, N), in units of sqrt(dt)."""

    def __init__(self, xi: Tensor) -> None:
        self.xi = xi

    def normal(self, like: Tensor, place: str, step: int) -> Tensor:
        return self.xi[step].view_as(like)


def given(block: SDEBlock, xi: Tensor) -> SDEBlock:
    block.eval()
    block.noise = Given(xi)
    return block


def test_there_are_exactly_as_many_steps_as_fit() -> None:
    made = block(-1.0, 10, "additive", 0.1)
    made(torch.ones(1, 1, 1, 1))
    assert made.f.times == pytest.approx([i / 10 for i in range(10)])


def test_without_noise_it_is_euler() -> None:
    h = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    for made in (block(-0.7, 5, "additive", 0.0), block(-0.7, 5, "additive", 0.4).eval()):
        torch.testing.assert_close(made(h), h * (1 - 0.7 / 5) ** 5)


def test_mean_and_variance_of_the_additive_linear_equation() -> None:
    torch.manual_seed(0)
    lam, sigma, steps, n = -1.0, 0.5, 20, 200_000
    end = block(lam, steps, "additive", sigma)(torch.full((n, 1, 1, 1), 2.0).double())
    r, dt = 1 + lam / steps, 1 / steps
    assert end.mean().item() == pytest.approx(2 * r**steps, abs=5e-3)
    variance = sigma**2 * dt * (1 - r ** (2 * steps)) / (1 - r**2)
    assert end.var().item() == pytest.approx(variance, rel=0.02)
    assert variance == pytest.approx(sigma**2 * (1 - math.exp(-2)) / 2, rel=0.1), "of the SDE"


def strong_error(kind: str, steps: int, xi: Tensor) -> float:
    """Mean error at t = 1 against the exact solution, driven by the same Brownian paths."""
    fine, n = xi.shape
    coarse = xi.view(steps, fine // steps, n).sum(1) / math.sqrt(fine // steps)
    lam, mu, one = -0.5, 0.8, torch.ones(n, 1, 1, 1, dtype=torch.float64)
    end = given(block(lam, steps, kind, mu), coarse)(one).flatten()
    increments = xi / math.sqrt(fine)
    if kind == "multiplicative":
        exact = torch.exp(torch.tensor(lam - mu**2 / 2) + mu * increments.sum(0))
    else:
        t = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
        exact = math.exp(lam) + mu * (torch.exp(lam * (1 - t))[:, None] * increments).sum(0)
    return (end - exact).abs().mean().item()


@pytest.mark.parametrize("kind, order", [("multiplicative", 0.5), ("additive", 1.0)])
def test_the_strong_order(kind: str, order: float) -> None:
    torch.manual_seed(0)
    xi = torch.randn(1024, 2000, dtype=torch.float64)
    errors = [strong_error(kind, steps, xi) for steps in (16, 64)]
    observed = math.log2(errors[0] / errors[1]) / 2
    assert observed == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("mu, grows", [(1.30, False), (1.40, True)])
def test_the_mean_square_limit(mu: float, grows: bool) -> None:
    # |1 + dt lam|^2 + dt mu^2 = 1 at dt = 1/4, lam = -1 for mu^2 = 1.75, mu = 1.3229.
    torch.manual_seed(0)
    growth = (1 - 0.25) ** 2 + 0.25 * mu**2
    assert (growth > 1) == grows
    end = block(-1.0, 4, "multiplicative", mu)(torch.ones(400_000, 1, 1, 1, dtype=torch.float64))
    assert end.square().mean().item() == pytest.approx(growth**4, rel=0.05)


def test_jumps_are_rare_and_even() -> None:
    torch.manual_seed(0)
    made = block(0.0, 4, "jump", 0.5, jumps=0.4)
    end = made(torch.ones(100_000, 1, 1, 1))
    assert end.mean().item() == pytest.approx(1, abs=0.01)
    once = block(0.0, 1, "jump", 0.5, jumps=0.4)(torch.ones(100_000, 1, 1, 1))
    up, down = ((once == v).double().mean().item() for v in (1.5, 0.5))
    assert up == pytest.approx(0.2, abs=0.01) and down == pytest.approx(0.2, abs=0.01)


def test_noise_at_test_is_a_function_of_seed_draw_and_image() -> None:
    torch.manual_seed(0)
    model, images = neural_sde_noisy(width=8).eval(), torch.rand(6, 3, 32, 32)
    assert isinstance(model, Stochastic)
    indices = torch.tensor([4, 9, 2, 7, 100, 0])
    with torch.no_grad():
        whole = model.sample(images, indices, 0, 1)
        alone = model.sample(images[3:4], indices[3:4], 0, 1)
        torch.testing.assert_close(alone[0], whole[3], rtol=1e-4, atol=1e-5)
        for other in (
            model.sample(images, indices, 0, 2),
            model.sample(images, indices, 1, 1),
            model.sample(images, indices + 1, 0, 1),
            model(images),
        ):
            assert not torch.allclose(other, whole, rtol=1e-3, atol=1e-4)
        assert torch.equal(model(images), model(images)), "noiseless when merely called"


def test_evaluation_averages_its_draws() -> None:
    torch.manual_seed(0)
    model, images = neural_sde_noisy(width=8, sigma=0.5).eval(), torch.rand(3, 3, 32, 32)
    subject = Evaluated(model, torch.device("cpu"))
    with torch.no_grad():
        found = subject(Batch(images, torch.zeros(3), torch.arange(3)))
        draws = [model.sample(images, torch.arange(3), 0, d).softmax(1) for d in range(8)]
    torch.testing.assert_close(found.exp(), torch.stack(draws).mean(0))


def test_noise_differs_between_blocks_and_steps() -> None:
    noise, like = Noise(0, 0, torch.arange(2)), torch.zeros(2, 8, 4, 4)
    keys = [("8", 0), ("8", 1), ("16", 0)]
    drawn = [noise.normal(like, *key) for key in keys]
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "jump"])
def test_training_is_noisy_and_evaluation_is_not(kind: str) -> None:
    torch.manual_seed(0)
    model, images = neural_sde(width=8, noise=kind, rate=2.0), torch.rand(2, 3, 32, 32)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))
    plain = neural_sde_plain(width=8).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(images), model(images))


@pytest.mark.parametrize(
    "arguments, message",
    [({"noise": "pink"}, "must be one of additive"), ({"sigma": -1.0}, "`sigma` >= 0")],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neural_sde(width=8, **arguments)
