"""What a solver is, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Time: TypeAlias = (
    float | Tensor
)  # a float on a fixed grid; (N,), one time a sample, of an adaptive solver
VectorField: TypeAlias = Callable[
    [Time, Tensor], Tensor
]  # f(t, u): u (N, ...) to du/dt of the same shape


@dataclass(frozen=True)
class Solution:
    """The state at the end, and what it cost.

    Args:
        u: (N, ...).
        nfe: (N,), int64: evaluations of the vector field that went into each sample.
        accepted: (N,), int64: steps.
        rejected: (N,), int64: steps that were tried and not taken.
        spent: (N,), bool: whether the budget, or the smallest step, was reached before the end; `u`
            is then the last accepted state.
        calls: Number of calls of the vector field, for however many samples.
        effort: (N,), float: of an adaptive solver, `nfe` as a smooth function of the field.
    """

    u: Tensor
    nfe: Tensor
    accepted: Tensor
    rejected: Tensor
    spent: Tensor
    calls: int
    effort: Tensor | None = None


class Solver(Protocol):
    """A method with its step size or its tolerance: `solver(f, u, t0, t1)` solves u_t = f(t, u)."""

    @property
    def name(self) -> str:
        """What it is called in tables, such as "rk4"."""
        ...

    @property
    def order(self) -> int:
        """Order of the global error in the step size."""
        ...

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution: ...


def channel(t: Time, u: Tensor) -> Tensor:
    """Return the time as a constant channel (N, 1, H, W) beside a state (N, C, H, W)."""
    if isinstance(t, Tensor):
        return t.to(u.dtype)[:, None, None, None].expand(-1, 1, *u.shape[2:])
    return u.new_full((1, 1, 1, 1), t).expand(len(u), 1, *u.shape[2:])


def widen(k: Tensor, u: Tensor) -> Tensor:
    """Return a slope in the type of the state, which is float32 at least: sums are not rounded."""
    return k.to(u.dtype)


def state(u: Tensor) -> Tensor:
    """Return the initial state in float32 at least."""
    return u.to(torch.promote_types(u.dtype, torch.float32))


def solution_of(u: Tensor, evaluations: int, steps: int) -> Solution:
    """Return the solution of a method that treats all samples alike."""
    n = len(u)
    full = torch.full((n,), evaluations, dtype=torch.int64, device=u.device)
    return Solution(
        u=u,
        nfe=full,
        accepted=torch.full_like(full, steps),
        rejected=torch.zeros_like(full),
        spent=torch.zeros(n, dtype=torch.bool, device=u.device),
        calls=evaluations,
    )
