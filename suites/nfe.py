"""Accuracy against the number of function evaluations (NFE), and NFE against difficulty.

For a model with a solver: accuracy, NLL, seconds and evaluations of every image under fixed solvers
of 1 to 16 steps and adaptive ones of tolerances 1e-1 to 1e-5. The solver that it was trained with
does not matter here; a network that is only right with its own is no differential equation. For
other models depth, the number of blocks evaluated, plays the part of NFE, so that they stand on
the same axis.

Whether hard images cost more is answered by rank correlation of an image's evaluations with its
loss and with its margin (the probability of its class less the largest other), compared with the
same for evaluations dealt to other images, and, where every sixth image has noise of severity 0 to
5, with the severity. Intervals of Spearman's rho are those of D. G. Bonett and T. A. Wright, Sample
size requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65, 2000.

Not measured: evaluations of the backward pass; wall time of other batch sizes than the one used.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from harness.models.ops.solvers import Solver, solver
from harness.suites.base import Arrays, Batch, Cell, Measurement, Setting, Subject, Suite, Tensors
from harness.suites.catalog import SEVERITIES, SUITES
from harness.suites.corruptions.noise import gaussian_noise
from harness.suites.metrics import ACCURACY, NFE, NFE_RHO, NLL, SECONDS, STOPPED, variant
from harness.suites.observe import logits
from harness.suites.robustness import constants_of

FIXED = ("euler", "midpoint", "heun", "rk4")
STEPS = (1, 2, 4, 8, 16)
ADAPTIVE = ("bosh3", "dopri5")
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
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
    for name in ADAPTIVE:
        for tol in TOLERANCES:
            adaptive = solver(name, rtol=tol, atol=tol, max_nfe=BUDGET)
            found.append(Solved(name, tol, solver=adaptive))
    constants = constants_of(setting)
    prepare = partial(mix_severities, constants=constants)
    adaptive = solver("dopri5", rtol=1e-3, atol=1e-3, max_nfe=BUDGET)
    name = f"dopri5, {MIXED}"
    found.append(Solved(name, 1e-3, prepare, {"constants": constants}, adaptive))
    return tuple(found)


def observe(subject: Subject, batch: Batch, cell: Solved) -> Tensors:
    """Return logits (N, num_classes), nfe (N,), and seconds (N,), the batch's shared out evenly."""
    model: Any = subject.model
    labels = batch.labels
    if cell.solver is None:
        before, depth = None, len(model.blocks()) if hasattr(model, "blocks") else 1
    else:
        before, model.solver = model.solver, cell.solver
    try:
        start = time.perf_counter()
        found = dict(logits(subject, batch, cell))
        if batch.images.is_cuda:
            torch.cuda.synchronize(batch.images.device)
        seconds = (time.perf_counter() - start) / max(1, len(batch))
    finally:
        if before is not None:
            model.solver = before
    nfe = None if cell.solver is None else model.nfe.to(labels.device)
    found["nfe"] = torch.full_like(labels, depth) if nfe is None else nfe
    found["seconds"] = torch.full(labels.shape, seconds, device=labels.device)
    return found


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return p(label) less the largest other probability, (N,), in [-1, 1]."""
    p = outputs.softmax(dim=1)
    own = p.gather(1, labels[:, None])[:, 0]
    return own - p.scatter(1, labels[:, None], -1.0).amax(dim=1)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float] | None:
    """Return Spearman's rho of x and y (N,) with its 95 % interval; None where one is constant."""
    n = len(x)
    if n < 4 or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    rho = float(spearmanr(x, y).statistic)
    if abs(rho) >= 1:
        return rho, rho, rho
    half = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    outputs, labels = arrays["logits"], arrays["labels"]
    nfe, n = arrays["nfe"].astype(float), len(arrays["labels"])
    for metric in (ACCURACY, NLL):
        yield cell.row(metric, metric(outputs, labels), n)
    yield cell.row(NFE, float(nfe.mean()), n)
    yield cell.row(NFE, float(nfe.min()), n, "fewest")
    yield cell.row(NFE, float(nfe.max()), n, "most")
    yield cell.row(SECONDS, float(arrays["seconds"].astype(float).mean()), n)
    # In the precision of the logits: two images that both have no loss to speak of share a rank.
    z, y = torch.from_numpy(outputs).float(), torch.from_numpy(labels)
    loss = torch.nn.functional.cross_entropy(z, y, reduction="none").numpy()
    # Dealt anew in an order that has nothing to do with the images: what chance gives.
    dealt = nfe[(arrays["indices"] * 2654435761 % 2**32).argsort(kind="stable")]
    pairs = [("loss", nfe, loss), ("margin", nfe, margins(z, y).numpy())]
    pairs.append(("dealt loss", dealt, loss))
    if cell.condition.endswith(MIXED):
        pairs.append(("severity", nfe, arrays["indices"] % (len(SEVERITIES) + 1)))
    for name, evaluations, other in pairs:
        found = rank_correlation(evaluations, other)
        for end, value in zip(("", "low", "high"), found or (), strict=False):
            yield cell.row(NFE_RHO, value, n, variant(name, end))


@SUITES.register
def nfe() -> Suite[Solved]:
    """Accuracy against function evaluations, and what images cost more of them."""
    metrics = (ACCURACY, NLL, NFE, STOPPED, SECONDS, NFE_RHO)
    return Suite(2, cells, observe=observe, measure=measure, metrics=metrics, inside=True)
