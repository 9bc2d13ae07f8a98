"""What the classification suites share: the logits of images, and their scores."""

from collections.abc import Iterator

import numpy as np

from harness.suites.base import Arrays, Batch, Cell, Measurement, Subject, Tensors
from harness.suites.metrics import SCORES, metric_of


def logits(subject: Subject, batch: Batch, cell: Cell) -> Tensors:
    """Return {"logits": (N, num_classes)}."""
    return {"logits": subject(batch)}


def check_finite(arrays: Arrays, cell: Cell) -> None:
    """Refuse `logits` (N, num_classes) that are not finite.

    Raises:
        FloatingPointError: A logit is not finite.
    """
    outputs = arrays["logits"]
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        raise FloatingPointError(
            f"The model's logits are not finite for {int((~finite).sum())} of {len(outputs)} "
            f"images under {cell.condition} {cell.level:g}. Train it again, or check its weights."
        )


def classification(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    """Measure accuracy, nll, brier and ece of `logits` against `labels`."""
    for metric in SCORES:
        value = metric(arrays["logits"], arrays["labels"])
        yield cell.row(metric, value, len(arrays["labels"]))


def means(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    """Measure the mean of every array (N,) of a metric, over the images that have a value."""
    for name, values in arrays.items():
        known = metric_of(name)
        if known is None or values.shape != arrays["labels"].shape:
            continue
        there = values[np.isfinite(values)]
        if len(there):
            yield cell.row(known[0], float(there.astype(float).mean()), len(there), known[1])
