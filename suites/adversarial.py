"""Robust accuracy under adversarial attacks over their size, and how near the nearest image is.

Robust accuracy at eps is the share of images that are classified correctly, clean and at every
point within eps that an attack tried: a bound from above. Conditions are a norm with an attack, at
a level that is eps, in units of 1 / 255 in "linf" and of images in [0, 1] in "l2":

    linf fab_t 0    FAB-T's nearest points, for a whole curve (10 iterations, 4 classes)
    linf apgd_ce 4  what one attack leaves, at that eps, of what all before it left
    linf 4          the minimum over all attacks up to that eps, image by image
    linf distance 0 clean images; the median distance to the nearest misclassified point
    linf certificate 0  radii within which nothing breaks an image, where a bound is known
    linf checks 0   whether gradients are masked, on a quarter of the images
    linf solvers 0  of a network with a solver: attacks through one, tested under another
    linf transfer 0 of images made on other networks, such as the matched null: which break this one

`harness.suites.attack_cells` lists them, `attacks.schedule` says which attacks, in which order. At
8 / 255 (4 / 255 for images above 64 pixels) and at 0.5 in "l2" they are AutoAttack's `standard`
with its whole budgets. Every attack gets the images that are not broken at the same or a smaller
eps, so that curves fall and the number at 8 / 255 is at most AutoAttack's own: what it leaves, less
what was broken on the way.

A point counts if the network misclassifies it among the whole batch again. Distances are those of
points that were found; where none was, the image counts as farther than all others, and one that is
misclassified to begin with has distance 0. A network that draws random numbers is attacked by
gradients that are means over 20 draws, judged by its mean probabilities over 20 others, has no
FAB-T, hence no distances, and one condition more: `linf fixed noise`, in which one draw is all.

The last three say whether the numbers can be believed, by `harness.suites.belief`; which images,
and at which eps, says `attacks.suite_checks`. They are made in the maximum norm: what they find is
of the network, and holds for both norms.

Reference: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020, https://arxiv.org/abs/2003.01690; F. Croce and M. Hein,
Minimally distorted adversarial examples with a fast adaptive boundary attack, ICML 2020,
https://arxiv.org/abs/1907.02044.

Not measured: networks whose answers depend on their batch;
unbounded, patch or semantic attacks.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.suites.adversarial_metrics import (
    ATTACK_SUCCESS,
    BELIEF,
    CERTIFIED,
    CHECKED_EPS,
    CHECKED_LEFT,
    GAP,
    MINIMAL_DISTANCE,
    ROBUST_ACCURACY,
    SOLVED,
    TRANSFER,
)
from harness.suites.attack_cells import AttackCell, cells, variant
from harness.suites.attacks import suite_checks
from harness.suites.attacks.authors import authors
from harness.suites.attacks.balls import Ball
from harness.suites.attacks.ensembles import ATTACKS, check_found
from harness.suites.attacks.problem import is_right
from harness.suites.attacks.subjects import OF_VERDICTS, Drawn, mean_over_draws
from harness.suites.base import Arrays, Batch, Cell, Measurement, Subject, Suite, Tensors
from harness.suites.belief import by_image, transfer_from
from harness.suites.catalog import SUITES
from harness.suites.metric import array_name
from harness.suites.metric import variant as joined
from harness.suites.metrics import SCORES, metric_of
from harness.suites.observe import classification, logits
from harness.suites.radii import GRIDS, certificate_of, distance_of
from harness.suites.ranks import median_interval

AT_A_TIME = 100 * 32**2  # pixels
RADIUS, DISTANCE = "radius", "distance"  # arrays; the latter where it is searched for
CERTIFICATE = "certificate"  # array: certified radii, NaN where no bound is known


def observe(subject: Subject, batch: Batch, cell: AttackCell) -> Tensors:
    """Return what an attack leaves of a batch.

    Returns:
        `radius` (N,), float32, the least size of a change that is known to break an image, in units
        of images: 0 for one misclassified clean, infinite where none is known; `robust_accuracy`
        (N,), 0 or 1, whether it exceeds eps; of an attack `attack_success` (N,), 0 or 1, NaN for
        images that it was not given; `distance`, the radius once more, where FAB-T has looked for
        it. Of the clean images their logits (N, num_classes).
    """
    if not cell.norm:
        return logits(subject, batch, cell)
    if cell.asks == "certificate":
        with torch.enable_grad(), _frozen(subject.model):
            model: Any = subject.model
            known = suite_checks.certified(model, batch.images, batch.labels, cell.norm)
        return {CERTIFICATE: known}
    if cell.asks:
        return _believed(subject, batch, cell)
    before = batch.earlier[cell.after[0]]
    radius = before[RADIUS] if RADIUS in before else _of_clean(before["logits"], batch.labels)
    found: dict[str, Tensor] = {}
    if cell.entry is not None:
        radius, success = _attacked(subject, batch, cell, radius)
        found[array_name(ATTACK_SUCCESS)] = success
    if DISTANCE in before or (cell.entry is not None and cell.entry.settings.get("nearest")):
        found[DISTANCE] = radius
    if (at := (certificate_of(cell.norm), 0.0)) in batch.earlier:
        known = batch.earlier[at][CERTIFICATE]
        found[array_name(CERTIFIED)] = torch.where(
            known.isnan(), known, (known >= cell.eps).float()
        )
    return found | {
        RADIUS: radius,
        array_name(ROBUST_ACCURACY): (radius > cell.eps).to(torch.uint8),
    }


def _believed(subject: Subject, batch: Batch, cell: AttackCell) -> Tensors:
    """The checks of a batch, (N,), float32, under names of metrics; NaN of other images."""
    grid, norm = GRIDS[cell.norm], cell.norm
    left = {
        lv: float(batch.whole[norm, lv][array_name(ROBUST_ACCURACY)].double().mean())
        for lv in cell.levels
    }
    level = suite_checks.checked_level(left)
    eps = level * grid.unit
    asked = suite_checks.spread(batch.indices).to(batch.images.device)
    rows = asked.nonzero()[:, 0] if asked.any() else torch.arange(1, device=asked.device)
    images, labels = batch.images[rows], batch.labels[rows]
    where: dict[str, Any] = {
        "eps": eps, "norm": norm, "indices": batch.indices.to(rows.device)[rows],
        "seed": subject.seed,
    }  # fmt: skip
    held = batch.earlier[cell.levels[level]][RADIUS][rows] > eps
    with _frozen(subject.model):
        if cell.asks == "solvers":
            flags = suite_checks.solver_checks(subject.model, images, labels, **where)
        elif cell.asks == "transfer":
            flags = suite_checks.transfers(
                subject.model, cell.surrogates, images, labels, held, random=cell.random, **where
            )
        else:
            flags = suite_checks.checks(
                subject.model, images, labels, held, random=cell.random, **where
            )
    found = {name: flag.cpu().numpy() for name, flag in flags.items()}
    values = by_image(found)
    made = {name: values[name] for name in (m.name for m in (*BELIEF, GAP)) if name in values}
    if cell.asks == "solvers":
        for name, flag in found.items():
            made[array_name(SOLVED, joined(*name.split(" -> ")))] = flag
    elif cell.asks == "transfer":
        for one in cell.surrogates:
            made[array_name(TRANSFER, one.name)] = (
                found["apgd_ce"] & ~found[transfer_from(one.name)]
            )
    else:
        known = batch.earlier[certificate_of(norm), 0.0][CERTIFICATE][rows].cpu().numpy()
        all_left = (batch.earlier[norm, level][RADIUS][rows] > eps).cpu().numpy()
        below = np.where(np.isnan(known), np.nan, (known >= eps) & ~all_left)
        made["below_bound"], made[CHECKED_LEFT.name] = below, all_left
    made[CHECKED_EPS.name] = np.full(len(rows), level)
    whole: dict[str, Tensor] = {}
    for name, value in made.items():
        whole[name] = torch.full(asked.shape, torch.nan, device=asked.device)
        whole[name][rows] = torch.tensor(value, dtype=torch.float32, device=rows.device)
        whole[name] = torch.where(asked, whole[name], torch.nan)
    return whole


def _of_clean(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.where(is_right(outputs, labels), math.inf, 0.0)


def _attacked(
    subject: Subject, batch: Batch, cell: AttackCell, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """The radii after an attack, and which images it broke."""
    assert cell.entry is not None
    entry, ball = cell.entry, Ball(cell.eps, cell.norm)
    attack = ATTACKS[entry.attack] if cell.source == "harness" else authors(entry.attack)
    alive = radius > 0 if entry.settings.get("nearest") else radius > cell.eps
    points, rows = batch.images.clone(), alive.nonzero()[:, 0]
    with _frozen(subject.model):
        for part in rows.split(_at_a_time(batch.images)):
            points[part] = attack(
                _classifier(subject, cell),
                batch.images[part],
                batch.labels[part],
                eps=cell.eps,
                norm=cell.norm,
                indices=batch.indices.to(part.device)[part],
                seed=subject.seed,
                **entry.settings,
            )
            check_found(points[part], batch.images[part], ball, entry.attack)
    # Among the whole batch: sums in another order round otherwise.
    outputs = _judge(subject, Batch(points, batch.labels, batch.indices), cell)
    broken = alive & ~is_right(outputs, batch.labels)
    size = ball.size(points - batch.images).clamp_max(cell.eps)
    success = torch.where(alive, broken.float(), math.nan)
    return torch.where(broken, torch.minimum(radius, size), radius), success


def _at_a_time(images: Tensor) -> int:
    """How many images are attacked together: on a CPU as many as its caches like."""
    if images.device.type != "cpu":
        return len(images)
    return max(8, AT_A_TIME // (images.shape[2] * images.shape[3]))


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients of weights meanwhile."""
    learned = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _classifier(subject: Subject, cell: AttackCell) -> Any:
    """The network as attacks see it, in float32; of a random one every call is another draw."""
    model: Any = subject.model
    if getattr(model, "stochastic", False):
        return Drawn(model, subject.seed, fixed=0 if cell.fixed else None)
    return model


def _judge(subject: Subject, batch: Batch, cell: AttackCell) -> Tensor:
    """Logits of attacked images, by which they are judged."""
    model: Any = subject.model
    if cell.fixed:
        return model.sample(batch.images, batch.indices, subject.seed, 0).float()
    if cell.entry is None or cell.entry.draws == 1:
        return subject(batch)

    def one(draw: int) -> Tensor:
        if not getattr(model, "stochastic", False):
            return subject(batch)
        return model.sample(batch.images, batch.indices, subject.seed, OF_VERDICTS + draw)

    return mean_over_draws(one)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    if "logits" in arrays:
        yield from classification(cell, arrays)
        return
    for name, values in arrays.items():
        metric, kind = metric_of(name) or (None, "")
        if metric is None or metric.name not in OBSERVED:
            continue
        there = values[np.isfinite(values)].astype(float)
        if len(there):
            yield cell.row(metric, float(there.mean()), len(there), kind)
    if cell.condition in map(distance_of, GRIDS) and DISTANCE in arrays:
        ends = median_interval(arrays[DISTANCE].astype(float))
        for end, value in zip(("", "low", "high"), ends, strict=True):
            if math.isfinite(value):
                yield cell.row(MINIMAL_DISTANCE, value, len(arrays[DISTANCE]), end)


OBSERVED = {
    metric.name
    for metric in (
        ROBUST_ACCURACY,
        ATTACK_SUCCESS,
        CERTIFIED,
        CHECKED_EPS,
        CHECKED_LEFT,
        SOLVED,
        GAP,
        *BELIEF,
    )
}


@SUITES.register
def adversarial() -> Suite[AttackCell]:
    """Robust accuracy under AutoAttack and over the size of attacks, and the median distance."""
    metrics = (
        *SCORES, ROBUST_ACCURACY, ATTACK_SUCCESS, MINIMAL_DISTANCE, CERTIFIED, CHECKED_EPS,
        CHECKED_LEFT, GAP, *BELIEF, SOLVED,
    )  # fmt: skip
    return Suite(
        2, cells, observe, measure, metrics=metrics, gradients=True, batches=4, variant=variant
    )
