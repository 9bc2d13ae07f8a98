"""Solvers beside torchode's and torchdiffeq's: answers first, then times; by `--benchmark-only`.

    pytest tests/test_bench_solvers.py --benchmark-only -s --tables results/benchmarks

A residual block as vector field on 256 maps: of equal maps, which all take equal steps, and of maps
of which some are stiffer than others. torchode is left out where it is not installed (`pip install
torchode`); it is no dependency, for it pins an old typeguard.

torchode and torchdiffeq scale the error of dopri5 by 2/3. So ours takes the steps that theirs take
at a tolerance t, and as many evaluations, at 3/2 t; the comparison is at equal steps.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from harness.models.ops.solvers import Solver, solver
from harness.models.parity import Torchdiffeq
from tests.side_by_side import Keep, Work, median_ratio, ms, turns

pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]
TITLE = "ODE solvers"
READING = (
    "CPU time of a solve of u_t = f(t, u) up to t = 1, 256 samples, turns side by side. `field\n"
    "alone` is f as often as ours calls it, on all samples; `overhead` is the time beyond that,\n"
    "below 0 where samples that have arrived are asked no more. torchode and torchdiffeq scale\n"
    "errors by 2/3; ours has 3/2 of their tolerance, and so takes the same steps."
)
N = 256
EQUAL = pytest.mark.parametrize("equal", [True, False])

Field = Callable[[Any, Tensor], Tensor]


def maps(channels: int, size: int, equal: bool) -> tuple[Field, Tensor, list[nn.Parameter]]:
    """A field of two convolutions, whose first channel says how fast a sample moves, and states."""
    g = torch.Generator().manual_seed(0)
    layers = [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)]
    for layer in layers:
        weight = torch.randn(layer.weight.shape, generator=g) / (9 * channels) ** 0.5
        layer.weight.data.copy_(weight)
    speed = 0.5 * 16 ** torch.rand(N, 1, 1, 1, generator=g) ** 2
    u = torch.randn(N, channels, size, size, generator=g)
    if equal:
        u, speed = u[:1].repeat(N, 1, 1, 1), torch.full_like(speed, 4.0)
    u[:, :1] = speed
    moves = torch.ones(channels, 1, 1)
    moves[0] = 0

    def f(t: object, u: Tensor) -> Tensor:
        slope = layers[1](torch.tanh(layers[0](u))) - 0.5 * u
        return slope * u[:, :1, :1, :1] * moves

    return f, u, [cast(nn.Parameter, layer.weight) for layer in layers]


def van_der_pol(t: object, u: Tensor) -> Tensor:
    x, v = u.unbind(1)
    return 10 * torch.stack((v, 2 * (1 - x * x) * v - x), 1)


class Torchode:
    """torchode's dopri5 in the form of ours."""

    def __init__(self, tol: float) -> None:
        self.name, self.tol, self.calls = "torchode dopri5", tol, 0

    def __call__(self, f: Field, u: Tensor) -> Tensor:
        import torchode

        def flat(t: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            return f(t, y.view(u.shape)).flatten(1)

        self.calls = 0
        term = torchode.ODETerm(flat)
        controller = torchode.IntegralController(self.tol, self.tol, term=term)
        solve = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)
        solve.backprop_through_step_size_control = False  # as ours
        start, end = torch.zeros(N), torch.ones(N)
        problem = torchode.InitialValueProblem(u.flatten(1), start, end)
        return solve.solve(problem).ys.view(u.shape)


class Others:
    """One of our solvers, or torchdiffeq's, to the end."""

    def __init__(self, solve: Solver) -> None:
        self.name, self.solve, self.calls = solve.name, solve, 0

    def __call__(self, f: Field, u: Tensor) -> Tensor:
        found = self.solve(f, u)
        self.calls = found.calls
        return found.u


def sides(tol: float, weights: Sequence[nn.Parameter] = ()) -> list[Any]:
    """Ours first; torchdiffeq's adjoint where there are weights."""
    found: list[Any] = [Others(solver("dopri5", rtol=1.5 * tol, atol=1.5 * tol, max_nfe=10_000))]
    try:
        import torchode  # noqa: F401
    except ImportError:
        print("torchode is not installed")
    else:
        found.append(Torchode(tol))
    found.append(Others(Torchdiffeq("dopri5", tol, tol)))
    if weights:
        adjoint = Others(Torchdiffeq("dopri5", tol, tol, adjoint=True, parameters=tuple(weights)))
        adjoint.name += ", adjoint"
        found.append(adjoint)
    return found


def error(f: Field, u: Tensor, found: Tensor) -> float:
    """Return the largest relative error of a sample."""
    with torch.no_grad():
        exact = solver("dopri5", rtol=1e-7, atol=1e-7, max_nfe=10**6)(f, u).u
    apart, scale = (x.detach().flatten(1).norm(dim=1) for x in (found - exact, exact))
    return float((apart / scale).max())


def race(
    title: str, works: dict[str, Work], calls: dict[str, int], errors: dict[str, float], keep: Keep
) -> None:
    """Let contenders take turns, ours first and the field alone last, and keep their table."""
    times = turns(works)
    ours, *_, alone = times
    each = statistics.median(times[alone]) / calls[alone]
    lines = [
        f"**{title}**, n = {len(times[ours])}",
        "",
        "| contender | median ms | quartiles ms | calls of f | overhead | error | times ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in times.items():
        over = statistics.median(found) / (calls[name] * each) - 1
        lines.append(
            f"| {name} | {ms(found)} | {calls[name]} | {'' if name == alone else f'{over:+.0%}'} | "
            f"{f'{errors[name]:.1e}' if name in errors else ''} | "
            f"{median_ratio(found, times[ours]):.2f} |"
        )
    keep("\n".join(lines), "cpu", {title: times})


@EQUAL
@pytest.mark.parametrize("channels, size", [(4, 8), (16, 8), (16, 16)])
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_solving(
    channels: int, size: int, tol: float, equal: bool, keep: Keep, benchmark: Any
) -> None:
    import numba  # noqa: F401  # as after the first second of work

    f, u, _ = maps(channels, size, equal)
    works, calls, errors = dict[str, Work](), dict[str, int](), dict[str, float]()
    with torch.no_grad():
        for side in sides(tol):
            errors[side.name] = error(f, u, side(f, u))
            assert errors[side.name] < 300 * tol, errors
            works[side.name], calls[side.name] = partial(side, f, u), side.calls
        add_alone(works, calls, lambda: f(0.0, u))
        kind = "equal maps" if equal else "unequal maps"
        title = f"dopri5, {tol:g}, {kind} {N} x {channels} x {size} x {size}"
        race(title, works, calls, errors, keep)
        benchmark.pedantic(next(iter(works.values())), rounds=1)


def add_alone(works: dict[str, Work], calls: dict[str, int], once: Work) -> None:
    """Add the field by itself, as often as ours calls it."""
    count = next(iter(calls.values()))

    def alone() -> None:
        for _ in range(count):
            once()

    works["field alone"], calls["field alone"] = alone, count


@EQUAL
@pytest.mark.parametrize("channels", [4, 16])
def test_gradients(channels: int, equal: bool, keep: Keep, benchmark: Any) -> None:
    f, u, weights = maps(channels, 8, equal)
    works, calls, grads = dict[str, Work](), dict[str, int](), []

    def slopes(side: Any) -> tuple[Tensor, ...]:
        return torch.autograd.grad(side(f, u).square().sum(), weights)

    for side in sides(1e-3, weights):
        grads.append(torch.cat([g.flatten() for g in slopes(side)]))
        calls[side.name] = side.calls
        works[side.name] = partial(slopes, side)
    assert all((g - grads[0]).norm() < 0.05 * grads[0].norm() for g in grads)

    def once() -> None:
        state = u.clone().requires_grad_()
        out = f(0.0, state)
        torch.autograd.grad(out, [state, *weights], torch.ones_like(out))

    add_alone(works, calls, once)
    kind = "equal maps" if equal else "unequal maps"
    title = f"dopri5, 0.001, forward + backward, {kind} {N} x {channels} x 8 x 8"
    race(title, works, calls, {}, keep)
    benchmark.pedantic(next(iter(works.values())), rounds=1)


def test_two_unknowns(keep: Keep, benchmark: Any) -> None:
    u = torch.tensor([[2.0, 0.0]]).repeat(N, 1)
    works, calls, errors = dict[str, Work](), dict[str, int](), dict[str, float]()
    with torch.no_grad():
        for side in sides(1e-5):
            errors[side.name] = error(van_der_pol, u, side(van_der_pol, u))
            assert errors[side.name] < 0.05, errors
            works[side.name], calls[side.name] = partial(side, van_der_pol, u), side.calls
        add_alone(works, calls, lambda: van_der_pol(0.0, u))
        race(f"dopri5, 1e-05, van der Pol, {N} x 2", works, calls, errors, keep)
        benchmark.pedantic(next(iter(works.values())), rounds=1)


def test_the_classical_method_against_the_three_eighths_rule(keep: Keep, benchmark: Any) -> None:
    f, u, _ = maps(16, 8, False)
    works, calls, errors = dict[str, Work](), dict[str, int](), dict[str, float]()
    with torch.no_grad():
        for side in (Others(solver("rk4", num_steps=8)), Others(Torchdiffeq("rk4", num_steps=8))):
            errors[side.name] = error(f, u, side(f, u))
            assert errors[side.name] < 1e-2, errors
            works[side.name], calls[side.name] = partial(side, f, u), side.calls
        add_alone(works, calls, lambda: f(0.0, u))
        race(f"rk4, 8 steps, maps {N} x 16 x 8 x 8", works, calls, errors, keep)
        benchmark.pedantic(next(iter(works.values())), rounds=1)
