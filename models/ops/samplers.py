"""From noise to images, by a denoiser D: solvers of the probability-flow equation and of the SDE.

    dx/ds = (x - D(x; s)) / s,   x(s_max) = s_max n,   down to s = 0        (probability flow)
    dx    = (x - D(x; s)) / v dv + sqrt(|dv|) n,   v = s^2 falling          (reverse SDE)

on the grid s_i = (s_max^(1/rho) + i / (steps - 1) (s_min^(1/rho) - s_max^(1/rho)))^rho, then 0.

    euler, midpoint, heun, heun3, rk4   Runge-Kutta methods in s; the last step, to 0, is Euler's:
                                        x <- D(x; s_min)
    dpmpp_2m                            DPM-Solver++(2M): x <- (s'/s) x + (1 - s'/s) D', where
                                        D' = D_i + h / (2 h_before) (D_i - D_{i-1}), h = log(s/s');
                                        the first and the last step with D' = D_i
    euler_maruyama                      Euler-Maruyama's steps of the SDE in v, in which the noise
                                        has one strength; no noise in the last step
    heun_euler, bosh3, dopri5           with a step size for every sample, in t = -log s:
                                        dx/dt = D - x from s_max to s_min, then x <- D(x; s_min)

A sample depends on its own noise, label and index, and not on the others of its batch. One
evaluation of D counts as one: `nfe`.

Reference: T. Karras, M. Aittala, T. Aila and S. Laine, Elucidating the Design Space of
Diffusion-Based Generative Models, NeurIPS 2022, https://arxiv.org/abs/2206.00364, equations 1 and
5, algorithm 1. C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li and J. Zhu, DPM-Solver++: Fast Solver for
Guided Sampling of Diffusion Probabilistic Models, 2022, https://arxiv.org/abs/2211.01095, algorithm
2. Y. Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, ICLR
2021, https://arxiv.org/abs/2011.13456, equations 6 and 46. Deviations: none of theirs has a step
size for every sample.
"""

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harness.models.ops import philox
from harness.models.ops.solvers.adaptive import Adaptive
from harness.models.ops.solvers.fixed import FixedGrid
from harness.models.ops.solvers.solution import Time
from harness.models.ops.solvers.tableau import ADAPTIVE, FIXED, Tableau

RUNGE_KUTTA = {t.name: t for t in FIXED}
PER_SAMPLE = {t.name: t for t in ADAPTIVE}
MULTISTEP, STOCHASTIC = "dpmpp_2m", "euler_maruyama"
SAMPLERS: tuple[str, ...] = (*RUNGE_KUTTA, MULTISTEP, STOCHASTIC, *PER_SAMPLE)
MOST = 1_000_000  # evaluations of a sample with steps of its own

Denoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Samples:
    """What a sampler made.

    Args:
        images: (N, ...), around [-1, 1], not clipped.
        nfe: (N,), int64: evaluations of the denoiser that went into each.
        path: States at the levels of the grid, from noise to image, each (N, ...); empty unless
            asked for, and of methods with a step size for every sample.
    """

    images: Tensor
    nfe: Tensor
    path: tuple[Tensor, ...] = ()


def grid(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Return the levels of noise (steps + 1,), float64, from sigma_max down, the last one 0.

    Args:
        steps: At least 1; one step goes from `sigma_max` to 0.
        sigma_min: Last level above 0.
        rho: 1 for even steps; larger puts more of them at small levels.
    """
    check_levels(sigma_min, sigma_max)
    if steps < 1 or not rho > 0:
        raise ValueError(f"`steps` must be >= 1 and `rho` > 0; got {steps} and {rho}.")
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    share = torch.arange(steps, dtype=torch.float64) / max(1, steps - 1)
    return torch.cat(((first + share * (last - first)) ** rho, torch.zeros(1, dtype=torch.float64)))


def check_levels(sigma_min: float, sigma_max: float) -> None:
    """Refuse levels of noise that no sampler can go through."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"`sigma_min` and `sigma_max` must be 0 < sigma_min < sigma_max; got {sigma_min} and "
            f"{sigma_max}. Use 0.002 to 0.05, and 80."
        )


def is_adaptive(method: str) -> bool:
    """Return whether a method has a tolerance in place of a number of evaluations.

    Raises:
        LookupError: There is no such method.
    """
    if method not in SAMPLERS:
        near = difflib.get_close_matches(method, SAMPLERS, n=1, cutoff=0.5)
        cure = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(SAMPLERS)}."
        raise LookupError(f"There is no sampler called `{method}`. {cure}")
    return method in PER_SAMPLE


def steps_for(method: str, nfe: int) -> int:
    """Return the largest number of steps of the grid that spend at most `nfe` evaluations.

    Raises:
        ValueError: The method has steps of its own, or `nfe` < 1.
    """
    if is_adaptive(method):
        raise ValueError(f"`{method}` chooses its own steps. Give it a `tolerance`, and no `nfe`.")
    if nfe < 1:
        raise ValueError(f"`nfe` must be at least 1; got {nfe}.")
    stages = RUNGE_KUTTA[method].stages if method in RUNGE_KUTTA else 1
    return (nfe - 1) // stages + 1  # the last step takes one


def noise(
    indices: Tensor,
    shape: tuple[int, ...],
    seed: int,
    draw: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Return standard normal numbers (N, *shape), float32, which `sample` starts from.

    Args:
        indices: (N,), int64, >= 0: a sample's number, which with the seed determines its noise.
        shape: Of one image, such as (3, 32, 32).
        draw: Number of the draw, of several for one index.
    """
    where = indices.to(device) if device is not None else indices
    return philox.normal((len(where), *shape), seed, "initial noise of a sampler", 0, where, draw)


def sample(
    denoise: Denoiser,
    noise: Tensor,
    *,
    method: str,
    nfe: int | None = None,
    tolerance: float | None = None,
    sigma_min: float,
    sigma_max: float,
    labels: Tensor | None = None,
    path: bool = False,
    seed: int = 0,
    indices: Tensor | None = None,
) -> Samples:
    """Make images of standard normal noise.

    Args:
        denoise: (noisy, sigma (N,), labels or None) to the mean of the clean images, in [-1, 1].
        noise: (N, ...), standard normal; its type is that of the computation.
        method: In `SAMPLERS`.
        nfe: Evaluations of the denoiser that a sample may cost, of methods with a grid.
        tolerance: Relative and absolute, of one step, of methods with a step size for every sample.
        sigma_min: Last level before 0.
        sigma_max: Level at which samples start.
        labels: (N,), int64, which go to the denoiser; None for none.
        path: Whether to keep the states.
        seed: Of the noise of `euler_maruyama`, which `indices` (N,) determine with it; by default,
            samples are numbered from 0.
    """
    if is_adaptive(method):
        if tolerance is None or nfe is not None:
            raise ValueError(f"`{method}` needs a `tolerance`, and no `nfe`. Use 1e-3.")
        check_levels(sigma_min, sigma_max)
        field = _Field(denoise, labels)
        tableau, ends = PER_SAMPLE[method], (sigma_min, sigma_max)
        return _with_own_steps(field, noise, tableau, tolerance, *ends)
    if nfe is None or tolerance is not None:
        raise ValueError(f"`{method}` needs a number `nfe`, and no `tolerance`. Use 20.")
    levels = grid(steps_for(method, nfe), sigma_min, sigma_max).tolist()
    field = _Field(denoise, labels)
    x = sigma_max * noise
    if method == STOCHASTIC:
        if indices is None:
            indices = torch.arange(len(noise), device=noise.device)
        states = _euler_maruyama(field, x, levels, seed, indices)
    elif method == MULTISTEP:
        states = _dpmpp_2m(field, x, levels)
    else:
        states = _runge_kutta(field, x, levels, RUNGE_KUTTA[method])
    kept = [x]
    for x in states:
        if path:
            kept.append(x)
    spent = torch.full((len(x),), field.calls, dtype=torch.int64, device=x.device)
    return Samples(x, spent, tuple(kept) if path else ())


class _Field:
    """The denoiser at one level for all samples, or at one for each; counts its calls."""

    def __init__(self, denoise: Denoiser, labels: Tensor | None) -> None:
        self._denoise, self.labels, self.calls = denoise, labels, 0

    def mean(self, x: Tensor, sigma: Time) -> Tensor:
        """Return D(x; sigma)."""
        self.calls += 1
        if not isinstance(sigma, Tensor):
            sigma = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        return self._denoise(x, sigma, self.labels)

    def slope(self, sigma: Time, x: Tensor) -> Tensor:
        """Return dx/dsigma, for a sigma > 0."""
        return (x - self.mean(x, sigma)) / sigma


def _runge_kutta(
    field: _Field, x: Tensor, levels: list[float], tableau: Tableau
) -> Iterator[Tensor]:
    method = FixedGrid(tableau, 1)
    for s, t in pairwise(levels[:-1]):
        x = method.step(field.slope, s, t - s, x)
        yield x
    yield field.mean(x, levels[-2])


def _dpmpp_2m(field: _Field, x: Tensor, levels: list[float]) -> Iterator[Tensor]:
    before, h_before = None, 0.0
    for s, t in pairwise(levels[:-1]):
        mean, h = field.mean(x, s), math.log(s / t)
        ahead = mean if before is None else mean + h / (2 * h_before) * (mean - before)
        x = torch.lerp(ahead, x, t / s)
        before, h_before = mean, h
        yield x
    yield field.mean(x, levels[-2])


def _euler_maruyama(
    field: _Field, x: Tensor, levels: list[float], seed: int, indices: Tensor
) -> Iterator[Tensor]:
    for i, (s, t) in enumerate(pairwise(levels[:-1])):
        n = philox.normal(x.shape, seed, "noise of euler_maruyama", i, indices).to(x)
        x = torch.lerp(field.mean(x, s), x, (t / s) ** 2) + math.sqrt(s * s - t * t) * n
        yield x
    yield field.mean(x, levels[-2])


def _with_own_steps(
    field: _Field,
    noise: Tensor,
    tableau: Tableau,
    tolerance: float,
    sigma_min: float,
    sigma_max: float,
) -> Samples:
    """Each sample by its own steps; those of one label together, since samples leave the work."""
    solve = Adaptive(tableau, tolerance, tolerance, MOST)
    images = sigma_max * noise
    nfe = torch.zeros(len(noise), dtype=torch.int64, device=noise.device)
    labels = field.labels
    groups = [None] if labels is None else labels.unique().tolist()
    for label in groups:
        which = (
            slice(None) if label is None or labels is None else (labels == label).nonzero()[:, 0]
        )

        def velocity(t: Time, x: Tensor, label: int | None = label) -> Tensor:
            assert isinstance(t, Tensor)
            field.labels = None if label is None else t.new_full(t.shape, label, dtype=torch.int64)
            return field.mean(x, torch.exp(-t)) - x

        found = solve(velocity, images[which], -math.log(sigma_max), -math.log(sigma_min))
        if found.spent.any():
            raise ValueError(
                f"{int(found.spent.sum())} of {len(found.spent)} samples do not reach sigma = "
                f"{sigma_min:g} at tolerance {tolerance:g}. Use a larger one, or noise in float64."
            )
        end = found.u.new_full((len(found.u),), -math.log(sigma_min))
        images[which] = velocity(end, found.u) + found.u
        nfe[which] = found.nfe + 1
    return Samples(images, nfe)
