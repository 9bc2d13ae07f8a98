"""Accuracy against what a solver costs, and whether hard images cost more.

For a model with a solver: accuracy, NLL, seconds and evaluations of every image under fixed solvers
of 1 to 16 steps and adaptive ones of tolerances 1e-1 to 1e-6. The solver that it was trained with
does not matter here (`trained_with` marks it); a network that is only right with its own is no
differential equation. Other models have one cell, `depth`.

Three axes say what an answer costs:

    nfe           evaluations of f in the solver alone, as papers count them; of models with one
    evaluations   residual functions evaluated anywhere in the network: a block counts once, one
                  with `applications` as often as that, a solver by its evaluations
    macs          multiply-adds of the whole network: those of all but the solver, and for each
                  evaluation those of one more; counted by running it with one and with two steps

so that networks with and without a solver stand on the last two alike. Where several blocks have
solvers, an evaluation costs their mean.

Whether hard images cost more is answered by Goodman and Kruskal's gamma of an image's evaluations
with minus its margin (the probability of its class less the largest other) and, where every sixth
image has noise of severity 0 to 5, with the severity, which does not depend on the network; beside
them the same for evaluations dealt to other images, the AUROC of evaluations for errors, and the
largest share of images with equal evaluations (see `harness.suites.ranks`).

Not measured: evaluations of the backward pass; wall time of other batch sizes than the one used;
the difficulty of an image in the eyes of other networks, which a study takes from theirs.
"""

import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.models.ops.solvers import Solver, solver
from harness.suites.base import Arrays, Batch, Cell, Measurement, Setting, Subject, Suite, Tensors
from harness.suites.catalog import SEVERITIES, SUITES
from harness.suites.corruptions.noise import gaussian_noise
from harness.suites.metric import variant
from harness.suites.metrics import ACCURACY, NLL, hits
from harness.suites.nfe_metrics import (
    EVALUATIONS,
    MACS,
    NFE,
    NFE_AUROC,
    NFE_GAMMA,
    NFE_TIE,
    SECONDS,
    STOPPED,
    TRAINED_WITH,
)
from harness.suites.observe import logits
from harness.suites.ranks import auroc_by_image, gamma_by_image, interval, largest_tie
from harness.suites.robustness import constants_of

FIXED = ("euler", "midpoint", "heun", "rk4")
STEPS = (1, 2, 4, 8, 16)
# Tolerances of adaptive solvers. The lower the order, the more evaluations depend on the image.
ADAPTIVE = {
    "heun_euler": (1e-1, 1e-2, 1e-3, 1e-4),
    "bosh3": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    "dopri5": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
}
MIXED = "gaussian_noise 0-5"  # the severity of an image is its position modulo 6
BUDGET = 1000  # evaluations


@dataclass(frozen=True)
class Solved(Cell):
    """A condition under which a model's equation is solved by `solver`; None keeps the model's."""

    solver: Solver | None = None


def mix_severities(images: Tensor, indices: Tensor, seed: int, constants: str) -> Tensor:
    """Give image i Gaussian noise of severity i modulo 6; severity 0 leaves it as it is."""
    severity = indices % (len(SEVERITIES) + 1)
    out = images.clone()
    for s in SEVERITIES:
        rows = (severity == s).nonzero()[:, 0]
        if len(rows):
            out[rows] = gaussian_noise(images[rows], indices[rows], seed, s, constants)
    return out


def cells(setting: Setting) -> tuple[Solved, ...]:
    if "solver" not in setting.can:
        return (Solved("depth", 0),)
    found = [
        Solved(name, steps, solver=solver(name, num_steps=steps))
        for name in FIXED
        for steps in STEPS
    ]
    for name, tolerances in ADAPTIVE.items():
        for tol in tolerances:
            adaptive = solver(name, rtol=tol, atol=tol, max_nfe=BUDGET)
            found.append(Solved(name, tol, solver=adaptive))
    constants = constants_of(setting)
    prepare = partial(mix_severities, constants=constants)
    for name in ("heun_euler", "dopri5"):
        adaptive = solver(name, rtol=1e-3, atol=1e-3, max_nfe=BUDGET)
        mixed = f"{name}, {MIXED}"
        found.append(Solved(mixed, 1e-3, prepare, {"constants": constants}, adaptive))
    return tuple(found)


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of an image: `rest` + its NFE times `evaluation`."""

    rest: float
    evaluation: float = 0.0


_COSTS: weakref.WeakKeyDictionary[nn.Module, dict[torch.Size, Cost]] = weakref.WeakKeyDictionary()


def cost_of(subject: Subject, batch: Batch, cell: Solved) -> Cost:
    """Return what a model costs, counted on the first batch of a size."""
    model, size = subject.model, batch.images.shape[1:]
    known = _COSTS.setdefault(model, {})
    if size not in known:
        if cell.solver is None:
            known[size] = Cost(multiply_adds(subject, batch))
        else:
            (one, first), (two, second) = (_with_steps(subject, batch, k) for k in (1, 2))
            evaluation = (two - one) / (second - first)
            known[size] = Cost(one - first * evaluation, evaluation)
    return known[size]


def _with_steps(subject: Subject, batch: Batch, steps: int) -> tuple[float, float]:
    """Multiply-adds and evaluations of an image under Euler's method."""
    model: Any = subject.model
    model.solver = solver("euler", num_steps=steps)
    return multiply_adds(subject, batch), float(model.nfe.float().mean())


def multiply_adds(subject: Subject, batch: Batch) -> float:
    """Return the multiply-adds of convolutions and matrix products, for each image of a batch."""
    with FlopCounterMode(display=False) as counter:
        subject(batch)
    return counter.get_total_flops() / 2 / len(batch)


def fixed_evaluations(model: nn.Module) -> int:
    """Return how many residual functions a model evaluates outside of its solvers."""
    solving = [m for m in model.modules() if isinstance(getattr(m, "nfe", None), Tensor)]
    # A network passes on what its blocks count.
    inner = [m for m in solving if not any(n in solving for n in m.modules() if n is not m)]
    if not hasattr(model, "blocks"):
        return 0 if inner else 1
    inside = {part for m in inner for part in m.modules()}
    found = 0
    for block in model.blocks().values():  # type: ignore[operator]
        if inside.isdisjoint(block.modules()):
            found += int(getattr(block, "applications", 1))
    return found


def same_setting(one: Solver, other: Solver) -> bool:
    """Return whether two solvers take the same steps; their budgets may differ."""
    names = ("name", "num_steps", "rtol", "atol")
    return all(getattr(one, name, None) == getattr(other, name, None) for name in names)


def observe(subject: Subject, batch: Batch, cell: Solved) -> Tensors:
    """Return what images cost and what the model answers.

    Returns:
        Logits (N, num_classes); evaluations, macs and seconds (N,), the batch's seconds shared out
        evenly; with a solver also nfe (N,), and trained_with where it is that of training.
    """
    model: Any = subject.model
    labels = batch.labels
    own = None if cell.solver is None else model.solver
    try:
        cost = cost_of(subject, batch, cell)
        if own is not None:
            model.solver = cell.solver
        start = time.perf_counter()
        found = dict(logits(subject, batch, cell))
        if batch.images.is_cuda:
            torch.cuda.synchronize(batch.images.device)
        seconds = (time.perf_counter() - start) / max(1, len(batch))
    finally:
        if own is not None:
            model.solver = own
    nfe = torch.zeros_like(labels)
    if own is not None:
        nfe = found["nfe"] = model.nfe.to(labels.device)
        if cell.solver is not None and same_setting(own, cell.solver):
            found["trained_with"] = torch.ones_like(labels, dtype=torch.uint8)
    found["evaluations"] = nfe + fixed_evaluations(model)
    found["macs"] = cost.rest + cost.evaluation * nfe.double()
    found["seconds"] = torch.full(labels.shape, seconds, device=labels.device)
    return found


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return p(label) less the largest other probability, (N,), in [-1, 1]."""
    p = outputs.softmax(dim=1)
    own = p.gather(1, labels[:, None])[:, 0]
    return own - p.scatter(1, labels[:, None], -1.0).amax(dim=1)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    outputs, labels = arrays["logits"], arrays["labels"]
    n = len(labels)
    for metric in (ACCURACY, NLL):
        yield cell.row(metric, metric(outputs, labels), n)
    for metric in (EVALUATIONS, MACS, SECONDS):
        yield cell.row(metric, float(arrays[metric.name].astype(float).mean()), n)
    if TRAINED_WITH.name in arrays:
        yield cell.row(TRAINED_WITH, 1.0, n)
    if NFE.name not in arrays:
        return
    nfe = arrays["nfe"].astype(float)
    yield cell.row(NFE, float(nfe.mean()), n)
    yield cell.row(NFE, float(nfe.min()), n, "fewest")
    yield cell.row(NFE, float(nfe.max()), n, "most")
    yield cell.row(NFE_TIE, largest_tie(nfe), n)
    yield from hard_images(cell, arrays, nfe)


def hard_images(cell: Cell, arrays: Arrays, nfe: np.ndarray) -> Iterator[Measurement]:
    """Measure whether hard images cost more; nothing where evaluations do not vary."""
    outputs, labels, indices = arrays["logits"], arrays["labels"], arrays["indices"]
    # In the precision of the logits: two images that are both certain share a rank.
    z, y = torch.from_numpy(outputs).float(), torch.from_numpy(labels)
    hard = -margins(z, y).numpy()
    # Dealt anew in an order that has nothing to do with the images: what chance gives.
    dealt = nfe[(indices * 2654435761 % 2**32).argsort(kind="stable")]
    pairs = [("margin", nfe, hard), ("dealt margin", dealt, hard)]
    if cell.condition.endswith(MIXED):
        pairs.append(("severity", nfe, indices % (len(SEVERITIES) + 1)))
    telling = len(nfe) * (1 - largest_tie(nfe))
    for name, evaluations, difficulty in pairs:
        values = gamma_by_image(evaluations, difficulty)
        if values is not None:
            for end, value in zip(("", "low", "high"), interval(values, telling), strict=True):
                yield cell.row(NFE_GAMMA, value, len(nfe), variant(name, end))
    wrong = ~hits(outputs, labels)
    values = auroc_by_image(nfe, wrong)
    if values is not None:  # 2 A - 1 lies in [-1, 1]
        telling = min(telling, wrong.sum(), (~wrong).sum())
        for end, value in zip(("", "low", "high"), interval(2 * values - 1, telling), strict=True):
            yield cell.row(NFE_AUROC, (1 + value) / 2, len(nfe), end)


@SUITES.register
def nfe() -> Suite[Solved]:
    """Accuracy against evaluations and multiply-adds, and whether hard images cost more."""
    costs = (NFE, EVALUATIONS, MACS, STOPPED, SECONDS, TRAINED_WITH)
    metrics = (ACCURACY, NLL, *costs, NFE_GAMMA, NFE_AUROC, NFE_TIE)
    return Suite(3, cells, observe=observe, measure=measure, metrics=metrics, inside=True)
