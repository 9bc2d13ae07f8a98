"""Solvers against torchdiffeq's, side by side: answers first, then times. `--benchmark-only -s`.

A residual block as vector field on 256 feature maps, of which some are stiffer than others.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.models.ops.solvers import Solver, solver
from harness.models.parity import Torchdiffeq

pytestmark = pytest.mark.bench
ROUNDS = 9


def maps(channels: int, size: int) -> tuple[Callable[[object, Tensor], Tensor], Tensor]:
    """A field of two convolutions, whose first channel says how fast a sample moves, and states."""
    g = torch.Generator().manual_seed(0)
    first, second = (
        nn.Conv2d(channels, channels, 3, padding=1, bias=False).requires_grad_(False)
        for _ in range(2)
    )
    for layer in (first, second):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=g) / (9 * channels) ** 0.5)
    speed = 0.5 * 16 ** torch.rand(256, 1, 1, 1, generator=g) ** 2
    u = torch.randn(256, channels, size, size, generator=g)
    u[:, :1] = speed

    def f(t: object, u: Tensor) -> Tensor:
        slope = (second(torch.tanh(first(u))) - 0.5 * u) * u[:, :1, :1, :1]
        slope[:, :1] = 0
        return slope

    return f, u


@pytest.mark.parametrize("channels, size", [(16, 8), (32, 8), (16, 16)])
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_per_sample_steps_against_steps_of_the_batch(
    channels: int, size: int, tol: float, benchmark: Any
) -> None:
    f, u = maps(channels, size)
    ours = solver("dopri5", rtol=tol, atol=tol, max_nfe=10_000)
    compare(
        f"dopri5, {tol:g}, 256 x {channels} x {size} x {size}",
        f,
        u,
        ours,
        Torchdiffeq("dopri5", tol, tol),
        200 * tol,
        benchmark,
    )


def test_the_classical_method_against_the_three_eighths_rule(benchmark: Any) -> None:
    f, u = maps(16, 8)
    compare(
        "rk4, 8 steps, 256 x 16 x 8 x 8",
        f,
        u,
        solver("rk4", num_steps=8),
        Torchdiffeq("rk4", num_steps=8),
        1e-2,
        benchmark,
    )


@torch.no_grad()
def compare(
    title: str,
    f: Callable,
    u: Tensor,
    ours: Solver,
    theirs: Solver,
    tolerance: float,
    benchmark: Any,
) -> None:
    exact = solver("dopri5", rtol=1e-7, atol=1e-7, max_nfe=10**6)(f, u).u
    errors, found = {}, {}
    for which in (ours, theirs):
        found[which.name] = which(f, u)
        errors[which.name] = (found[which.name].u - exact).flatten(1).norm(dim=1)
        scale = exact.flatten(1).norm(dim=1)
        errors[which.name] = (errors[which.name] / scale).max().item()
        assert errors[which.name] < tolerance, errors
    seconds: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    for _ in range(ROUNDS):
        for which in (ours, theirs):
            start = time.perf_counter()
            which(f, u)
            seconds[which.name].append(time.perf_counter() - start)
    benchmark.pedantic(ours, (f, u), rounds=3)
    a, b = (statistics.median(seconds[w.name]) for w in (ours, theirs))
    ratios = [y / x for x, y in zip(seconds[ours.name], seconds[theirs.name], strict=True)]
    print(
        f"\n{title}, {torch.get_num_threads()} threads: {ours.name} {1e3 * a:.1f} ms, error "
        f"{errors[ours.name]:.1e}, mean NFE {found[ours.name].nfe.double().mean():.1f}; "
        f"{theirs.name} {1e3 * b:.1f} ms, error {errors[theirs.name]:.1e}, NFE "
        f"{found[theirs.name].calls}; median ratio {statistics.median(ratios):.2f}"
    )
