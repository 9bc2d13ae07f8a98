"""Quality of samples against evaluations of the denoiser, solver by solver.

A model of images gives D(x; sigma), the mean of the clean image, given a noisy one. Samples are
solutions of the probability-flow equation dx/dsigma = (x - D) / sigma from noise, or of the SDE of
the same marginals (`euler_maruyama`), by the solvers of `harness.models.ops.samplers`. A condition
is a solver, its level the number of evaluations (NFE), or the tolerance of an adaptive one, below
1. Sample i belongs to test image i: its noise is that of (image seed, training seed, i), whatever
the solver, and the class that it is asked to be of is that image's. So the test images are the real
sample, with which the others are compared, and each seed has samples of its own, also of a model
that nobody trains.

Two errors are told apart. `path_rms` is that of the solver: the distance of a sample to a fine
solution from the same noise (the condition `fine solution`: RK4 of 80 steps on the same grid); the
SDE has none. All other metrics are of samples as images, clipped to [0, 1], and of the model and
the solver together; that of the fine solution is the model's. They saturate early: judge solvers by
their path error.

Two conditions do not depend on the model. `test images` has the distance of real images to training
images, and the accuracy of the classifier whose features are compared. `training images` are drawn
anew, for each test image one of its class: what a sampler gets that only knows the training set by
heart, and how far two real samples of this size are apart by chance.

Of more than 2,000 images, all pairs of 2,000 enter MMD, precision, recall and the classification
accuracy score, spread evenly. `--limit` takes fewer images, and time.

Reference: T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models,
NeurIPS 2022, https://arxiv.org/abs/2206.00364; the metrics name theirs.

On digits, planted faults show where they should, blur excepted: MMD, sliced W2 and recall see it,
precision does not, and even takes samples near the mean for better than real ones.

Not measured: the likelihood of images; Fréchet distances of Inception features (FID), which needs
that network and 50,000 samples; what people see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.models.ops import philox, samplers
from harness.suites import sample_quality as quality
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
from harness.suites.catalog import SUITES
from harness.suites.datasets import Split, as_input
from harness.suites.generation_metrics import (
    MMD2,
    OF_SAMPLES,
    PATH_RMS,
    PRECISION,
    RECALL,
    SAMPLE_ACCURACY,
    SLICED_W2,
    compared,
)
from harness.suites.image_features import describe, reference_of
from harness.suites.nfe_metrics import NFE
from harness.suites.observe import means

DENOISER = (
    "a model that makes images, with `denoise`. Choose `exact_score`, say, or give yours "
    "`denoise`, `sigma_min` and `sigma_max`."
)
TEST, TRAINING = "test images", "training images"
FINE = "fine solution"
# 80 steps. Of Gaussians 40 are enough, to 1e-6; of the exact score on digits one sample of 355 then
# ends at another training image than by 80 steps, or by 320 of DPM-Solver++(2M).
FINE_METHOD, FINE_NFE = "rk4", 317
SDE = "euler_maruyama"
BUDGETS = {
    **dict.fromkeys(("euler", "heun", "dpmpp_2m"), (5, 6, 7, 9, 10, 15, 20, 40, 80)),
    SDE: (10, 20, 40, 80),
}
TOLERANCES = {"heun_euler": (1e-1, 1e-2), "bosh3": (1e-1, 1e-2, 1e-3)}
OF_TEST: Where = (TEST, 0.0)
OF_FINE: Where = (FINE, float(FINE_NFE))


@dataclass(frozen=True)
class Sampled(Cell):
    """A condition under which samples are made by `method`; "" where none are."""

    method: str = ""
    nfe: int | None = None
    tolerance: float | None = None


def cells(setting: Setting) -> tuple[Sampled, ...]:
    if "denoiser" not in setting.can:
        raise ValueError(f"The suite `generation` needs {DENOISER}")
    seen = {"training": training_of(setting).fingerprint()[:16]}
    found = [
        Sampled(TEST, constants=seen),
        Sampled(TRAINING, constants=seen, after=(OF_TEST,)),
        Sampled(FINE, FINE_NFE, constants=seen, after=(OF_TEST,), method=FINE_METHOD, nfe=FINE_NFE),
    ]
    for method, budgets in BUDGETS.items():
        after = (OF_TEST,) if method == SDE else (OF_TEST, OF_FINE)
        spent = dict.fromkeys(evaluations(method, budget) for budget in budgets)
        found += [
            Sampled(method, n, constants=seen, after=after, method=method, nfe=n) for n in spent
        ]
    for method, tolerances in TOLERANCES.items():
        after = (OF_TEST, OF_FINE)
        found += [
            Sampled(method, tol, constants=seen, after=after, method=method, tolerance=tol)
            for tol in tolerances
        ]
    return tuple(found)


def evaluations(method: str, budget: int) -> int:
    """Return the evaluations that a method spends where it may spend `budget`."""
    steps = samplers.steps_for(method, budget)
    while budget > 1 and samplers.steps_for(method, budget - 1) == steps:
        budget -= 1
    return budget


def training_of(setting: Setting) -> Split:
    """Return the training half, whose images samples are compared with."""
    if setting.training is None:
        raise ValueError(
            "The suite `generation` compares samples with training images, and there are none. "
            "Give `Setting.training`, a function that returns them."
        )
    return setting.training()


_KNOWN: dict[str, dict[str, Tensor]] = {}  # of the last training half alone


def calibrate(setting: Setting) -> Any:
    def find(subject: Subject, images: Tensor) -> Tensors:
        training = training_of(setting)
        name = training.fingerprint()
        if name not in _KNOWN:
            found = reference_of(training)
            _KNOWN.clear()
            _KNOWN[name] = found
        return {key: value.to(images.device) for key, value in _KNOWN[name].items()}

    return find


def observe(subject: Subject, batch: Batch, cell: Sampled) -> Tensors:
    """Return what is known of the sample of each place, and of its real image.

    Returns:
        As of `describe`, and the same of the real image under `real_...`; of samples also `nfe`
        (N,) and, where it is an ordinary equation's, `path_rms` (N,); of the fine solution `images`
        (N, 3, H, W), around [-1, 1].
    """
    known = subject.calibration
    if cell.condition == TEST:
        return describe(batch.images, batch.labels, known)
    found: dict[str, Tensor] = {}
    if cell.condition == TRAINING:
        drawn = draw_training(batch.labels, batch.indices, subject.seed, known["training_labels"])
        images = as_input(known["training"][drawn])
    else:
        made = make_samples(subject, batch, cell)
        images = (made.images / 2 + 0.5).clamp(0, 1)
        found["nfe"] = made.nfe
        if cell.condition == FINE:
            found["images"] = made.images
        elif OF_FINE in cell.after:
            apart = (made.images - batch.earlier[OF_FINE]["images"]).flatten(1) / 2
            found[PATH_RMS.name] = apart.square().mean(1).sqrt()
    real = batch.earlier[OF_TEST]
    found |= {f"real_{name}": real[name] for name in ("features", "projections")}
    return found | describe(images, batch.labels, known)


def make_samples(
    subject: Subject, batch: Batch, cell: Sampled, *, path: bool = False
) -> samplers.Samples:
    """Return the sample of each place, by the solver of a cell.

    Raises:
        FloatingPointError: A sample is not finite.
    """
    model: Any = subject.model
    indices = batch.indices.to(batch.images.device)
    with subject.arithmetic():
        made = samplers.sample(
            model.denoise,
            samplers.noise(indices, tuple(batch.images.shape[1:]), subject.seed),
            method=cell.method,
            nfe=cell.nfe,
            tolerance=cell.tolerance,
            sigma_min=float(model.sigma_min),
            sigma_max=float(model.sigma_max),
            labels=batch.labels,
            path=path,
            seed=subject.seed,
            indices=indices,
        )
    if not torch.isfinite(made.images).all():
        raise FloatingPointError(
            f"Samples of {cell.condition} {cell.level:g} are not finite. Train the model again, or "
            "check its `denoise`."
        )
    return made


def draw_training(labels: Tensor, indices: Tensor, seed: int, known: Tensor) -> Tensor:
    """Return the position of a training image of each label, (N,), drawn anew for each index.

    Args:
        labels: (N,); of one that no training image has, any image is drawn.
        known: (n,), labels of the training images.
    """
    u = philox.uniform((len(labels),), seed, "draws of training images", 0, indices).to(
        labels.device
    )
    order = known.argsort(stable=True)
    counts = torch.bincount(known, minlength=int(labels.max()) + 1)
    first = (counts.cumsum(0) - counts)[labels]
    count = counts[labels]
    first, count = first.where(count > 0, 0), count.where(count > 0, len(known))
    return order[first + (u.double() * count).long().clamp(max=len(known) - 1)]


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    yield from means(cell, arrays)
    n = len(arrays["labels"])
    if PATH_RMS.name in arrays:
        squares = arrays[PATH_RMS.name].astype(float) ** 2
        yield cell.row(PATH_RMS, float(squares.mean() ** 0.5), n, "root mean square")
    if "real_features" not in arrays:
        return
    distance = quality.sliced_wasserstein(arrays["projections"], arrays["real_projections"])
    yield cell.row(SLICED_W2, distance, n)
    for metric in (SAMPLE_ACCURACY, PRECISION, RECALL):
        if metric.of_cell is not None and (found := metric.of_cell(arrays, "")) is not None:
            yield cell.row(metric, float(found[0].mean()), len(found[0]))
    rows = compared(arrays)
    pair = arrays["features"][rows], arrays["real_features"][rows]
    for end, value in zip(("", "low", "high"), quality.mmd2(*pair), strict=True):
        if value == value:
            yield cell.row(MMD2, value, len(rows), end)


@SUITES.register
def generation() -> Suite[Sampled]:
    """Quality of samples against evaluations, solver by solver; error of solvers and of models."""
    metrics = (*OF_SAMPLES, NFE)
    return Suite(
        2,
        cells,
        observe,
        measure,
        metrics=metrics,
        calibrate=calibrate,
        inside=True,
        batches=4,
        draws_by_seed=True,
    )
