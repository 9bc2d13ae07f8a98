"""Accuracy against the number of function evaluations (NFE), and NFE against difficulty.

For a model with a solver: accuracy, NLL, seconds and evaluations of every image under fixed solvers
of 1 to 16 steps and adaptive ones of tolerances 1e-1 to 1e-5. The solver that it was trained with
does not matter here; a network that is only right with its own is no differential equation. For
other models depth, the number of blocks evaluated, plays the part of NFE, so that they stand on
the same axis.

Whether hard images cost more is answered by rank correlation of an image's evaluations with its
loss and with its margin (the probability of its class less the largest other), beside the same for
evaluations dealt to other images, and, where every sixth image has noise of severity 0 to 5, with
the severity. Intervals of Spearman's rho are those of D. G. Bonett and T. A. Wright, Sample size
requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65, 2000.

Not measured: evaluations of the backward pass; wall time of other batch sizes than the one used.
"""

import math
import time
from collections.abc import Iterator
from functools import partial

import torch
from scipy.stats import spearmanr
from torch import Tensor

from models.ops.solvers import solver
from suites.base import SUITES, Arrays, Cell, Measurement, Setting, Suite
from suites.corruptions.noise import gaussian_noise
from suites.metrics import accuracy, nll
from suites.observe import logits
from suites.robustness import SEVERITIES, constants_of

FIXED = ("euler", "midpoint", "heun", "rk4")
STEPS = (1, 2, 4, 8, 16)
ADAPTIVE = ("bosh3", "dopri5")
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
MIXED = "gaussian_noise 0-5"  # the severity of an image is its position modulo 6
BUDGET = 1000  # evaluations


def mixed(images: Tensor, indices: Tensor, seed: int, constants: str) -> Tensor:
    """Give image i Gaussian noise of severity i modulo 6; severity 0 leaves it as it is."""
    severity = indices % (len(SEVERITIES) + 1)
    out = images.clone()
    for s in SEVERITIES:
        rows = (severity == s).nonzero()[:, 0]
        if len(rows):
            out[rows] = gaussian_noise(images[rows], indices[rows], seed, s, constants)
    return out


def cells(setting: Setting) -> tuple[Cell, ...]:
    if "solver" not in setting.can:
        return (Cell("depth", 0),)
    found = [
        Cell(name, steps, how=solver(name, num_steps=steps)) for name in FIXED for steps in STEPS
    ]
    for name in ADAPTIVE:
        for tol in TOLERANCES:
            how = solver(name, rtol=tol, atol=tol, max_nfe=BUDGET)
            found.append(Cell(name, tol, how=how))
    constants = constants_of(setting)
    prepare = partial(mixed, constants=constants)
    how = solver("dopri5", rtol=1e-3, atol=1e-3, max_nfe=BUDGET)
    found.append(Cell(f"dopri5, {MIXED}", 1e-3, prepare, {"constants": constants}, how))
    return tuple(found)


def observe(subject, images: Tensor, labels: Tensor, cell: Cell) -> Arrays:  # type: ignore[no-untyped-def]
    """Return logits (N, num_classes), nfe (N,), and seconds (N,), the batch's shared out evenly."""
    model = subject.model
    if cell.how is None:
        before, depth = None, len(model.blocks()) if hasattr(model, "blocks") else 1
    else:
        before, model.solver = model.solver, cell.how
    try:
        start = time.perf_counter()
        found = dict(logits(subject, images, labels, cell))
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        seconds = (time.perf_counter() - start) / max(1, len(images))
    finally:
        if before is not None:
            model.solver = before
    nfe = model.nfe.to(images.device) if cell.how is not None else None
    found["nfe"] = torch.full_like(labels, depth) if nfe is None else nfe
    found["seconds"] = torch.full(labels.shape, seconds, device=labels.device)
    return found


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return p(label) less the largest other probability, (N,), in [-1, 1]."""
    p = outputs.softmax(dim=1)
    own = p.gather(1, labels[:, None])[:, 0]
    return own - p.scatter(1, labels[:, None], -1.0).amax(dim=1)


def rank_correlation(x: Tensor, y: Tensor) -> tuple[float, float, float] | None:
    """Return Spearman's rho of x and y (N,) with its 95 % interval; None where one is constant."""
    n = len(x)
    if n < 4 or x.unique().numel() < 2 or y.unique().numel() < 2:
        return None
    rho = float(spearmanr(x.numpy(), y.numpy()).statistic)
    if abs(rho) >= 1:
        return rho, rho, rho
    half = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    outputs, labels, nfe = arrays["logits"], arrays["labels"], arrays["nfe"].double()
    n = len(labels)
    for metric in (accuracy, nll):
        yield Measurement(cell.condition, cell.level, metric.__name__, metric(outputs, labels), n)
    for name, value in (
        ("nfe", float(nfe.mean())),
        ("nfe_min", float(nfe.min())),
        ("nfe_max", float(nfe.max())),
        ("seconds", float(arrays["seconds"].double().mean())),
    ):
        yield Measurement(cell.condition, cell.level, name, value, n)
    loss = torch.nn.functional.cross_entropy(outputs.float(), labels, reduction="none")
    # Dealt anew in an order that has nothing to do with the images: what chance gives.
    dealt = nfe[(arrays["indices"] * 2654435761 % 2**32).argsort()]
    pairs = [("loss", nfe, loss), ("margin", nfe, margins(outputs.float(), labels))]
    pairs.append(("loss_dealt", dealt, loss))
    if cell.condition.endswith(MIXED):
        pairs.append(("severity", nfe, arrays["indices"] % (len(SEVERITIES) + 1)))
    for name, x, y in pairs:
        found = rank_correlation(x, y.double())
        for suffix, value in zip(("", "_low", "_high"), found or (), strict=False):
            yield Measurement(cell.condition, cell.level, f"nfe_rho_{name}{suffix}", value, n)


@SUITES.register
def nfe() -> Suite:
    """Accuracy against function evaluations, and what images cost more of them."""
    return Suite(version=1, cells=cells, observe=observe, measure=measure, inside=True)
