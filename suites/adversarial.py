"""Robust accuracy under adversarial attacks over their size, and how near the nearest image is.

Robust accuracy at eps is the share of images that are classified correctly, clean and at every
point within eps that an attack tried: a bound from above. Conditions are a norm with an attack, at
a level that is eps, in units of 1 / 255 in "linf" and of images in [0, 1] in "l2":

    linf fab_t 0    FAB-T's nearest points, for a whole curve (20 iterations, 4 classes)
    linf apgd_ce 4  what one attack leaves, at that eps, of what all before it left
    linf 4          the minimum over all attacks up to that eps, image by image
    linf distance 0 clean images; the median distance to the nearest misclassified point
    linf certificate 0  radii within which nothing breaks an image, where a bound is known
    linf checks 0   whether gradients are masked, on a quarter of the images
    linf solvers 0  of a network with a solver: attacks through one, tested under another

`harness.suites.attacks.schedule` says which attacks, in which order. At 8 / 255 (4 / 255 for images
above 64 pixels) and at 0.5 in "l2" they are AutoAttack's `standard` with its whole budgets. Every
attack gets the images that are not broken at the same or a smaller eps, so that curves fall and the
number at 8 / 255 is at most AutoAttack's own: what it leaves, less what was broken on the way.

A point counts if the network misclassifies it among the whole batch again. Distances are those of
points that were found; where none was, the image counts as farther than all others, and one that is
misclassified to begin with has distance 0. A network that draws random numbers is attacked by
gradients that are means over 20 draws, judged by its mean probabilities over 20 others, has no
FAB-T, hence no distances, and one condition more: `linf fixed noise`, in which one draw is all.

The last two say whether the numbers can be believed, by `harness.suites.belief`; which images, and
at which eps, says `harness.suites.attacks.believing`. They are made in the maximum norm: what they
find is of the network, and holds for both norms.

Reference: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020, https://arxiv.org/abs/2003.01690; F. Croce and M. Hein,
Minimally distorted adversarial examples with a fast adaptive boundary attack, ICML 2020,
https://arxiv.org/abs/1907.02044.

Not measured: images that are made on another network; networks whose answers depend on their batch;
unbounded, patch or semantic attacks.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.models.registry import unknown
from harness.suites.attacks import believing
from harness.suites.attacks.authors import authors, version
from harness.suites.attacks.balls import Ball
from harness.suites.attacks.ensembles import ATTACKS, Entry, check_found
from harness.suites.attacks.problem import is_right
from harness.suites.attacks.random_draws import OF_VERDICTS, Draws, mean_over_draws
from harness.suites.attacks.schedule import NEAREST, rand, short, standard
from harness.suites.base import (
    Arrays,
    Batch,
    Cell,
    Measurement,
    Setting,
    Subject,
    Suite,
    Tensors,
    Where,
)
from harness.suites.belief import by_image
from harness.suites.catalog import SUITES
from harness.suites.metrics import (
    ATTACK_SUCCESS,
    BELIEF,
    CERTIFIED,
    CHECKED_EPS,
    CHECKED_LEFT,
    GAP,
    MINIMAL_DISTANCE,
    ROBUST_ACCURACY,
    SCORES,
    SOLVED,
    array_name,
    metric_of,
)
from harness.suites.metrics import (
    variant as joined,
)
from harness.suites.observe import classification, logits
from harness.suites.radii import GRIDS, certificate_of, checks_of, distance_of, solvers_of

SOURCES = ("harness", "pyautoattack")
CLEAN = ("clean", 0.0)
FIXED = "fixed noise"
CHECKED = "linf"  # the norm whose attacks are checked
AT_A_TIME = 100 * 32**2  # pixels
RADIUS, DISTANCE = "radius", "distance"  # arrays; the latter where it is searched for
CERTIFICATE = "certificate"  # array: certified radii, NaN where no bound is known


@dataclass(frozen=True)
class AttackCell(Cell):
    """A norm and eps with an attack.

    Args:
        norm: "linf" or "l2"; "" for the clean images.
        eps: In units of images in [0, 1].
        entry: The attack; None where what those before it found is only put together.
        source: Whose attack it is.
        fixed: Whether a random network keeps one draw.
        asks: "certificate", "checks" or "solvers" of a cell that makes no attack of the suite.
        levels: Of checks: eps of each level with the cell whose images are left by gradients.
        random: Of checks: whether the network draws random numbers.
    """

    norm: str = ""
    eps: float = 0.0
    entry: Entry | None = None
    source: str = "harness"
    fixed: bool = False
    asks: str = ""
    levels: "Mapping[float, Where]" = field(default_factory=dict)
    random: bool = False


def cells(setting: Setting) -> tuple[AttackCell, ...]:
    if setting.attack_source not in SOURCES:
        raise unknown("source of attacks", setting.attack_source, SOURCES)
    if "transductive" in setting.can:
        raise ValueError(
            "The suite `adversarial` attacks single images, and the answers of this model depend "
            "on the other images of their batch. Choose a model without this."
        )
    if is_random(setting) and setting.attack_source != "harness":
        raise ValueError(
            "The package pyautoattack cannot key a model's random draws by image. Leave out "
            "`--attack-source`."
        )
    if setting.num_classes < 2:
        raise ValueError("One class leaves nothing to attack. Choose a data set of two or more.")
    return (AttackCell(*CLEAN), *(cell for norm in GRIDS for cell in _of_norm(norm, setting)))


def is_random(setting: Setting) -> bool:
    """Return whether the model draws random numbers in evaluation."""
    return not setting.can.isdisjoint({"stochastic", "random"})


def variant(setting: Setting) -> str:
    """Return "[pyautoattack]" where attacks are the authors'."""
    return "" if setting.attack_source == "harness" else f"[{setting.attack_source}]"


def _of_norm(norm: str, setting: Setting) -> Iterator[AttackCell]:
    """The cells of one norm, each after the one before it."""
    grid, random = GRIDS[norm], is_random(setting)
    headline = grid.reported(setting.image_size)
    whole = rand(setting.num_classes) if random else standard(setting.num_classes)
    last = CLEAN

    def cell(entry: Entry | None, level: float, eps: float, fixed: bool = False) -> AttackCell:
        if entry is None:
            condition = norm if level else distance_of(norm)
        else:
            condition = f"{norm} {FIXED if fixed else entry.attack}"
        source = setting.attack_source
        told = _constants(entry, norm, eps, source, last)
        return AttackCell(
            condition, level, constants=told, after=(last, *bounds(level, entry)), norm=norm,
            eps=eps, entry=entry, source=source, fixed=fixed,
        )  # fmt: skip

    def bounds(level: float, entry: Entry | None) -> tuple[Where, ...]:
        return () if entry or not level else ((certificate_of(norm), 0.0),)

    made = [AttackCell(certificate_of(norm), 0, norm=norm, asks="certificate")]
    if not random:
        made.append(cell(NEAREST, 0, grid.farthest))
        last = made[-1].condition, made[-1].level
    for level in grid.levels:
        for entry in whole if level == headline else (short(random),):
            made.append(cell(entry, level, level * grid.unit))
            last = made[-1].condition, made[-1].level
        made.append(cell(None, level, level * grid.unit))
    made.append(cell(None, 0, 0.0))
    yield from made
    if "stochastic" in setting.can:  # its draws have numbers
        last = CLEAN
        fixed = Entry("apgd_ce", {"iterations": 100})
        yield cell(fixed, headline, headline * grid.unit, fixed=True)
    if norm == CHECKED:
        yield from _checks(norm, made, headline, setting)


def _checks(
    norm: str, made: list[AttackCell], headline: float, setting: Setting
) -> Iterator[AttackCell]:
    """The cells that say whether the numbers of a norm can be believed."""
    after: dict[Where, None] = {CLEAN: None, (certificate_of(norm), 0.0): None}
    levels: dict[float, Where] = {}
    for cell in made:
        where = cell.condition, cell.level
        if 0 < cell.level <= headline and (cell.entry is None or cell.entry.attack != "square"):
            if cell.entry is not None:
                levels[cell.level] = where
            after[where] = None
    told = {"norm": norm, "headline": f"{headline:g}"}
    told |= {name.lower(): str(getattr(believing, name)) for name in believing.CONSTANTS}
    asked = [(checks_of(norm), "checks")]
    if "solver" in setting.can:
        asked.append((solvers_of(norm), "solvers"))
    for condition, asks in asked:
        yield AttackCell(
            condition, 0, constants=told, after=tuple(after), norm=norm, eps=headline, asks=asks,
            levels=levels, random=is_random(setting),
        )  # fmt: skip


def _constants(
    entry: Entry | None, norm: str, eps: float, source: str, last: Where
) -> dict[str, str]:
    """All that determines an attack's points but the model and the seed."""
    told = {"norm": norm, "eps": f"{eps!r}", "after": f"{last[0]} {last[1]:g}"}
    if entry is not None:
        told |= {"attack": entry.attack}
        told |= {f"attack {name}": str(value) for name, value in entry.settings.items()}
        told["source"] = source if source == "harness" else version()
    return told


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
            known = believing.certified(model, batch.images, batch.labels, cell.norm)
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
    level = believing.checked_level(grid, cell.eps, left)
    eps = level * grid.unit
    asked = believing.spread(batch.indices).to(batch.images.device)
    rows = asked.nonzero()[:, 0] if asked.any() else torch.arange(1, device=asked.device)
    images, labels = batch.images[rows], batch.labels[rows]
    where: dict[str, Any] = {
        "eps": eps, "norm": norm, "indices": batch.indices.to(rows.device)[rows],
        "seed": subject.seed,
    }  # fmt: skip
    with _frozen(subject.model):
        if cell.asks == "solvers":
            flags = believing.through(subject.model, images, labels, **where)
        else:
            held = batch.earlier[cell.levels[level]][RADIUS][rows] > eps
            flags = believing.checks(
                subject.model, images, labels, held, random=cell.random, **where
            )
    found = {name: flag.cpu().numpy() for name, flag in flags.items()}
    values = by_image(found)
    made = {name: values[name] for name in (m.name for m in (*BELIEF, GAP)) if name in values}
    if cell.asks == "solvers":
        for name, flag in found.items():
            made[array_name(SOLVED, joined(*name.split(" -> ")))] = flag
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
        return Draws(model, subject.seed, fixed=0 if cell.fixed else None)
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
        ends = median(arrays[DISTANCE].astype(float))
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


def median(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median of numbers, of which some may be infinite, and its 95 % interval.

    The interval is between order statistics k and n + 1 - k, k the largest number with
    P(Binomial(n, 1/2) < k) <= 2.5 %; it holds whatever their distribution. Where n < 6 there is
    none, and its ends are the smallest and the largest.
    """
    ordered, n = np.sort(values), len(values)
    k, below = 0, 0.0
    while (below := below + math.exp(_log_choose(n, k) - n * math.log(2))) <= 0.025:
        k += 1
    k = max(k, 1)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return float(middle), float(ordered[k - 1]), float(ordered[n - k])


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


@SUITES.register
def adversarial() -> Suite[AttackCell]:
    """Robust accuracy under AutoAttack and over the size of attacks, and the median distance."""
    metrics = (
        *SCORES, ROBUST_ACCURACY, ATTACK_SUCCESS, MINIMAL_DISTANCE, CERTIFIED, CHECKED_EPS,
        CHECKED_LEFT, GAP, *BELIEF, SOLVED,
    )  # fmt: skip
    return Suite(2, cells, observe, measure, metrics=metrics, gradients=True, variant=variant)
