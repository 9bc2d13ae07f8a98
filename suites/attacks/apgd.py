"""Auto-PGD: projected gradient ascent with momentum, which chooses its step sizes itself.

    x_0 = P(x + eps t / |t|),   t uniform in [-1, 1)^D ("linf") or normal ("l2"),   step = 2 eps,
    z_k = P(x_k + step d(grad L(x_k))),
    x_{k+1} = P(x_k + a (z_k - x_k) + (1 - a) (x_k - x_{k-1})),   a = 1 at k = 0, then 3/4,

with d and P of `harness.suites.attacks.balls` and L of `harness.suites.attacks.losses`. At
checkpoints, 22 iterations after the start, then each 3 sooner after the last one than that was, but
not less than 6 (of 100 iterations), the step is halved and the search goes back to the best point,
with its gradient, if

    L rose in at most rho of the window's steps, or
    the step was not halved at the last checkpoint, and the best L has not risen since.

Any iterate that is misclassified breaks the image.

Reference: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020, https://arxiv.org/abs/2003.01690, algorithm 1.
Deviations: the first window compares its first loss with that of the start (the authors' code:
with 0); the cross entropy is taken by an increasing function that does not saturate (see `losses`);
normalized gradients do not depend on the gradient's size, however small; images leave the search as
soon as they are broken. For a random subject (`draws` > 1) the best point is that of the largest
mean loss over the draws, none leaves early, and fresh draws decide.
"""

from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from harness.suites.attacks.balls import Ball, column
from harness.suites.attacks.contract import Plan, attack
from harness.suites.attacks.losses import Loss, cross_entropy, dlr, targeted_dlr
from harness.suites.attacks.problem import Problem, is_right

MOMENTUM = 0.75  # a
FIRST, LEAST, SHORTER = 0.22, 0.06, 0.03  # windows, as fractions of the number of iterations


@dataclass
class Search:
    """Where the search stands, one row for each image."""

    points: Tensor  # (n, C, H, W)
    before: Tensor  # points of the iteration before
    gradient: Tensor
    value: Tensor  # (n,)
    best: Tensor  # point of the largest loss yet
    best_gradient: Tensor
    best_value: Tensor
    step: Tensor  # (n,), units of images
    rises: Tensor  # (n,), of this window
    checked_value: Tensor  # the best loss at the last checkpoint
    halved: Tensor  # whether the last checkpoint halved the step
    rows: Tensor  # (n,), positions in the problem

    def part(self, keep: Tensor) -> "Search":
        return Search(*(getattr(self, field.name)[keep] for field in fields(self)))

    def climb(self, ball: Ball, images: Tensor, a: float) -> None:
        """Move the points by one iteration."""
        ahead = self.points + column(self.step) * ball.direction(self.gradient)
        ahead = ball.project(ahead, images)
        moved = self.points + a * (ahead - self.points) + (1 - a) * (self.points - self.before)
        self.before, self.points = self.points, ball.project(moved, images)

    def record(self, value: Tensor, gradient: Tensor) -> None:
        """Take note of the loss at the points."""
        self.rises = self.rises + (value > self.value)
        better = value > self.best_value
        self.best = torch.where(column(better), self.points, self.best)
        self.best_gradient = torch.where(column(better), gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)
        self.value, self.gradient = value, gradient

    def check(self, window: int, rho: float) -> None:
        """Halve steps and go back to the best points, where this is due."""
        stalled = ~self.halved & (self.checked_value >= self.best_value)
        halve = (self.rises <= rho * window) | stalled
        self.step = torch.where(halve, self.step / 2, self.step)
        self.points = torch.where(column(halve), self.best, self.points)
        self.gradient = torch.where(column(halve), self.best_gradient, self.gradient)
        self.halved, self.checked_value = halve, self.best_value
        self.rises = torch.zeros_like(self.rises)


def checkpoints(iterations: int) -> dict[int, int]:
    """Return after which iterations, counted from 1, steps are checked, with each window."""
    window = max(int(FIRST * iterations), 1)
    found, end = {}, window
    while end <= iterations:
        found[end] = window
        window = max(window - max(int(SHORTER * iterations), 1), max(int(LEAST * iterations), 1))
        end += window
    return found


def _start(problem: Problem, loss: Loss) -> tuple[Search, Tensor]:
    ball, images = problem.ball, problem.images
    if ball.norm == "linf":
        t = 2 * problem.uniform() - 1
        t = t / column(ball.size(t))
    else:
        t = ball.direction(problem.normal())
    points = ball.project(images + ball.eps * t, images)
    logits, value, gradient = problem.ascend(points, loss)
    search = Search(
        points=points,
        before=points,
        gradient=gradient,
        value=value,
        best=points,
        best_gradient=gradient,
        best_value=value,
        step=torch.full_like(value, 2 * ball.eps),
        rises=torch.zeros_like(value, dtype=torch.int64),
        checked_value=value,
        halved=torch.ones_like(value, dtype=torch.bool),
        rows=torch.arange(len(problem), device=images.device),
    )
    return search, logits


def run(problem: Problem, loss: Loss, iterations: int, rho: float) -> tuple[Tensor, Tensor]:
    """Search once, each row from the start of its run."""
    search, logits = _start(problem, loss)
    found = search.points.clone()
    broken = torch.zeros_like(search.halved)
    due, whole = checkpoints(iterations), problem
    for k in range(iterations + 1):
        if k:
            search.climb(problem.ball, problem.images, MOMENTUM if k > 1 else 1.0)
            logits, value, gradient = problem.ascend(search.points, loss)
            search.record(value, gradient)
        wrong = ~is_right(logits, problem.labels)
        if problem.draws == 1 and wrong.any():
            lost = search.rows[wrong]
            found[lost], broken[lost] = search.points[wrong], True
            stay = ~problem.of_same_images(wrong)
            search, problem = search.part(stay), problem.part(stay)
            if not len(problem):
                break
        if k in due:
            search.check(due[k], rho)
    found[search.rows] = search.best
    if whole.draws > 1:
        broken = ~whole.right(found)
    return found, broken


@attack
def apgd_ce(iterations: int = 100, restarts: int = 1, rho: float = 0.75, draws: int = 1) -> Plan:
    """Return images at which Auto-PGD on the cross entropy ends.

    Args:
        iterations: Number of steps.
        restarts: Number of starts, each on the images that the ones before did not break.
        rho: Fraction of a window's steps that must raise the loss.
        draws: Number of forward passes behind each gradient and verdict, for a random subject.
    """
    once = partial(run, loss=cross_entropy, iterations=iterations, rho=rho)
    return Plan(once, restarts, draws=draws)


@attack
def apgd_dlr(iterations: int = 100, restarts: int = 1, rho: float = 0.75, draws: int = 1) -> Plan:
    """Return images at which Auto-PGD on the DLR loss ends; arguments of `apgd_ce`."""
    return Plan(partial(run, loss=dlr, iterations=iterations, rho=rho), restarts, draws=draws)


@attack
def apgd_t(
    iterations: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    draws: int = 1,
    targets: int = 9,
) -> Plan:
    """Return images at which Auto-PGD on the targeted DLR loss ends.

    Args:
        iterations, rho, draws: As in `apgd_ce`.
        restarts: Number of starts for each target.
        targets: Number of target classes, those of the largest logits of the clean image after its
            label's; all others where there are fewer.
    """
    once = partial(run, loss=targeted_dlr, iterations=iterations, rho=rho)
    return Plan(once, restarts, targets, draws)
