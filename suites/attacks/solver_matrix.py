"""Attacks through one solver, tested under another: whether a solver masks gradients.

    A -> B   images are made by an attack on the model as solver A solves it, and classified by the
             model as solver B does

A model is deployed under its own solver, `own`. Adaptive steps can make the loss jump between near
images, and hide it from gradients; the same equation under a fixed grid is smooth, and its
adversarial images often hold for the deployed solver too. Attacks:

    NAME       APGD-CE through that solver, by autograd through its steps; the sizes of accepted
               steps count as constants
    replayed   APGD-CE through the steps that `own`, if adaptive, takes on the clean image
    square     Square on the deployed model, without gradients

    masking gap = share of images that are right after `own` -> own
                  - share of those that are right under own after every attack

so the gap is >= 0, and 0 where an attack through the model's own solver finds all there is to find.

Reference: Y. Huang, Y. Yu, H. Zhang, Y. Ma and Y. Yao, Adversarial robustness of stabilized neural
ODE might be from obfuscated gradients, MSML 2022, https://arxiv.org/abs/2009.13145. Deviations: the
replayed attack and the gap are ours.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.ops.solvers import Adaptive, Solution, Solver, VectorField, solver
from harness.models.ops.solvers.adaptive import _Solve
from harness.models.ops.solvers.solution import solution_of, state, widen
from harness.suites.attacks.apgd import apgd_ce
from harness.suites.attacks.checks import Flags, keys_of
from harness.suites.attacks.contract import check
from harness.suites.attacks.ensembles import right
from harness.suites.attacks.problem import Classifier
from harness.suites.attacks.square import square

OWN, REPLAYED, SQUARE = "own", "replayed", "square"
BUDGET = 1000  # evaluations


def usual_solvers() -> dict[str, Solver]:
    """Return a coarse and a fine fixed grid, a loose and a tight adaptive solver, by name."""
    return {
        "euler 2": solver("euler", num_steps=2),
        "rk4 8": solver("rk4", num_steps=8),
        "heun_euler 1e-1": solver("heun_euler", rtol=1e-1, atol=1e-1, max_nfe=BUDGET),
        "dopri5 1e-4": solver("dopri5", rtol=1e-4, atol=1e-4, max_nfe=BUDGET),
    }


@contextmanager
def solved_by(model: nn.Module, method: Solver | None) -> Iterator[None]:
    """Let a model solve by `method`, None for its own, until the end."""
    solving: Any = model
    own = solving.solver
    try:
        solving.solver = own if method is None else method
        yield
    finally:
        solving.solver = own


class Recorder:
    """An adaptive solver that keeps the accepted steps of every solve, dt (steps, N)."""

    def __init__(self, method: Adaptive) -> None:
        self.method, self.name, self.order = method, method.name, method.order
        self.solves: list[Tensor] = []

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        with torch.autocast(u.device.type, enabled=False):
            solve = _Recorded(self.method, f, state(u), t0, t1)
            solution = solve.run()
        self.solves.append(packed(solve.steps))
        return solution


class _Recorded(_Solve):
    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.steps = self.u.new_zeros((0, len(self.u)))

    def attempt(self) -> None:
        which = self.which
        super().attempt()
        row = self.steps.new_zeros(self.steps.shape[1])
        row[which] = self.tried * self.good
        self.steps = torch.cat((self.steps, row[None]))


def packed(steps: Tensor) -> Tensor:
    """Return steps (M, N) with each column's zeros, of rejected steps, behind the others."""
    order = (steps == 0).long().argsort(dim=0, stable=True)
    found = steps.gather(0, order)
    return found[: int((found > 0).sum(0).amax())] if found.numel() else found


class Replay:
    """A solver that takes given steps, dt (steps, N) for each of several solves in turn."""

    def __init__(self, method: Adaptive, solves: list[Tensor]) -> None:
        self.method, self.name, self.order = method, method.name, method.order
        self.solves, self.turn = solves, 0

    def __call__(self, f: VectorField, u: Tensor, t0: float = 0.0, t1: float = 1.0) -> Solution:
        steps, tableau, u = self.solves[self.turn], self.method.tableau, state(u)
        self.turn += 1
        t = torch.full((len(u),), t0, dtype=u.dtype, device=u.device)
        with torch.autocast(u.device.type, enabled=False):
            for dt in steps.to(u.dtype):  # 0 for a sample that has arrived, which stays as it is
                h = dt.view(-1, *[1] * (u.ndim - 1))
                kept = [widen(f(t, u), u) * h]
                new = u
                for row, c in zip(tableau.a[1:], tableau.c[1:], strict=True):
                    new = u
                    for weight, k in zip(row, kept, strict=True):
                        new = new + weight * k
                    kept.append(widen(f(t + c * dt, new), u) * h)
                u, t = new, t + dt
        return solution_of(u, tableau.stages * len(steps), len(steps))


class Replayed:
    """A model whose adaptive solver takes, for every image, the steps of the clean image.

    Raises:
        ValueError: The model's solver has no choice of steps.
    """

    by_index = True

    def __init__(self, model: nn.Module, images: Tensor, indices: Tensor) -> None:
        own: Any = model.solver
        if not isinstance(own, Adaptive):
            raise ValueError(
                f"Steps can be replayed of an adaptive solver; got {own.name}. A fixed grid takes "
                "the same ones anyway."
            )
        self.model, self.own, recorder = model, own, Recorder(own)
        with solved_by(model, recorder), torch.no_grad():
            model(images)
        self.solves = recorder.solves
        self._places = {key: place for place, key in enumerate(indices.tolist())}

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        at = torch.tensor([self._places[key] for key in indices.tolist()], dtype=torch.int64)
        solves = [steps[:, at.to(steps.device)] for steps in self.solves]
        with solved_by(self.model, Replay(self.own, solves)):
            return self.model(images)


def solver_matrix(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    solvers: Mapping[str, Solver] | None = None,
    iterations: int = 20,
    queries: int = 500,
) -> Flags:
    """Return which images are classified correctly after each attack under each solver.

    Args:
        model: Model with a `solver`; see `harness.models.base.Solving`. It has it again afterwards.
        solvers: Other solvers, by name; `usual_solvers` by default.
        iterations, queries: Budgets of the attacks.

    Returns:
        "A -> B", (N,), for attacks A of `own`, the names of `solvers`, `replayed` where the own
        solver is adaptive, and `square`, and for B of `own` and the names; "clean -> B" as well.
    """
    check(images, labels, eps, norm, indices)
    keys, methods = keys_of(images, indices), {OWN: None, **(solvers or usual_solvers())}
    common: dict[str, Any] = {"eps": eps, "norm": norm, "indices": keys, "seed": seed}
    made = {"clean": images}
    for name, method in methods.items():
        with solved_by(model, method):
            made[name] = apgd_ce(model, images, labels, iterations=iterations, **common)
    if isinstance(getattr(model, "solver", None), Adaptive):
        subject: Classifier = Replayed(model, images, keys)
        made[REPLAYED] = apgd_ce(subject, images, labels, iterations=iterations, **common)
    made[SQUARE] = square(model, images, labels, queries=queries, **common)
    found = {}
    for test, method in methods.items():
        with solved_by(model, method):
            clean = right(model, images, labels, indices=keys)
            for name, points in made.items():
                found[f"{name} -> {test}"] = clean & right(model, points, labels, indices=keys)
    return found
