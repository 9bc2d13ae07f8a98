"""FGSM and PGD: one step along the gradient of the cross entropy, and several.

    FGSM   x' = P(x + eps d(grad CE(x)))
    PGD    x_0 uniform in B(x), clipped;   x_{k+1} = P(x_k + step d(grad CE(x_k)))

d(g) = sign(g) for "linf" and g / |g|_2 for "l2"; P is the projection onto B(x) of
`harness.suites.attacks.balls`. Any iterate of PGD that is misclassified breaks the image.

References: I. J. Goodfellow, J. Shlens and C. Szegedy, Explaining and harnessing adversarial
examples, ICLR 2015, https://arxiv.org/abs/1412.6572; A. Madry, A. Makelov, L. Schmidt, D. Tsipras
and A. Vladu, Towards deep learning models resistant to adversarial attacks, ICLR 2018,
https://arxiv.org/abs/1706.06083. Deviations: PGD has 20 steps of eps / 4 unless told otherwise (the
paper has 7 to 100, of about the same size), and keeps the first iterate that is misclassified, not
the last iterate.
"""

import math
from functools import partial

import torch
from torch import Tensor

from harness.suites.attacks.balls import column
from harness.suites.attacks.contract import Plan, attack
from harness.suites.attacks.losses import cross_entropy
from harness.suites.attacks.problem import Problem, is_right


def _fgsm(problem: Problem) -> tuple[Tensor, Tensor]:
    _, _, gradient = problem.ascend(problem.images, cross_entropy)
    points = problem.images + problem.ball.eps * problem.ball.direction(gradient)
    points = problem.ball.project(points, problem.images)
    return points, ~problem.right(points)


def _pgd(problem: Problem, iterations: int, step: float) -> tuple[Tensor, Tensor]:
    ball, images = problem.ball, problem.images
    if ball.norm == "linf":
        start = 2 * problem.uniform(0, 2) - 1
    else:
        radius = problem.uniform(1, 2, ()) ** (1 / math.prod(images.shape[1:]))
        start = column(radius) * ball.direction(problem.normal(0, 2))
    points = ball.project(images + ball.eps * start, images)
    found, rows = points.clone(), torch.arange(len(problem), device=images.device)
    broken = torch.zeros(len(problem), dtype=torch.bool, device=images.device)
    for k in range(iterations + 1):
        logits, _, gradient = problem.ascend(points, cross_entropy)
        wrong = ~is_right(logits, problem.labels)
        found[rows], broken[rows] = points, wrong
        if wrong.any():
            problem, rows = problem.part(~wrong), rows[~wrong]
            points, gradient = points[~wrong], gradient[~wrong]
        if k == iterations or not len(rows):
            break
        moved = points + step * ball.eps * ball.direction(gradient)
        points = ball.project(moved, problem.images)
    return found, broken


@attack
def fgsm() -> Plan:
    """Return images after one step of size `eps`; nothing is random."""
    return Plan(_fgsm)


@attack
def pgd(iterations: int = 20, step: float = 0.25, restarts: int = 1) -> Plan:
    """Return images after projected gradient steps from a random start.

    Args:
        iterations: Number of steps.
        step: Size of a step as a fraction of `eps`.
        restarts: Number of starts, each on the images that the ones before did not break.
    """
    return Plan(partial(_pgd, iterations=iterations, step=step), restarts)
