"""Embedded Runge-Kutta methods with a step size for every sample.

    e_i = RMS over sample i's own entries of error / (atol + rtol max(|u|, |u_new|))
    accepted where e_i <= 1;   dt_i <- dt_i clip(0.9 e_i^(-1/q), 0.2, 10), rounded

What a sample costs and becomes does not depend on the samples beside it: the norm is its own, and
its last step ends at t1 exactly, with no evaluation beyond. A sample that arrives leaves the work,
so that the others are not kept company at full price. Sums and convolutions may round otherwise in
a larger batch, and e_i with them; step sizes are therefore rounded to 1/1024 of an octave, so that
round-off moves one only where it lies at the edge of two such steps, and decides about acceptance
only if e_i is that close to 1.

Each attempted step costs one evaluation less than the method has stages, the first being the last
of the step before; the start costs two, one for the first slope and one for the first step size. So
the Dormand-Prince method takes 2 + 6 (accepted + rejected) evaluations.

Gradients go through the accepted steps; step sizes, and the scale of errors, count as constants.
The field is evaluated in float32, also under autocast.

What a sample costs is a whole number, and has no gradient. Its `effort` has one: where the
controller answers a step dt with a next step dt', the step counts as dt / dt' steps,

    effort_i = 2 + (stages - 1) sum over accepted steps of 1 / clip(0.9 e_i^(-1/q), 0.2, 10).

Reference: E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I, Springer
1993, II.4 (the controller, and the first step size). A. Pal, Y. Ma, V. Shah, C. Rackauckas, Opening
the Blackbox, ICML 2021, https://arxiv.org/abs/2105.03918 (error estimates as a penalty: there the
sum of dt e, which is the same for a sample of two steps and for one of twenty).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.ops.solvers.solution import Solution, VectorField, state, widen
from harness.models.ops.solvers.sums import Room, sums_of
from harness.models.ops.solvers.tableau import Tableau

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
OCTAVE = 1024  # parts of an octave, to one of which step sizes are rounded


def round_down(dt: Tensor) -> Tensor:
    """Return step sizes rounded on a logarithmic scale."""
    return torch.exp2((dt.log2() * OCTAVE).round() / OCTAVE)


@dataclass(frozen=True)
class Adaptive:
    """An embedded method with tolerances.

    Args:
        rtol: Relative tolerance of one step, > 0.
        atol: Absolute tolerance of one step, >= 0, in the units of u.
        max_nfe: Budget of each sample; one whose next step would pass it stops where it is.
    """

    tableau: Tableau
    rtol: float = 1e-3
    atol: float = 1e-3
    max_nfe: int = 200

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and math.isfinite(self.rtol)):
            raise ValueError(f"`rtol` must be > 0 and finite; got {self.rtol}. Use 1e-3.")
        if not (self.atol >= 0 and math.isfinite(self.atol)):
            raise ValueError(f"`atol` must be >= 0 and finite; got {self.atol}. Use 1e-3.")
        least = 1 + self.tableau.stages
        if self.max_nfe < least:
            raise ValueError(
                f"`max_nfe` must be at least {least}, one step of {self.name}; "
                f"got {self.max_nfe}. Use 200."
            )

    @property
    def name(self) -> str:
        return self.tableau.name

    @property
    def order(self) -> int:
        return self.tableau.order

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        if t1 <= t0:
            raise ValueError(f"`t1` must lie behind t0 = {t0}; got {t1}. Reverse the field.")
        # Tolerances mean nothing in bfloat16, whose rounding is larger than they are.
        with torch.autocast(u.device.type, enabled=False):
            return _Solve(self, f, state(u), t0, t1).run()


class _Solve:
    """One solve: the samples still at work, and what became of the others.

    Of M samples at work: `u` (M, ...), `slope` f(t, u), `t`, `dt`, `accepted`, `effort` (M,), and
    `which` (M,), their places in the batch. All of them have tried `attempts` steps; `tried` (M,)
    were the sizes of the last one and `good` (M,) says where it was accepted.
    """

    def __init__(self, method: Adaptive, f: VectorField, u: Tensor, t0: float, t1: float) -> None:
        self.method, self.f, self.t0, self.t1 = method, f, t0, t1
        self.smallest = 1e-6 * (t1 - t0)  # of a step; below, a sample counts as stuck
        n, device = len(u), u.device
        self.u, self.which = u, torch.arange(n, device=device)
        self.t = torch.full((n,), t0, dtype=u.dtype, device=device)
        self.tried, self.good = torch.zeros_like(self.t), torch.zeros_like(self.which).bool()
        self.accepted = torch.zeros_like(self.which)
        self.effort = torch.full_like(self.t, 2.0)
        self.times = torch.tensor(method.tableau.c[1:], dtype=u.dtype, device=device)[:, None]
        self.room = Room(u, method.tableau.stages)
        self.calls = self.attempts = 0
        self.left: list[tuple[Tensor, ...]] = []

    def run(self) -> Solution:
        if len(self.u):
            self.start()
        while len(self.u):
            self.attempt()
        self.room.leave()
        if not self.left:  # of an empty batch
            none = self.accepted
            return Solution(self.u, none, none, none, self.good, calls=0, effort=self.effort)
        which, *rest = (x[0] if len(x) == 1 else torch.cat(x) for x in zip(*self.left, strict=True))
        if len(self.left) > 1:
            order = torch.empty_like(which)
            order[which] = torch.arange(len(which), device=which.device)
            rest = [x[order] for x in rest]
        u, accepted, attempts, spent, effort = rest
        nfe = 2 + (self.method.tableau.stages - 1) * attempts
        return Solution(u, nfe, accepted, attempts - accepted, spent, self.calls, effort)

    def evaluate(self, t: Tensor, u: Tensor) -> Tensor:
        self.calls += 1
        return widen(self.f(t, u), u)

    def per_sample(self, x: Tensor) -> Tensor:
        """Return x (M,) as it broadcasts against a state."""
        return x.view(-1, *[1] * (self.u.ndim - 1))

    def norm(self, x: Tensor) -> Tensor:
        """Return the root mean square over each sample's own entries, (M,); `x` is used up."""
        return x.flatten(1).square_().mean(1).sqrt()

    def start(self) -> None:
        """Evaluate the first slope, and choose first step sizes (Hairer et al., II.4)."""
        self.slope = self.evaluate(self.t, self.u)
        with torch.no_grad():
            u, slope = self.u.detach(), self.slope.detach()
            scale = u.abs().mul_(self.method.rtol).add_(self.method.atol)
            spare = torch.empty_like(scale)
            d0 = self.norm(torch.div(u, scale, out=spare))
            d1 = self.norm(torch.div(slope, scale, out=spare))
            tiny = (d0 < 1e-5) | (d1 < 1e-5)
            h0 = torch.where(tiny, 1e-6, 0.01 * d0 / d1.clamp(min=1e-30))
            h0 = h0.clamp(max=self.t1 - self.t0)
            probe = self.evaluate(self.t + h0, (self.per_sample(h0) * slope).add_(u))
            d2 = self.norm(torch.sub(probe, slope, out=spare).div_(scale)) / h0
            largest = torch.maximum(d1, d2)
            h1 = (0.01 / largest.clamp(min=1e-30)) ** (1 / self.method.tableau.controller)
            # A field that is nothing is followed in one step; the error says if that was wrong.
            first = torch.where(largest <= 1e-15, torch.inf, torch.minimum(100 * h0, h1))
            self.dt = round_down(first.nan_to_num(nan=self.smallest * 10, posinf=torch.inf))

    def attempt(self) -> None:
        """Try one step with every sample at work; one wait for the device says how it went."""
        method, tableau = self.method, self.method.tableau
        remaining = self.t1 - self.t
        last = self.dt >= remaining
        dt = torch.where(last, remaining, self.dt)
        u_new, slope_new, square = self.stages(dt)
        self.attempts += 1
        nfe = 2 + (tableau.stages - 1) * self.attempts
        with torch.no_grad():
            e = square.detach().sqrt()
            good = e <= 1  # not where e is no number
            factor = SAFETY * e.clamp(min=1e-10) ** (-1 / tableau.controller)
            factor = factor.nan_to_num(nan=SHRINK).clamp(SHRINK, GROW)
            self.tried, self.good, self.dt = dt, good, round_down(dt * factor)
            self.accepted = self.accepted + good
            self.t = torch.where(good, torch.where(last, self.t1, self.t + dt), self.t)
            there = good & last
            leave = there | (~good & (self.dt < self.smallest))
            if nfe + tableau.stages - 1 > method.max_nfe:
                leave = torch.ones_like(leave)
            said = torch.stack((good.all(), leave.any(), leave.all()))
            all_good, any_leave, all_leave = said.tolist()
        self.add_effort(square, good)
        if all_good:
            self.u, self.slope = u_new, slope_new
        else:
            taken = self.per_sample(good)
            self.u = torch.where(taken, u_new, self.u)
            self.slope = torch.where(taken, slope_new, self.slope)
        if any_leave:
            self.split(None if all_leave else leave, ~there)

    def split(self, leave: Tensor | None, spent: Tensor) -> None:
        """Let samples leave the work, None for all of them, so that they cost nothing any more."""
        tried = torch.full_like(self.accepted, self.attempts)
        found = self.which, self.u, self.accepted, tried, spent, self.effort
        if leave is None:
            self.left.append(found)
            self.u = self.u[:0]
            return
        out, stay = leave.nonzero()[:, 0], (~leave).nonzero()[:, 0]
        self.left.append(tuple(x[out] for x in found))
        self.u, self.slope, self.which = self.u[stay], self.slope[stay], self.which[stay]
        self.t, self.dt = self.t[stay], self.dt[stay]
        self.accepted, self.effort = self.accepted[stay], self.effort[stay]

    def add_effort(self, square: Tensor, good: Tensor) -> None:
        """Count accepted steps, in units of the next step that the controller answers with."""
        tableau = self.method.tableau
        square = square.clamp(min=1e-20)  # a root has no slope at 0
        steps = square ** (0.5 / tableau.controller) / SAFETY
        steps = torch.where(good, steps.clamp(1 / GROW, 1 / SHRINK), 0.0)
        self.effort = self.effort + (tableau.stages - 1) * steps

    def stages(self, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u, f(t + dt, u) and the mean square of the scaled error of one step, dt (M,)."""
        method, tableau = self.method, self.method.tableau
        sums, slope = sums_of(self.u, dt, self.room), self.slope
        for row, t in zip(tableau.a[1:], (self.t + self.times * dt).unbind(), strict=True):
            sums.add(slope)
            u = slope = self.u  # the stage before is free, also for the next evaluation
            u = sums.state(row)
            slope = self.evaluate(t, u)
        sums.add(slope)
        return u, slope, sums.mean_square(tableau.e, u, method.rtol, method.atol)
