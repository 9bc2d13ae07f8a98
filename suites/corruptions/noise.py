"""Noise: gaussian_noise, shot_noise, impulse_noise, and speckle_noise for validation.

Constants: hendrycks/robustness, make_cifar_c.py (cifar10_c); bethgelab/imagecorruptions
(imagenet_c). u is a value in 0..255 and x = u / 255; draws are independent per element.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from harness.models.ops import philox
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions.contract import corruption, pick

COLUMN = 1 << 24  # mass of a column of an alias table, of 2^32 in all


@CORRUPTIONS.register
@corruption
def gaussian_noise(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """x + sd N, N standard normal."""
    sd = pick(constants, severity, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
    noise = philox.normal(images.shape, seed, "gaussian_noise", severity, indices)
    return noise.mul_(255 * sd).add_(images).clamp_(0, 255).to(torch.uint8)


@CORRUPTIONS.register
@corruption
def shot_noise(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Poisson(rate x) / rate.

    A value has 256 possible inputs and 256 possible outputs, so one table of exact integers holds
    all their probabilities: the result is the same on every device.
    """
    rate = pick(constants, severity, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    word = philox.words(images.shape, seed, "shot_noise", severity, indices)
    column = word >> 24
    entry = shot_table(rate, images.device).take(column.add(images, alpha=256))
    kept = (word < entry & (2**33 - 1)).view(torch.uint8).neg_()
    alias = entry.bitwise_right_shift_(33).to(torch.uint8)
    return column.to(torch.uint8).bitwise_xor_(alias).bitwise_and_(kept).bitwise_xor_(alias)


@CORRUPTIONS.register
@corruption
def impulse_noise(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """With probability `amount` 0 or 1, with equal chance, each channel of a pixel by itself."""
    amount = pick(
        constants, severity, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)
    )
    word = philox.words(images.shape, seed, "impulse_noise", severity, indices)
    hit = round(amount * 2**32)
    # Bytes of 255 and 0 as masks: a third of the time of filling by masks.
    white = (word < hit).view(torch.uint8).neg_()
    kept = (word < hit // 2).view(torch.uint8).sub_(1)
    return white.bitwise_or_(images).bitwise_and_(kept)


@CORRUPTIONS.register
@corruption
def speckle_noise(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """x + x sd N, N standard normal."""
    sd = pick(constants, severity, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6))
    noise = philox.normal(images.shape, seed, "speckle_noise", severity, indices)
    return noise.mul_(sd).add_(1).mul_(images).clamp_(0, 255).to(torch.uint8)


def shot_level(count: np.ndarray, rate: int) -> np.ndarray:
    """Return what `count` photons at `rate` for white make of a value, 0..255."""
    return (np.clip(count / rate, 0, 1) * 255).astype(np.uint8)


def shot_probabilities(rate: int) -> np.ndarray:
    """Return the probability (256, 256) of each output, given each input value."""
    counts = np.arange(4 * rate + 60)  # the rest has a probability below 2^-64
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    mean = rate * np.arange(1, 256)[:, None] / 255
    poisson = np.exp(counts * np.log(mean) - mean - log_factorial)
    out = np.zeros((256, 256))
    out[0, 0] = 1
    np.add.at(out[1:].T, shot_level(counts, rate), poisson.T)
    return out / out.sum(1, keepdims=True)


@functools.cache
def shot_table(rate: int, device: torch.device) -> Tensor:
    """Return the alias table (65536,) of int64 alias << 33 | end, for 256 inputs of 256 each.

    A uniform word's upper 8 bits choose a column, 2^24 words wide; the words below `end` keep the
    column, the others go to the alias. The probabilities are multiples of 2^-32.
    """
    rows = [_alias(_integers(p)) for p in shot_probabilities(rate)]
    return torch.tensor(rows, dtype=torch.int64, device=device).flatten()


def _integers(p: np.ndarray) -> list[int]:
    mass = np.rint(p * 2.0**32).astype(np.int64)
    mass[mass.argmax()] += 2**32 - mass.sum()
    return mass.tolist()


def _alias(mass: list[int]) -> list[int]:
    # A. J. Walker 1977, in M. D. Vose's order: a light column is filled up from a heavy one.
    light = [i for i, m in enumerate(mass) if m < COLUMN]
    heavy = [i for i, m in enumerate(mass) if m >= COLUMN]
    entries = [(i + 1) * COLUMN for i in range(256)]  # the whole column
    while light:
        i, j = light.pop(), heavy[-1]
        entries[i] = j << 33 | i * COLUMN + mass[i]
        mass[j] -= COLUMN - mass[i]
        if mass[j] < COLUMN:
            light.append(heavy.pop())
    return entries
