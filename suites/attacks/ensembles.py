"""AutoAttack: attacks one after the other, each on the images that those before did not break.

    robust accuracy = share of the images that are classified correctly, clean and after all attacks

`ENSEMBLES` are the published lists with the published budgets. They are for "linf" and "l2".

    standard   what leaderboards report
    plus       more restarts, and the untargeted attacks as well
    rand       for networks that draw random numbers: gradients are means over 20 draws

Reference: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020, https://arxiv.org/abs/2003.01690. Deviations: those of
the attacks; every find is judged once more, apart from its attack, and in `rand` by most of 20
fresh draws, where the authors' code takes one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.suites.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from harness.suites.attacks.balls import Ball
from harness.suites.attacks.contract import Attack, check
from harness.suites.attacks.fab import fab, fab_t
from harness.suites.attacks.gradient_sign import fgsm, pgd
from harness.suites.attacks.problem import Classifier, ask, is_right
from harness.suites.attacks.square import square

ATTACKS: dict[str, Attack] = {
    one.__name__: one for one in (fgsm, pgd, apgd_ce, apgd_dlr, apgd_t, fab, fab_t, square)
}
SLACK = 1e-6  # beyond eps, of rounding; of eps where that is above 1
CLEAN, ROBUST = -2, -1  # of `Outcome.by`


@dataclass(frozen=True)
class Entry:
    """One attack of an ensemble: its name in `ATTACKS` and its own settings."""

    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def draws(self) -> int:
        """Number of forward passes behind a verdict."""
        return int(self.settings.get("draws", 1))


ENSEMBLES: dict[str, tuple[Entry, ...]] = {
    "standard": (
        Entry("apgd_ce", {"iterations": 100, "restarts": 1}),
        Entry("apgd_t", {"iterations": 100, "restarts": 1, "targets": 9}),
        Entry("fab_t", {"iterations": 100, "restarts": 1, "targets": 9}),
        Entry("square", {"queries": 5000, "restarts": 1}),
    ),
    "plus": (
        Entry("apgd_ce", {"iterations": 100, "restarts": 5}),
        Entry("apgd_dlr", {"iterations": 100, "restarts": 5}),
        Entry("fab", {"iterations": 100, "restarts": 5}),
        Entry("square", {"queries": 5000, "restarts": 1}),
        Entry("apgd_t", {"iterations": 100, "restarts": 1, "targets": 9}),
        Entry("fab_t", {"iterations": 100, "restarts": 1, "targets": 9}),
    ),
    "rand": (
        Entry("apgd_ce", {"iterations": 100, "restarts": 1, "draws": 20}),
        Entry("apgd_dlr", {"iterations": 100, "restarts": 1, "draws": 20}),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What became of each image.

    Args:
        images: Adversarial images where one was found, else the images themselves, (N, 3, H, W).
        by: int64 (N,), position in the ensemble of the first attack that broke the image; -1 for
            an image that none broke, -2 for one that was misclassified from the start.
        hits: Which images each attack broke, of those that it attacked, (N,); by name.
        attacked: Which images each attack attacked, (N,); by name.
    """

    images: Tensor
    by: Tensor
    hits: Mapping[str, Tensor]
    attacked: Mapping[str, Tensor]

    @property
    def robust(self) -> Tensor:
        """Which images are classified correctly after all attacks, (N,)."""
        return self.by == ROBUST


def right(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    draws: int = 1,
    indices: Tensor | None = None,
) -> Tensor:
    """Return which images are classified correctly, in most of the draws, (N,)."""
    keys = torch.arange(len(images)) if indices is None else indices
    with torch.no_grad():
        votes = sum(is_right(ask(subject, images, keys), labels).long() for _ in range(draws))
    return 2 * torch.as_tensor(votes) > draws


def run_ensemble(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    ensemble: tuple[Entry, ...],
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 256,
    every: bool = False,
) -> Outcome:
    """Run the attacks of an ensemble in its order.

    Args:
        subject, images, labels, eps, norm, indices, seed: As in every attack.
        ensemble: Attacks with their settings, such as `ENSEMBLES["standard"]`; names differ.
        batch_size: Most images in a batch.
        every: Whether each attack gets all images that are classified correctly, so that `hits`
            tell of each attack by itself; by default it gets those that are not broken yet.

    Raises:
        ValueError: An argument is not as `contract` says, or an attack is named twice.
        FloatingPointError: An attack's image lies outside of the ball or of [0, 1].
    """
    check(images, labels, eps, norm, indices)
    names = [entry.attack for entry in ensemble]
    if len({*names}) < len(names):
        raise ValueError(f"An ensemble names each attack once; got {', '.join(names)}.")
    keys = torch.arange(len(images)) if indices is None else indices
    keys = keys.to(images.device)
    out, ball = images.detach().clone(), Ball(eps, norm)
    draws = max((entry.draws for entry in ensemble), default=1)
    correct = torch.zeros_like(labels, dtype=torch.bool)
    for rows in torch.arange(len(images), device=images.device).split(batch_size):
        correct[rows] = right(subject, images[rows], labels[rows], draws, keys[rows])
    by = torch.where(correct, ROBUST, CLEAN)
    hits, attacked = {}, {}
    for place, entry in enumerate(ensemble):
        hit = torch.zeros_like(correct)
        alive = correct if every else by == ROBUST
        attacked[entry.attack], hits[entry.attack] = alive.clone(), hit
        for rows in alive.nonzero()[:, 0].split(batch_size):
            points = ATTACKS[entry.attack](
                subject,
                images[rows],
                labels[rows],
                eps=eps,
                norm=norm,
                indices=keys[rows],
                seed=seed,
                **entry.settings,
            )
            check_found(points, images[rows], ball, entry.attack)
            hit[rows] = ~right(subject, points, labels[rows], entry.draws, keys[rows])
            new = hit[rows] & (by[rows] == ROBUST)
            out[rows[new]], by[rows[new]] = points[new], place
    return Outcome(out, by, hits, attacked)


def check_found(points: Tensor, images: Tensor, ball: Ball, name: str) -> None:
    """Refuse what no attack may give.

    Raises:
        FloatingPointError: A point is not finite, outside of [0, 1], or farther than eps from its
            image, (N, C, H, W).
    """
    far = ball.size(points - images)
    if not (points.isfinite().all() and (points >= 0).all() and (points <= 1).all()):
        raise FloatingPointError(f"The attack `{name}` gave images outside of [0, 1].")
    if not (far <= ball.eps + SLACK * max(1, ball.eps)).all():
        raise FloatingPointError(
            f"The attack `{name}` gave an image {float(far.max()):.8g} away; eps is {ball.eps:.8g}."
        )
