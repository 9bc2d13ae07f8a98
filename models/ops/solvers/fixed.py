"""Runge-Kutta methods and the leapfrog on a fixed grid.

    u_{n+1} = u_n + dt sum_i b_i k_i,   dt = (t1 - t0) / num_steps

Times and step sizes are Python floats and the loop is unrolled: nothing is compared on a device,
so a solve compiles into one graph and captures into a CUDA graph. All samples take the same steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.models.ops.solvers.solution import Solution, VectorField, solution_of, state, widen
from harness.models.ops.solvers.tableau import Tableau


def check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1; got {num_steps}. Use 1 for one step.")


@dataclass(frozen=True)
class FixedGrid:
    """A Runge-Kutta method with `num_steps` equal steps.

    Args:
        checkpointed: Keep only the state of each step for the backward pass, and compute the stages
            again there: the exact gradient, at one more evaluation of each stage.
    """

    tableau: Tableau
    num_steps: int
    checkpointed: bool = False

    def __post_init__(self) -> None:
        check_steps(self.num_steps)

    @property
    def name(self) -> str:
        return self.tableau.name

    @property
    def order(self) -> int:
        return self.tableau.order

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        u, dt = state(u), (t1 - t0) / self.num_steps
        for i in range(self.num_steps):
            u = _step(self.step, f, t0 + i * dt, dt, u, self.checkpointed)
        return solution_of(u, self.tableau.stages * self.num_steps, self.num_steps)

    def step(self, f: VectorField, t: float, dt: float, u: Tensor) -> Tensor:
        """Return u(t + dt) of u(t)."""
        slopes: list[Tensor] = []
        for row, c in zip(self.tableau.a, self.tableau.c, strict=True):
            slopes.append(widen(f(t + c * dt, combine(u, dt, row, slopes)), u))
        return combine(u, dt, self.tableau.b, slopes)


def combine(u: Tensor, dt: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Return u + dt sum_i weights_i slopes_i."""
    for weight, k in zip(weights, slopes, strict=True):
        if weight:
            u = torch.add(u, k, alpha=dt * weight)
    return u


def _step(
    step: Callable[..., Tensor], f: VectorField, t: float, dt: float, u: Tensor, kept: bool
) -> Tensor:
    if kept and torch.is_grad_enabled():
        return checkpoint(step, f, t, dt, u, use_reentrant=False)
    return step(f, t, dt, u)


@dataclass(frozen=True)
class Leapfrog:
    """Stormer-Verlet in the form kick - drift - kick, for separable systems.

        q_t = g(t, p),  p_t = h(t, q),   u = [q, p] along dimension 1

    Symplectic and time-reversible, order 2; stable for q_tt = -omega^2 q up to dt omega = 2. The
    field gives both halves at once: of each evaluation one half is used, and the last kick's is the
    next step's first, hence 1 + 2 num_steps evaluations.

    Reference: E. Hairer, C. Lubich, G. Wanner, Geometric numerical integration illustrated by the
    Stormer-Verlet method, Acta Numerica 12, 2003.
    """

    num_steps: int
    name = "leapfrog"
    order = 2

    def __post_init__(self) -> None:
        check_steps(self.num_steps)

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        if u.ndim < 2 or u.shape[1] % 2:
            raise ValueError(
                f"The leapfrog splits dimension 1 into halves; got the shape {tuple(u.shape)}. "
                "Give an even number of channels."
            )
        u, dt = state(u), (t1 - t0) / self.num_steps
        q, p = u.chunk(2, dim=1)
        kick = widen(f(t0, u), u).chunk(2, dim=1)[1]
        for i in range(self.num_steps):
            t = t0 + i * dt
            p = p + 0.5 * dt * kick
            q = q + dt * widen(f(t + 0.5 * dt, torch.cat((q, p), 1)), u).chunk(2, dim=1)[0]
            kick = widen(f(t + dt, torch.cat((q, p), 1)), u).chunk(2, dim=1)[1]
            p = p + 0.5 * dt * kick
        return solution_of(torch.cat((q, p), 1), 1 + 2 * self.num_steps, self.num_steps)
