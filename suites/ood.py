"""Whether a network's answers tell images of other data sets from those of its own.

A condition is another data set: its test images, in the size of the data set's own. Two scores of
logits are tried, the largest probability and the energy (variants `max softmax` and `energy`), by
AUROC, AUPR and the false positive rate at a true positive rate of 95 %; the data set's own images
are the positive class. At most as many images of the other are compared as of the data set, spread
evenly; `n` counts both. The clean cell has accuracy and calibration.

Reference: D. Hendrycks and K. Gimpel, A Baseline for Detecting Misclassified and
Out-of-Distribution Examples in Neural Networks, ICLR 2017, https://arxiv.org/abs/1610.02136;
W. Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020,
https://arxiv.org/abs/2010.03759.

Not measured: detectors that are fitted to images, or look into the network; images of other data
sets that show the data set's own classes, which are not taken out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

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
from harness.suites.detection import MEASURES, SCORES, scores
from harness.suites.metrics import SCORES as OF_LOGITS
from harness.suites.observe import classification, logits
from harness.suites.ood_metrics import OOD_AUPR, OOD_AUROC, OOD_FPR95
from harness.suites.out_sets import OPTION, OutSet

METRICS = (OOD_AUROC, OOD_AUPR, OOD_FPR95)


@dataclass(frozen=True)
class OutCell(Cell):
    """The images of another data set, None for those of the data set itself."""

    out: OutSet | None = None


def cells(setting: Setting) -> tuple[OutCell, ...]:
    if not setting.out_of_distribution:
        raise ValueError(
            "The suite `ood` compares the data set with others, and none is named. Give one with "
            f"`{OPTION} svhn`, say."
        )
    others = [
        OutCell(out.name, 0, out.prepare, out.constants, out) for out in setting.out_of_distribution
    ]
    return (OutCell("clean"), *others)


def remember(subject: Subject, batch: Batch) -> Tensors:
    return {"logits": subject(batch)}


def observe(subject: Subject, batch: Batch, cell: OutCell) -> Tensors:
    """Return the logits of both images of a place, and where the other's stands in its data set."""
    if cell.out is None:
        return logits(subject, batch, cell)
    assert batch.clean is not None
    outputs = subject(batch)
    if not torch.isfinite(outputs).all():
        raise FloatingPointError(
            f"The model's logits are not finite for images of {cell.condition}. Train it again, or "
            "check its weights."
        )
    return {
        "in_logits": batch.clean["logits"],
        "out_logits": outputs,
        "out_indices": cell.out.positions(batch.indices),
    }


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    if "logits" in arrays:
        yield from classification(cell, arrays)
        return
    for score in SCORES:
        x, y = scores(arrays, score)
        for metric in METRICS:
            value = MEASURES[metric.name][0](x, y)
            yield cell.row(metric, value, len(x) + len(y), score)


@SUITES.register
def ood() -> Suite[OutCell]:
    """Whether confidence and energy tell images of other data sets from those of its own."""
    metrics = (*OF_LOGITS, *METRICS)
    return Suite(1, cells, observe, measure, metrics=metrics, remember=remember)
