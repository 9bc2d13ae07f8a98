"""One model under one condition: what is observed of every image, in batches, on a device."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.folding import folded
from suites.base import Calibrate, Cell, Suite
from suites.datasets import Split, as_input
from suites.observe import check_finite


def chosen(count: int, limit: int) -> Tensor:
    """Return the positions of `limit` images spread evenly over `count`, or of all for 0."""
    if limit == 0 or limit >= count:
        return torch.arange(count)
    return torch.arange(limit) * count // limit


def batch_size_for(device: torch.device, image_size: int) -> int:
    """Return how many images to ask at a time, which changes no number.

    On a CPU few, whose maps stay in the cache: at 32 pixels and width 16 a hundred were faster than
    500. On a GPU many, so that starting its kernels takes no time: a thousand of 32 pixels.
    """
    return 100 if device.type == "cpu" else min(2000, max(50, 2**20 // image_size**2))


DRAWS = 8  # of a model that is random in evaluation


def dtype_for(suite: Suite, dtype: str) -> str:
    """Return the type of arithmetic of `suite` where `dtype` is asked for."""
    return "float32" if suite.inside else dtype


@contextlib.contextmanager
def folding(suite: Suite, subject: "Observed", split: Split) -> Iterator[None]:
    """Make a model fast for one suite: fold its batch norms, where nothing looks at them.

    A network of draws is asked by another way than its forward pass, and one that compares images
    jumps between near neighbours by rounding: these stay as they are.
    """
    model = subject.model
    if suite.inside or any(getattr(model, k, False) for k in ("stochastic", "transductive")):
        yield
        return
    with folded(model, as_input(split.images[:8].to(subject.device))):
        yield


class Observed:
    """A model as a function of images, in evaluation mode, with arithmetic in `dtype`.

    What a model is by its structure decides how it is asked: a stochastic one gives the logarithm
    of its mean probabilities over `DRAWS` draws, keyed by the images' positions.

    Args:
        seed: Of those draws.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, dtype: str = "float32", seed: int = 0
    ) -> None:
        self.model = model.eval().to(device, memory_format=torch.channels_last)
        self.device, self.dtype, self.seed = device, dtype, seed
        self.indices = torch.arange(0)  # positions of the images of the next call
        self.calibration: Mapping[str, Tensor] = {}  # what the suite found beforehand
        if device.type == "cuda" and dtype == "float32":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            model: Any = self.model
            if not getattr(model, "stochastic", False):
                return model(images)
            mean = torch.stack(
                [
                    model.sample(images, self.indices, self.seed, draw).float().log_softmax(dim=1)
                    for draw in range(DRAWS)
                ]
            )
            return mean.logsumexp(dim=0) - math.log(DRAWS)


CALIBRATION = 1000  # training images, spread evenly


def calibrate(find: Calibrate, subject: Observed, split: Split, device: torch.device) -> None:
    """Let a suite find what it needs to know of a model beforehand, from training images."""
    with torch.inference_mode():
        images = split.images[chosen(len(split), CALIBRATION)].to(device)
        subject.calibration = find(subject, as_input(images))


def observe(
    suite: Suite,
    cell: Cell,
    subject: Observed,
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
        `indices` and `labels` (N,), and the suite's own arrays, ordered by name as they are stored:
        rows of results must not tell whether they were measured or read.

    Raises:
        FloatingPointError: The model gave something that is not a number.
    """
    indices, split = chosen(len(split), limit), split.to(device)
    parts: list[dict[str, Tensor]] = []
    # Which images a transductive model sees together is part of what it is.
    batch_size = getattr(subject.model, "graph_batch", batch_size)
    with torch.inference_mode():
        for part in indices.split(batch_size):
            subject.indices = part
            where = part.to(device)
            prepared = as_input(cell.prepare(split.images[where], where, seed))
            parts.append(dict(suite.observe(subject, prepared, split.labels[where], cell)))
            advance(len(part))
        arrays = {k: torch.cat([p[k] for p in parts]).cpu() for k in parts[0]}
    arrays = {"indices": indices, "labels": split.labels.cpu()[indices], **arrays}
    if "logits" in arrays:
        check_finite(arrays, cell)
    return dict(sorted(arrays.items()))
