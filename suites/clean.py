"""Accuracy and calibration on the untouched test set.

Accuracy, top-5 accuracy, negative log-likelihood, Brier score and expected calibration error over
all test images, and the accuracy on the images of each class (variant `class K`).

Not measured: anything beyond the distribution that the model was trained on.
"""

from collections.abc import Iterator

import numpy as np

from harness.suites.base import Arrays, Cell, Measurement, Setting, Suite
from harness.suites.catalog import SUITES
from harness.suites.metrics import ACCURACY, SCORES, TOP5
from harness.suites.observe import classification, logits


def cells(setting: Setting) -> tuple[Cell, ...]:
    return (Cell("clean"),)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    yield from classification(cell, arrays)
    outputs, labels = arrays["logits"], arrays["labels"]
    if outputs.shape[1] > 5:
        yield cell.row(TOP5, TOP5(outputs, labels), len(labels))
    for k in np.unique(labels).tolist():
        own = labels == k
        value = ACCURACY(outputs[own], labels[own])
        yield cell.row(ACCURACY, value, int(own.sum()), f"class {k}")


@SUITES.register
def clean() -> Suite[Cell]:
    """Accuracy and calibration on the untouched test set."""
    return Suite(1, cells, observe=logits, measure=measure, metrics=(*SCORES, TOP5))
