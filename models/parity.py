"""torchdiffeq's solvers in the form of ours, to compare with.

Its adaptive methods take one error norm over the whole batch: step sizes, cost and predictions of a
sample depend on the samples beside it. Its "rk4" is the 3/8 rule. Here every sample is charged
every evaluation, and nothing is ever `spent`: torchdiffeq raises where it cannot go on.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torchdiffeq
from torch import Tensor, nn

from harness.models.ops.solvers import Solution, VectorField

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4, "adaptive_heun": 2, "bosh3": 3, "dopri5": 5}


class Counted(nn.Module):
    """A vector field that counts its calls; a module, as `odeint_adjoint` wants one.

    Args:
        parameters: Parameters that the adjoint differentiates by.
    """

    def __init__(self, f: VectorField, parameters: tuple[nn.Parameter, ...] = ()) -> None:
        super().__init__()
        self.f, self.calls = f, 0
        self.held = nn.ParameterList(parameters)

    def forward(self, t: Tensor, u: Tensor) -> Tensor:
        self.calls += 1
        # One time for all samples; a field of ours takes one for each.
        return self.f(t.to(u.dtype).expand(len(u)), u).to(u.dtype)


@dataclass(frozen=True)
class Torchdiffeq:
    """`odeint`, or `odeint_adjoint`, with a method of torchdiffeq.

    Args:
        method: Its name there; ours says "torchdiffeq METHOD".
        rtol: Relative tolerance, of an adaptive method.
        atol: Absolute tolerance.
        num_steps: Number of steps of a fixed method; None for an adaptive one.
        adjoint: Whether gradients come from the adjoint equation.
        parameters: Parameters that the adjoint differentiates by.
    """

    method: str
    rtol: float = 1e-3
    atol: float = 1e-3
    num_steps: int | None = None
    adjoint: bool = False
    parameters: tuple[nn.Parameter, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        return f"torchdiffeq {self.method}"

    @property
    def order(self) -> int:
        return ORDERS[self.method]

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        counting = Counted(f, self.parameters)
        times = torch.tensor([t0, t1], dtype=u.dtype, device=u.device)
        options: dict[str, Any] = {}
        if self.num_steps is not None:
            options["step_size"] = (t1 - t0) / self.num_steps
        solve = torchdiffeq.odeint_adjoint if self.adjoint else torchdiffeq.odeint
        end = solve(
            counting,
            u,
            times,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            options=options or None,
        )[-1]
        nfe = torch.full((len(u),), counting.calls, dtype=torch.int64, device=u.device)
        unknown = torch.zeros_like(nfe)
        steps = unknown + (self.num_steps or 0)
        return Solution(end, nfe, steps, unknown, unknown.bool(), counting.calls)
