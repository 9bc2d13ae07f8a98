"""Layers that two or more families use."""

import torch
from torch import Tensor, nn

MEAN = (0.4914, 0.4822, 0.4465)  # of the CIFAR-10 training images, per channel
STD = (0.2470, 0.2435, 0.2616)


class Normalize(nn.Module):
    """(images - mean) / std per channel; images (N, 3, H, W) in [0, 1].

    One choice for all data sets by default, so that a model is the same function wherever it runs;
    the batch norm behind the first convolution takes up the rest.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32 at least: states and sums are not kept in 16 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
