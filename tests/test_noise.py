import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from harness.models.ops import philox
from harness.suites.corruptions import noise

SEVERITIES = range(1, 6)


def per_image(images: Tensor, function: Any) -> Tensor:
    """Apply `function(x, i)`, x in [0, 1] of shape (3, H, W), and truncate as published."""
    out = [255 * np.clip(function(u.numpy() / 255.0, i), 0, 1) for i, u in enumerate(images)]
    return torch.from_numpy(np.stack(out).astype(np.uint8))


def levels_apart(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "kind, sds",
    [
        (noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
        (noise.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    ],
)
def test_normal_noise_from_given_draws(
    kind: Any, sds: Any, severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(severity))
    monkeypatch.setattr(philox, "normal", lambda *args, **kwargs: draws.clone())
    sd = sds[severity - 1]

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        n = sd * draws[i].double().numpy()
        return x + n if kind is noise.gaussian_noise else x + x * n

    answer = kind(pictures, torch.arange(len(pictures)), 0, severity)
    assert levels_apart(answer, per_image(pictures, reference)) <= 1


@pytest.mark.parametrize("rate", [500, 50, 3])
def test_the_shot_table_holds_the_poisson_law_of_every_input(rate: int) -> None:
    entries = noise.shot_table(rate, torch.device("cpu")).view(256, 256).numpy()
    for u in range(256):
        alias, end = entries[u] >> 33, entries[u] & (2**33 - 1)
        mass = end - (np.arange(256) << 24)  # of 2^24 a column
        np.add.at(mass, alias, (1 << 24) - mass)
        counts = np.arange(4 * rate + 60)
        expected = np.zeros(256)
        reached = (np.clip(counts / rate, 0, 1) * 255).astype(np.uint8)
        np.add.at(expected, reached, stats.poisson.pmf(counts, rate * u / 255))
        np.testing.assert_allclose(mass / 2.0**32, expected, rtol=0, atol=3e-8)


@pytest.mark.parametrize("rate", [500, 75, 5])
def test_counts_become_the_levels_of_the_reference(rate: int, pictures: Tensor) -> None:
    x = pictures.numpy() / 255.0
    counts = np.random.default_rng(1).poisson(x * rate)
    expected = np.uint8(np.clip(counts / float(rate), 0, 1) * 255)
    np.testing.assert_array_equal(noise.shot_level(counts, rate), expected)


def test_shot_noise_has_the_mean_and_variance_of_its_table() -> None:
    image = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    y = noise.shot_noise(image.expand(100, -1, -1, -1), torch.arange(100), 0, 5).double().flatten()
    p = noise.shot_probabilities(50)[128]
    mean = float(p @ np.arange(256))
    variance = float(p @ np.arange(256) ** 2) - mean**2
    assert abs(y.mean() - mean) < 4 * math.sqrt(variance / len(y))
    assert abs(y.var() / variance - 1) < 0.02


@pytest.mark.parametrize("amount, severity", [(0.01, 1), (0.07, 5)])
def test_impulses_come_in_the_stated_share_half_black_half_white(
    amount: float, severity: int
) -> None:
    image = torch.full((200, 3, 32, 32), 100, dtype=torch.uint8)
    y = noise.impulse_noise(image, torch.arange(200), 0, severity)
    n = y.numel()
    for value in (0, 255):
        share = float((y == value).double().mean())
        assert abs(share - amount / 2) < 4 * math.sqrt(amount / 2 / n)
    assert set(y.unique().tolist()) == {0, 100, 255}


def test_impulses_from_given_draws(pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    hit = random.random(pictures.shape) <= 0.03
    salt = random.random(pictures.shape) <= 0.5
    reference = np.where(hit, np.where(salt, 255, 0), pictures.numpy()).astype(np.uint8)
    word = np.where(hit, np.where(salt, int(0.02 * 2**32), 0), 2**31)
    monkeypatch.setattr(philox, "words", lambda *args, **kwargs: torch.from_numpy(word))
    answer = noise.impulse_noise(pictures, torch.arange(len(pictures)), 0, 3)
    assert torch.equal(answer, torch.from_numpy(reference))
