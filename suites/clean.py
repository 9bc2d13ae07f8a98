"""Accuracy and calibration on the untouched test set.

Accuracy, top-5 accuracy, negative log-likelihood, Brier score and expected calibration error over
all test images, and the accuracy on the images of each class (`accuracy_class_K`).

Not measured: anything beyond the distribution that the model was trained on.
"""

from collections.abc import Iterator

from suites.base import SUITES, Arrays, Cell, Measurement, Setting, Suite
from suites.metrics import accuracy, top5
from suites.observe import classification, logits


def cells(setting: Setting) -> tuple[Cell, ...]:
    return (Cell("clean"),)


def measure(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    yield from classification(cell, arrays)
    outputs, labels = arrays["logits"], arrays["labels"]
    if outputs.shape[1] > 5:
        yield Measurement("clean", 0, "top5", top5(outputs, labels), len(labels))
    for k in labels.unique().tolist():
        of_class = labels == k
        value = accuracy(outputs[of_class], labels[of_class])
        yield Measurement("clean", 0, f"accuracy_class_{k}", value, int(of_class.sum()))


@SUITES.register
def clean() -> Suite:
    """Accuracy and calibration on the untouched test set."""
    return Suite(version=1, cells=cells, observe=logits, measure=measure)
