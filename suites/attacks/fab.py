"""FAB: from boundary to boundary, always nearer to the clean image.

With gap_t(x) = z_t(x) - z_y(x) and the plane gap_t(x_k) + <grad gap_t(x_k), . - x_k> = 0 where its
linearization is 0, x_0 = x,

    d1, d2 = the smallest moves of x_k and of x onto the plane inside [0, 1],
    alpha = min(|d1| / (|d1| + |d2|), 0.1),
    x_{k+1} = clip((1 - alpha) (x_k + 1.05 d1) + alpha (x + 1.05 d2)),

and where x_{k+1} is misclassified, the search goes on from x + 0.9 (x_{k+1} - x). The image is
broken if such a point is at most eps away from x.

`fab_t` aims at one class t after the other. `fab` takes in each iteration the class whose plane is
nearest, |gap_t| / |grad gap_t|_dual; restarts begin at x + eps / 2 t / |t|, t uniform in [-1, 1)^D
("linf") or normal ("l2"), clipped.

Reference: F. Croce and M. Hein, Minimally distorted adversarial examples with a fast adaptive
boundary attack, ICML 2020, https://arxiv.org/abs/1907.02044. Deviations: as in the authors' code,
there is no search along the last segment at the end; unlike it, an image leaves as soon as a point
within eps is found, so that the points are not the nearest ones; with `nearest` none leaves, and
the nearest point of all runs is returned.
"""

from functools import partial

import torch
from torch import Tensor

from harness.suites.attacks.balls import column, move_onto_plane, unit_scale
from harness.suites.attacks.contract import Plan, attack
from harness.suites.attacks.losses import at
from harness.suites.attacks.problem import Problem, slope_of

MOST_ALPHA, OVERSHOOT, BACK = 0.1, 1.05, 0.9
TINY = 1e-8  # the least |d| in alpha
Plane = tuple[Tensor, Tensor]  # gap (n,) at the points, gradient (n, C, H, W)


def _plane(problem: Problem, inputs: Tensor, logits: Tensor) -> Plane:
    with torch.enable_grad():
        gap = at(logits, problem.targets) - at(logits, problem.labels)
    return gap.detach().nan_to_num(nan=0.0), slope_of(gap, inputs, keep=True)


def _plane_of_target(problem: Problem, points: Tensor) -> Plane:
    return _plane(problem, *problem.trace(points))


def _nearest_plane(problem: Problem, points: Tensor) -> Plane:
    """Return the plane of the class that is nearest to each point; one backward pass for each."""
    best, value, gradient = None, torch.empty(0), torch.empty(0)
    inputs, logits = problem.trace(points)
    for rank in range(logits.shape[1] - 1):
        gap, slope = _plane(problem.towards(rank), inputs, logits)
        flat = unit_scale(slope).flatten(1)
        dual = flat.abs().sum(1) if problem.ball.norm == "linf" else flat.square().sum(1).sqrt()
        scale = slope.flatten(1).abs().amax(1)
        distance = torch.where(scale > 0, gap.abs() / scale / dual, torch.inf)
        if best is None:
            best, value, gradient = distance, gap, slope
            continue
        nearer = distance < best
        best = torch.where(nearer, distance, best)
        value = torch.where(nearer, gap, value)
        gradient = torch.where(column(nearer), slope, gradient)
    return value, gradient


def _step(problem: Problem, points: Tensor, plane: Plane) -> Tensor:
    ball, images = problem.ball, problem.images
    largest = plane[1].flatten(1).abs().amax(1)
    value = plane[0] / torch.where(largest > 0, largest, 1)
    gradient = unit_scale(plane[1])  # of any size before; products would overflow
    at_image = value + (gradient * (images - points)).flatten(1).sum(1)
    d1 = move_onto_plane(points, gradient, value, ball.norm)
    d2 = move_onto_plane(images, gradient, at_image, ball.norm)
    size1, size2 = ball.size(d1).clamp_min(TINY), ball.size(d2).clamp_min(TINY)
    alpha = column((size1 / (size1 + size2)).clamp_max(MOST_ALPHA))
    moved = (1 - alpha) * (points + OVERSHOOT * d1) + alpha * (images + OVERSHOOT * d2)
    return moved.clamp(0, 1)


def run(
    problem: Problem,
    iterations: int,
    targeted: bool,
    restarts: int,
    nearest: bool = False,
) -> tuple[Tensor, Tensor]:
    """Search once; only the first run of each target starts at the image itself."""
    ball = problem.ball
    found, points = problem.images.clone(), problem.images
    broken = torch.zeros_like(problem.labels, dtype=torch.bool)
    rows = torch.arange(len(problem), device=points.device)
    if (again := problem.runs % restarts > 0).any():
        t = 2 * problem.uniform() - 1 if ball.norm == "linf" else problem.normal()
        start = (points + ball.eps / 2 * t / column(ball.size(t))).clamp(0, 1)
        points = torch.where(column(again), start, points)
    plane = _plane_of_target if targeted else _nearest_plane
    least = torch.full_like(points[:, 0, 0, 0], ball.eps)  # distance of the nearest point yet
    for _ in range(iterations):
        points = _step(problem, points, plane(problem, points))
        wrong = ~problem.right(points)
        moves = points - problem.images
        size = ball.size(moves)
        won = wrong & (size <= least[rows])
        found[rows[won]], broken[rows[won]] = points[won], True
        points = torch.where(column(wrong), problem.images + BACK * moves, points)
        if nearest:
            least[won] = size[won]
        elif won.any():
            stay = ~problem.of_same_images(won)
            problem, rows, points = problem.part(stay), rows[stay], points[stay]
            if not len(rows):
                break
    return found, broken


@attack
def fab(iterations: int = 100, restarts: int = 5, nearest: bool = False) -> Plan:
    """Return images on the other side of the nearest class's boundary.

    Args:
        iterations: Number of steps.
        restarts: Number of starts, each on the images that the ones before did not break.
        nearest: Whether the search goes on within eps, for the nearest point of all runs.
    """
    once = partial(run, iterations=iterations, targeted=False, restarts=restarts, nearest=nearest)
    return Plan(once, restarts, nearest=nearest)


@attack
def fab_t(
    iterations: int = 100, restarts: int = 1, targets: int = 9, nearest: bool = False
) -> Plan:
    """Return images on the other side of one class's boundary after the other.

    Args:
        iterations: Number of steps.
        restarts: Number of starts for each target.
        targets: Number of target classes, those of the largest logits of the clean image after its
            label's; all others where there are fewer.
        nearest: As in `fab`.
    """
    once = partial(run, iterations=iterations, targeted=True, restarts=restarts, nearest=nearest)
    return Plan(once, restarts, targets, nearest=nearest)
