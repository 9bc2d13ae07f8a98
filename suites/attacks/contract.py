"""What an attack promises: its arguments, their checks, and which images it works on.

An attack is a function

    (subject, images, labels, *, eps, norm="linf", indices=None, seed=0, ...) -> images

of float images (N, 3, H, W) in [0, 1] to such images, at most `eps` away from those that came in:

    subject    function of images (n, 3, H, W) to logits (n, K) that can be differentiated with
               respect to them; it treats every image by itself, as networks in evaluation mode do.
               One with a true attribute `by_index` takes images and their indices
    labels     int64 (N,)
    eps, norm  radius in units of images in [0, 1], in the norm "linf" or "l2"
    indices    int64 (N,), positions in the data set, which key random draws; default 0..N-1
    seed       seed of random draws

Only images that are classified correctly are attacked; the others are returned as they are. An
image that is broken, by any iterate, leaves the batch at once. One that is not broken is returned
as the strongest point of the last run, by FAB as it was.

After its first target class an attack aims at up to TOGETHER others at once, as rows of one search,
which an image leaves with all of its rows: few images would keep no processor busy. A search has at
most as many rows as there are images, or ROWS.

Row i depends on `images[i]`, `labels[i]`, `indices[i]` and the seed alone: every random draw is
keyed by (seed, attack, index) as `harness.models.ops.philox` describes, so batch and order do not
matter beyond the rounding of the subject. The global generators are left alone. Draws are the same
at every `eps`.

    Logits that are not finite      classify nothing: the image counts as misclassified.
    Gradients with NaN              are 0 there; infinite values are the largest finite ones.
    Gradients that are 0            give no move; see `unseen`, which counts both.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.models.registry import unknown
from harness.suites.attacks.balls import NORMS, Ball
from harness.suites.attacks.losses import Loss, cross_entropy
from harness.suites.attacks.problem import Classifier, Problem, ask, is_right

Run = Callable[[Problem], tuple[Tensor, Tensor]]
TOGETHER = 8  # runs on one image that are rows of one search
ROWS = {"cpu": 100, "cuda": 2000}  # of 32 x 32 pixels that a search is filled up to


@dataclass(frozen=True)
class Plan:
    """How one attack goes about it.

    Args:
        run: A problem's points (n, 3, H, W), and whether they are misclassified (n,).
        restarts: Number of runs, each on the images that the ones before did not break.
        targets: Number of target classes, those of the largest logits of the clean image after its
            label's, all where there are fewer; each has all restarts. 0 for an attack without.
        draws: As in `Problem`.
        nearest: Whether all runs get all images, and the nearest of their points are returned.
    """

    run: Run
    restarts: int = 1
    targets: int = 0
    draws: int = 1
    nearest: bool = False


Attack = Callable[..., Tensor]


def attack(plan: Callable[..., Plan]) -> Attack:
    """Make an attack, under its name, of a function of an attack's own settings to its plan."""
    name = plan.__name__

    def attacked(
        subject: Classifier,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: str = "linf",
        indices: Tensor | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Tensor:
        planned = plan(**settings)
        check(images, labels, eps, norm, indices)
        for what in ("restarts", "draws"):
            if getattr(planned, what) < 1:
                raise ValueError(f"`{what}` must be >= 1; got {getattr(planned, what)}.")
        with torch.inference_mode(False), torch.no_grad():
            images, labels = images.detach().clone(), labels.clone()  # none of inference mode
            keys = torch.arange(len(images)) if indices is None else indices.clone()
            keys, ball = keys.to(images.device), Ball(eps, norm)
            each = torch.arange(len(images), device=images.device)
            problem = Problem(
                name, subject, images, labels, keys, ball, seed, planned.draws,
                clean=labels, targets=labels, owners=each, runs=torch.zeros_like(each),
            )  # fmt: skip
            return _carry_out(planned, problem) if eps and len(images) else images

    attacked.__name__, attacked.__doc__, attacked.__module__ = name, plan.__doc__, plan.__module__
    common = [*inspect.signature(attacked).parameters.values()][:-1]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(plan).parameters.values()]
    signature = inspect.Signature([*common, *own], return_annotation=Tensor)
    attacked.__signature__ = signature  # type: ignore[attr-defined]
    return attacked


def _carry_out(plan: Plan, problem: Problem) -> Tensor:
    out = problem.images.clone()
    clean = problem.logits(problem.images)
    right = is_right(clean, problem.labels) if plan.draws == 1 else problem.right(problem.images)
    alive, problem = right.nonzero()[:, 0], replace(problem, clean=clean)
    targets = min(plan.targets, clean.shape[1] - 1)
    least = torch.full_like(out[:, 0, 0, 0], math.inf)  # distances of the points in `out`
    for numbers in _turns(plan, targets):
        if not len(alive):
            break
        broken = torch.zeros_like(right)
        for some in alive.split(_images_at_once(problem.images, len(numbers))):
            rows = problem.part(some).in_runs(numbers, plan.restarts, targets)
            points, won = plan.run(rows)
            by_run = zip(points.split(len(some)), won.split(len(some)), strict=True)
            for point, hit in by_run:
                if plan.nearest:
                    size = problem.ball.size(point - problem.images[some])
                    better = hit & (size < least[some])
                    least[some] = torch.where(better, size, least[some])
                else:
                    better = ~broken[some]
                out[some[better]] = point[better]
                broken[some] |= hit
        alive = alive if plan.nearest else alive[~broken[alive]]
    return out


def _turns(plan: Plan, targets: int) -> list[range]:
    """The numbers of the runs that are made together, turn after turn.

    The first run has a turn of its own, since it breaks most of what can be broken. A random
    subject's runs are made one by one, so that each has draws of its own.
    """
    count = plan.restarts * max(targets, 1)
    together = TOGETHER if targets and plan.draws == 1 else 1
    return [range(1), *(range(a, min(a + together, count)) for a in range(1, count, together))]


def _images_at_once(images: Tensor, runs: int) -> int:
    """How many images have their runs in one search: all, if each has one."""
    _, _, height, width = images.shape
    rows = ROWS.get(images.device.type, ROWS["cpu"]) * 32**2 // (height * width)
    return max(1, max(len(images), rows) // runs) if runs > 1 else max(1, len(images))


def unseen(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    indices: Tensor | None = None,
) -> Tensor:
    """Return for which images a gradient is exactly 0, or not finite, (N,).

    Attacks that follow gradients are blind there, and robust accuracy is then an upper bound. All
    images of a subject whose logits carry no gradient are unseen.
    """
    check(images, labels, 0.0, "linf", indices)
    keys = torch.arange(len(images)) if indices is None else indices
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        value, _ = loss(ask(subject, inputs, keys), labels, labels)
        if not value.requires_grad:
            return torch.ones_like(labels, dtype=torch.bool)
        (gradient,) = torch.autograd.grad(value.sum(), inputs)
    flat = gradient.flatten(1)
    return (flat == 0).all(1) | ~flat.isfinite().all(1)


def check(
    images: Tensor, labels: Tensor, eps: float, norm: str, indices: Tensor | None = None
) -> None:
    """Refuse what no attack can work on.

    Raises:
        ValueError: Says what is wrong, and the cure.
        LookupError: There is no such norm.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"`eps` must be finite and >= 0; got {eps}. Images lie in [0, 1].")
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"`images` must be float of shape (N, 3, H, W); got {images.dtype} of shape "
            f"{tuple(images.shape)}. Give uint8 images as images / 255."
        )
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"`images` must lie in [0, 1]; got [{float(images.min()):.4g}, "
            f"{float(images.max()):.4g}]. Normalization belongs inside the model."
        )
    for name, given in (("labels", labels), ("indices", indices)):
        if given is not None and (given.shape != images.shape[:1] or given.dtype != torch.int64):
            raise ValueError(
                f"`{name}` must be int64 of shape ({len(images)},), one per image; got "
                f"{given.dtype} of shape {tuple(given.shape)}."
            )
