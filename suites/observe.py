"""What the classification suites share: the logits of images, and their scores."""

from collections.abc import Iterator

import torch
from torch import Tensor

from suites.base import Arrays, Cell, Measurement, Subject
from suites.metrics import METRICS


def logits(subject: Subject, images: Tensor, labels: Tensor, cell: Cell) -> Arrays:
    """Return {"logits": (N, num_classes)} for float images (N, 3, H, W) in [0, 1]."""
    return {"logits": subject(images).float()}


def check_finite(arrays: Arrays, cell: Cell) -> None:
    """Refuse `logits` (N, num_classes) that are not finite.

    Raises:
        FloatingPointError: A logit is not finite.
    """
    outputs = arrays["logits"]
    if not torch.isfinite(outputs).all():
        bad = int((~torch.isfinite(outputs)).any(dim=1).sum())
        raise FloatingPointError(
            f"The model's logits are not finite for {bad} of {len(outputs)} images "
            f"under {cell.condition} {cell.level:g}. Train it again, or check its weights."
        )


def classification(cell: Cell, arrays: Arrays) -> Iterator[Measurement]:
    """Measure accuracy, nll, brier and ece of `logits` against `labels`."""
    n = len(arrays["labels"])
    for metric in METRICS:
        value = metric(arrays["logits"], arrays["labels"])
        yield Measurement(cell.condition, cell.level, metric.__name__, value, n)
