"""What a model is: the registry of builders, and the capabilities that a suite may ask for.

A builder is a function `(num_classes: int = 10, width: int = 64) -> nn.Module`. The module takes
images (N, 3, H, W), float, in [0, 1], any H = W >= 32, and returns logits (N, num_classes).
Whatever else a model can do it shows by structure, never by its name: the protocols below.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from models.registry import Registry

Builder = Callable[..., nn.Module]
MODELS: Registry[Builder] = Registry("model")

MIN_SIZE = 32  # pixels; four stages of stride 2 leave nothing of a smaller image


@runtime_checkable
class Augmenting(Protocol):
    """A model that changes its training images; the training loop calls it, nobody else."""

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (N, 3, H, W) in [0, 1] for images of the same shape and range.

        Args:
            images: On any device.
            generator: On the CPU, the only source of randomness; so the same draws are made on
                every device.
        """
        ...


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of images (N, 3, H, W), float, in [0, 1], H = W >= 32.

    Raises:
        ValueError: Says what is wrong, and the cure.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"`images` must have shape (N, 3, H, H); got {tuple(images.shape)}. "
            "Expand gray images to three equal channels, crop to squares."
        )
    if images.shape[2] < MIN_SIZE:
        raise ValueError(
            f"`images` must be at least {MIN_SIZE} pixels wide; got {images.shape[2]}. "
            "Resize them first."
        )
    if not images.is_floating_point():
        raise ValueError(f"`images` must be floating point; got {images.dtype}. Divide by 255.")
    if images.numel():
        low, high = (float(v) for v in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"`images` must lie in [0, 1]; got [{low:.3g}, {high:.3g}]. "
                "Normalization belongs inside the model."
            )
