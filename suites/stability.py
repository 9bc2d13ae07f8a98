"""How a small change of the image grows with depth, and how a gradient falls on its way back.

    growth           |h_l(x + d) - h_l(x)| / |h_l(x)| over |d| / |x|, behind every block l
    gradient_norm    |d loss / d h_l|
    spectral_norm    sigma_max(J) of each block's derivative
    spectral_radius  max |lambda(J)|, of blocks that keep the shape of their input
    log_norm         lambda_max((J + J^T) / 2) - 1 of those: <= 0 where x_t = f(x) - x contracts
    step_ratio       step size over its stability limit, of blocks that say so

The change d is a random direction, the same for an image whatever is evaluated with it, or that of
the gradient of the loss, the worst to first order; its length is a share of that of the image. The
changed image may leave [0, 1]: it is a question about the map, not an image. Growth and gradients
are averaged as log10, which is the geometric mean, along with the tenth and ninetieth percentiles
of images. The derivatives of blocks are those of every fiftieth image of the data set.

A model that is random in evaluation answers without its noise here.

Reference: E. Haber and L. Ruthotto, Stable architectures for deep neural networks, Inverse Problems
34, 2018, https://arxiv.org/abs/1705.03341 (growth and the eigenvalues of J); I. J. Goodfellow et
al., Explaining and Harnessing Adversarial Examples, ICLR 2015 (the gradient's direction).

Not measured: certified bounds; how accuracy falls under attacks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.models.ops import philox
from harness.suites.base import (
    Arrays,
    Batch,
    Cell,
    Measurement,
    Setting,
    Subject,
    Suite,
    Tensors,
)
from harness.suites.catalog import SUITES
from harness.suites.jacobian import Linear, log_norm, spectral_norm, spectral_radius
from harness.suites.metric import array_name, variant
from harness.suites.metrics import SCORES, metric_of
from harness.suites.observe import classification, means
from harness.suites.stability_metrics import (
    GRADIENT_NORM,
    GROWTH,
    LOG_NORM,
    SPECTRAL_NORM,
    SPECTRAL_RADIUS,
    STEP_RATIO,
)

RANDOM, GRADIENT = "random direction", "gradient direction"
LENGTHS = (1e-3, 1e-2, 1e-1)  # of the change, over that of the image
EVERY = 50  # images whose derivatives are looked at


def cells(setting: Setting) -> tuple[Cell, ...]:
    if "blocks" not in setting.can:
        raise ValueError(
            "The suite `stability` needs a model with `blocks`, whose depth can be looked into. "
            "Choose one of the registry, or give yours `blocks`."
        )
    changed = [Cell(kind, length) for kind in (RANDOM, GRADIENT) for length in LENGTHS]
    return (Cell("clean"), *changed)


@contextmanager
def watch(blocks: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Collect (input, output) of each block of the next call, in the order of evaluation."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            seen[name] = (inputs[0], output)

        return hook

    handles = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def evaluate(subject: Subject, images: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Return logits without noise, and the input and output of each block."""
    blocks = subject.model.blocks()  # type: ignore[operator]
    with watch(blocks) as seen, subject.arithmetic():
        return subject.model(images).float(), seen


def length(x: Tensor) -> Tensor:
    """Return |x| of each sample, (N,)."""
    return x.flatten(1).double().norm(dim=1)


def direction(subject: Subject, batch: Batch, cell: Cell) -> Tensor:
    """Return the change d (N, 3, H, W) of a cell, |d| = level |x|."""
    images = batch.images
    if cell.condition == RANDOM:
        # No draw depends on the length: the same direction at each of them.
        d = philox.normal(images.shape, subject.seed, "stability", 0, batch.indices).to(images)
    else:
        with torch.inference_mode(False), torch.enable_grad():
            x = images.clone().requires_grad_()
            logits, _ = evaluate(subject, x)
            loss = nn.functional.cross_entropy(logits, batch.labels.clone(), reduction="sum")
            (d,) = torch.autograd.grad(loss, x)
    scale = cell.level * length(images) / length(d).clamp(min=1e-30)
    return d * scale.view(-1, 1, 1, 1).to(d.dtype)


def growth(subject: Subject, batch: Batch, cell: Cell) -> dict[str, Tensor]:
    """Return log10 of the growth behind each block, (N,), and the logits of the changed images."""
    d = direction(subject, batch, cell)
    _, before = evaluate(subject, batch.images)
    outputs, after = evaluate(subject, batch.images + d)
    share = length(d) / length(batch.images)
    found = {"logits": outputs}
    for name, (_, h) in before.items():
        apart = length(after[name][1] - h) / length(h) / share
        found[array_name(GROWTH, name)] = apart.log10().float()
    return found


def gradients(subject: Subject, batch: Batch) -> dict[str, Tensor]:
    """Return log10 of |d loss / d h| behind each block, (N,), and the logits."""
    with torch.inference_mode(False), torch.enable_grad():
        outputs, seen = evaluate(subject, batch.images.clone().requires_grad_())
        loss = nn.functional.cross_entropy(outputs, batch.labels.clone(), reduction="sum")
        found = torch.autograd.grad(loss, [output for _, output in seen.values()])
    made = {"logits": outputs.detach()}
    for name, gradient in zip(seen, found, strict=True):
        made[array_name(GRADIENT_NORM, name)] = length(gradient).log10().float()
    return made


def derivatives(subject: Subject, images: Tensor) -> dict[str, Tensor]:
    """Return spectral norm, spectral radius and logarithmic norm of each block, (N,)."""
    _, seen = evaluate(subject, images)
    found = {}
    for name, block in subject.model.blocks().items():  # type: ignore[operator]
        jacobian = Linear(block, seen[name][0].float())
        sigma = spectral_norm(jacobian)
        found[array_name(SPECTRAL_NORM, name)] = sigma.float()
        if jacobian.square:
            found[array_name(SPECTRAL_RADIUS, name)] = spectral_radius(jacobian).float()
            found[array_name(LOG_NORM, name)] = log_norm(jacobian, sigma).float() - 1
    return found


def step_ratios(blocks: Mapping[str, nn.Module]) -> dict[str, float]:
    """Return the largest share of its limit that a step of a block has, of those that say so."""
    found = {}
    for name, block in blocks.items():
        parts: list[Any] = [part for part in block.modules() if hasattr(part, "step_ratio")]
        ratios = [float(part.step_ratio().max()) for part in parts]
        if ratios:
            found[array_name(STEP_RATIO, name)] = max(ratios)
    return found


def observe(subject: Subject, batch: Batch, cell: Cell) -> Tensors:
    """Return logits, and arrays (N,) under their metrics' names; NaN where it was not evaluated."""
    if cell.condition != "clean":
        return growth(subject, batch, cell)
    images = batch.images
    found = gradients(subject, batch)
    chosen = (batch.indices % EVERY == 0).nonzero()[:, 0].to(images.device)
    # One image where none is chosen, so that every batch has the same arrays.
    some = derivatives(subject, images[chosen] if len(chosen) else images[:1])
    for name, values in some.items():
        whole = torch.full((len(images),), torch.nan, device=images.device)
        whole[chosen] = values[: len(chosen)]
        found[name] = whole
    for name, ratio in step_ratios(subject.model.blocks()).items():  # type: ignore[operator]
        found[name] = torch.full((len(images),), ratio, device=images.device)
    return found


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    yield from classification(cell, arrays)
    yield from means(cell, arrays)
    for name, values in arrays.items():
        known = metric_of(name)
        if known is None or known[0] not in (GROWTH, GRADIENT_NORM):
            continue
        there = values[np.isfinite(values)].astype(float)
        for percent in (10, 90) if len(there) else ():
            value = float(np.quantile(there, percent / 100))
            yield cell.row(known[0], value, len(there), variant(known[1], f"p{percent}"))


@SUITES.register
def stability() -> Suite[Cell]:
    """How a small change of the image grows with depth, and what its blocks' derivatives say."""
    metrics = (*SCORES, GROWTH, GRADIENT_NORM, SPECTRAL_NORM, SPECTRAL_RADIUS, LOG_NORM, STEP_RATIO)
    return Suite(2, cells, observe, measure, metrics=metrics, inside=True)
