"""One model under one condition: what is observed of every image, in batches, on a device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from suites.base import Cell, Suite
from suites.datasets import Split


def chosen(count: int, limit: int) -> Tensor:
    """Return the positions of `limit` images spread evenly over `count`, or of all for 0."""
    if limit == 0 or limit >= count:
        return torch.arange(count)
    return torch.arange(limit) * count // limit


def subject_of(model: nn.Module, device: torch.device, dtype: str) -> Callable[[Tensor], Tensor]:
    """Return `model` as a function of images, in evaluation mode, with arithmetic in `dtype`."""
    model = model.eval().to(device, memory_format=torch.channels_last)
    if device.type == "cuda" and dtype == "float32":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

    def subject(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return model(images)

    return subject


def observe(
    suite: Suite,
    cell: Cell,
    subject: Callable[[Tensor], Tensor],
    split: Split,
    *,
    seed: int,
    device: torch.device,
    batch_size: int,
    limit: int = 0,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Tensor]:
    """Return what `suite` observes of `subject` under `cell`, one row an image, on the CPU.

    Args:
        seed: Of the draws on images.
        limit: How many images, 0 for all.
        advance: Told the number of images after each batch.

    Returns:
        `indices` and `labels` (N,), and the suite's own arrays.

    Raises:
        FloatingPointError: The model gave something that is not a number.
    """
    indices = chosen(len(split), limit)
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        for part in indices.split(batch_size):
            images, labels = split.images[part].to(device), split.labels[part].to(device)
            prepared = cell.prepare(images, part.to(device), seed).float() / 255
            prepared = prepared.contiguous(memory_format=torch.channels_last)
            parts.append(dict(suite.observe(subject, prepared, labels, cell)))
            advance(len(part))
        arrays = {k: torch.cat([p[k] for p in parts]).cpu() for k in parts[0]}
    return {"indices": indices, "labels": split.labels[indices], **arrays}
