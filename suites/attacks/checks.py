"""Checks of an attack: whether it can see through the model that it did not break.

Robust accuracy is an upper bound, as good as the attack. An attack that follows gradients is blind
where they are zero, wrong or random (masked gradients), and the number is then too good. Each check
here gives tensors with one row an image, of true and false:

    randomness    changes         the prediction is not the same in five calls
                  differs         logits, scaled to length 1, differ by more than 1e-4
    attacked      clean, noise, fgsm, pgd, apgd_ce, apgd_t, more, square, huge: classified correctly
                  after that
    of_ensemble   the same of an ensemble such as AutoAttack
    transferred   the same after images made on another model
    expected      eot, fixed: the same of a random model, with gradients over 20 draws and 20 fresh
                  draws for the verdict, and with its randomness fixed

`noise` is right under each of ten random moves of size eps, to corners of the ball for "linf";
`more` is apgd_ce with five times the iterations; `huge` has radius 1/2 ("linf"; sqrt(D) / 2 in
"l2"), where all images can be made the same gray one, so that no classifier is right on more than
one class. Further checks are in `gradient_checks`, `positive_control` and `solver_matrix`, what
follows of all tensors is in `harness.suites.belief`.

Row i depends on image i, its index and the seed alone, like the attacks.

Reference: A. Athalye, N. Carlini and D. Wagner, Obfuscated gradients give a false sense of
security, ICML 2018, https://arxiv.org/abs/1802.00420; N. Carlini et al., On evaluating adversarial
robustness, 2019, https://arxiv.org/abs/1902.06705 (the checks). Deviations: the budgets are ours.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.models.ops import philox
from harness.models.registry import unknown
from harness.suites.attacks.apgd import apgd_ce, apgd_t
from harness.suites.attacks.balls import NORMS, Ball
from harness.suites.attacks.contract import check
from harness.suites.attacks.ensembles import CLEAN, Outcome, right
from harness.suites.attacks.gradient_sign import fgsm, pgd
from harness.suites.attacks.problem import Classifier, ask
from harness.suites.attacks.square import square
from harness.suites.attacks.subjects import DRAWS

Flags = dict[str, Tensor]  # (N,), bool
NOISES, REPEATS = 10, 5
MORE = 5  # times the iterations
ATTACKED = ("noise", "fgsm", "pgd", "apgd_ce", "apgd_t", "more", "square", "huge")
SCALED = 1e-4  # difference of logits of length 1 that counts
TARGETED = 4  # fewest classes of the targeted loss


def keys_of(images: Tensor, indices: Tensor | None) -> Tensor:
    """Return the indices, by default 0..N-1, on the device of the images."""
    keys = torch.arange(len(images)) if indices is None else indices
    return keys.to(images.device)


def moves(
    images: Tensor, keys: Tensor, ball: Ball, seed: int, purpose: str, draw: int = 0
) -> Tensor:
    """Return random moves of size 1: corners of the ball, or directions uniform on the sphere."""
    level = NORMS.index(ball.norm)
    random = philox.normal(images.shape, seed, f"belief:{purpose}", level, keys, draw)
    return ball.direction(random.to(images))


def randomness(subject: Classifier, images: Tensor, *, indices: Tensor | None = None) -> Flags:
    """Check whether five calls give the same: changes, differs."""
    keys = keys_of(images, indices)
    with torch.no_grad():
        outputs = [ask(subject, images, keys) for _ in range(REPEATS)]
    first, *others = [z / z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in outputs]
    far = torch.stack([(z - first).norm(dim=1) > SCALED for z in others]).any(0)
    changes = torch.stack([z.argmax(1) != outputs[0].argmax(1) for z in outputs[1:]]).any(0)
    return {"changes": changes, "differs": far}


def attacked(
    subject: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    iterations: int = 20,
    queries: int = 500,
    draws: int = 1,
    verdicts: int = 1,
    names: Sequence[str] = ATTACKED,
) -> Flags:
    """Return which images are classified correctly, clean and after each attack; see above.

    An attack with gradients cannot work where logits carry none: its images stay as they are.

    Args:
        iterations: Number of steps of the attacks that follow gradients.
        queries: Number of proposals of `square`, which sees logits only.
        draws: Number of forward passes behind each gradient of APGD, for a random model.
        verdicts: Number of fresh forward passes that decide by majority whether an image is right,
            for a random model, at least `draws`. With one, what luck broke counts as broken.
        names: Attacks to run, of ATTACKED; those of an ensemble that ran need not run again. There
            is no `apgd_t` with fewer than four classes.

    Raises:
        LookupError: There is no such attack.
    """
    check(images, labels, eps, norm, indices)
    for name in names:
        if name not in ATTACKED:
            raise unknown("attack", name, ATTACKED)
    keys, ball = keys_of(images, indices), Ball(eps, norm)
    judge = partial(right, subject, labels=labels, draws=max(draws, verdicts), indices=keys)
    with torch.enable_grad():
        probe = ask(subject, images.detach().clone().requires_grad_(), keys)
    found = {"clean": judge(images)}
    if "noise" in names:
        found["noise"] = found["clean"].clone()
        for draw in range(NOISES):
            way = moves(images, keys, ball, seed, "noise", draw)
            found["noise"] &= judge(ball.project(images + eps * way, images))
    common: dict[str, Any] = {"norm": norm, "indices": keys, "seed": seed}
    steps: dict[str, Any] = {"iterations": iterations, "draws": draws}
    runs = {
        "fgsm": partial(fgsm, eps=eps),
        "pgd": partial(pgd, eps=eps, iterations=iterations),
        "apgd_ce": partial(apgd_ce, eps=eps, **steps),
        "apgd_t": partial(apgd_t, eps=eps, targets=3, **steps),
        "more": partial(apgd_ce, eps=eps, iterations=MORE * iterations, draws=draws),
        "square": partial(square, eps=eps, queries=queries),
        "huge": partial(apgd_ce, eps=huge(images, norm), **steps),
    }
    for name, run in runs.items():
        if name not in names or (name == "apgd_t" and probe.shape[1] < TARGETED):
            continue
        blind = name != "square" and not probe.requires_grad
        points = images if blind else run(subject, images, labels, **common)
        found[name] = found["clean"] & judge(points)
    return found


def of_ensemble(outcome: Outcome) -> Flags:
    """Return the same of an ensemble that ran: clean, and each of its attacks by name.

    An image that an attack did not get, since one before broke it, counts as right after it.
    """
    clean = outcome.by != CLEAN
    return {"clean": clean, **{name: clean & ~hit for name, hit in outcome.hits.items()}}


def huge(images: Tensor, norm: str) -> float:
    """Return the radius at which every image can be made the gray one of 1/2."""
    return 0.5 if norm == "linf" else 0.5 * math.sqrt(images[0].numel())


def transferred(
    subject: Classifier,
    other: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    iterations: int = 20,
    draws: int = 1,
) -> Tensor:
    """Return which images are classified correctly after an attack on another model, (N,).

    The other model is attacked by APGD-CE to the end, not to the first point that is misclassified,
    which would hardly transfer; images that it misclassifies itself stay as they are.

    Args:
        other: Model that images are made on, such as the matched null of the same seed.
        draws: Number of forward passes behind each verdict, for a random model.
    """
    keys = keys_of(images, indices)
    # Two draws keep every image to the last iteration; the point of the largest loss is returned.
    points = apgd_ce(
        other, images, labels, eps=eps, norm=norm, indices=keys, seed=seed,
        iterations=iterations, draws=2,
    )  # fmt: skip
    clean = right(subject, images, labels, draws, keys)
    return clean & right(subject, points, labels, draws, keys)


def expected(
    fresh: Classifier,
    fixed: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    iterations: int = 20,
) -> Flags:
    """Attack a random model by its expected gradients, and with its randomness fixed.

    Args:
        fresh: Model with a new draw in every call: `Drawn(model, seed)`, or the model itself if it
            draws from torch's generator.
        fixed: The same model with one draw in all calls: `Drawn(model, seed, fixed=0)`, or
            `Seeded(model, seed)`.

    Returns:
        `eot`: classified correctly in most of 20 fresh draws after APGD-CE with gradients over 20
        draws; `fixed`: the same of one draw, attacked and judged.
    """
    keys, found = keys_of(images, indices), {}
    for name, subject, draws in (("eot", fresh, DRAWS), ("fixed", fixed, 1)):
        points = apgd_ce(
            subject, images, labels, eps=eps, norm=norm, indices=keys, seed=seed,
            iterations=iterations, draws=draws,
        )  # fmt: skip
        clean = right(subject, images, labels, draws, keys)
        found[name] = clean & right(subject, points, labels, draws, keys)
    return found
