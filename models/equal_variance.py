"""Noise of a variance that is given, for nulls of networks that are random in training.

    feature noise   y + s xi,            xi ~ N(0, 1),           s^2 = v
    dropout         y b / (1 - p),       b ~ Bernoulli(1 - p),   p = v / (v + mean(y^2))

in every element, with mean y. v is the variance that another noise would give the image, its mean
over the elements: so the strength follows what it is matched with, image by image and step by step,
and there is no constant to be calibrated. No gradient goes through v and p.

Reference: ours. Deviations: none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

MATCHED = ("mean", "output variance", "evaluations", "parameters")
MATCHED_AT_THE_START = ("mean", "output variance at the start", "evaluations", "parameters")
MOST = 0.95  # of the elements are dropped; reached where y is small against its noise


def mean_square(y: Tensor) -> Tensor:
    """Return the mean of y^2 over each image's elements, (N, 1, 1, 1), of (N, C, H, W)."""
    return y.detach().square().mean((1, 2, 3), keepdim=True)


def feature_noise(y: Tensor, variance: Tensor | float, normal: Tensor) -> Tensor:
    """Return y (N, C, H, W) with Gaussian noise.

    Args:
        variance: Variance of each element, a number or (N, 1, 1, 1).
        normal: Standard normals of the shape of y.
    """
    return y + torch.as_tensor(variance).sqrt().to(y) * normal


def dropout(y: Tensor, variance: Tensor | float, uniform: Tensor) -> Tensor:
    """Return y (N, C, H, W) with elements dropped, and the others scaled.

    Args:
        variance: Mean variance of an image's elements, a number or (N, 1, 1, 1).
        uniform: Uniforms on [0, 1) of the shape of y.
    """
    p = dropped(mean_square(y), variance)
    return y * (uniform >= p).to(y.dtype) / (1 - p)


def dropped(square: Tensor, variance: Tensor | float) -> Tensor:
    """Return p = v / (v + mean(y^2)): mean(y^2) p / (1 - p) = v."""
    p = variance / (variance + square).clamp(min=torch.finfo(square.dtype).tiny)
    return p.clamp(max=MOST)


def by_name(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return "dropout" or "feature_noise" as a function of y and its variance, drawn by torch."""
    if name == "dropout":
        return lambda y, variance: dropout(y, variance, torch.rand_like(y))
    return lambda y, variance: feature_noise(y, variance, torch.randn_like(y))
