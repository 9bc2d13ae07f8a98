"""Zooms about the center, linear in each direction: sums of several, and of single fields.

As products of matrices, or on large images on a CPU as loops, which do less.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from harness.suites.corruptions import linear
from harness.suites.corruptions.contract import has_loops


def sum_of_zooms(images: Tensor, factors: tuple[float, ...], centered: bool) -> Tensor:
    """Return the sum of zoom_blur as loops, of uint8 images (N, C, H, W) on a CPU, float32."""
    from harness.suites.corruptions import filters

    (top, below), (left, beside) = (_points_of(factors, centered, n) for n in images.shape[2:])
    share = np.full(len(factors), 1 / (len(factors) + 1), np.float32)
    share[0] *= 2  # factor 1, and the image itself
    x, out = images.float().flatten(0, 1).numpy(), torch.empty(images.shape)
    planes = out.flatten(0, 1).numpy()
    filters.sum_of_zooms(x, top, below, left.astype(np.uint64), beside, share, planes)
    return out


@functools.cache
def _points_of(
    factors: tuple[float, ...], centered: bool, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return `_points` for zooms to several factors, (Z, size), float32."""
    matrices = [linear.trim(linear.zoom_matrix(size, z), centered) for z in factors]
    before, after = zip(*map(_points, matrices), strict=True)
    return np.stack(before), np.stack(after).astype(np.float32)


def _points(zoom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel before each point of a zoom's matrix, and the share of the next pixel."""
    before = np.minimum((zoom != 0).argmax(1), zoom.shape[1] - 2)
    return before, zoom[np.arange(len(zoom)), before + 1]


@functools.cache
def zoom_products(
    factors: tuple[float, ...],
    centered: bool,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> linear.Products:
    """Return the same sum, of images of this size, as products of matrices."""
    left = [linear.trim(linear.zoom_matrix(height, z), centered) for z in factors]
    right = [linear.trim(linear.zoom_matrix(width, z), centered) for z in factors]
    share = 1 / (len(factors) + 1)
    left[0] = 2 * left[0]  # factor 1, and the image itself
    left, right = linear.fewest([share * a for a in left], right)
    return linear.stack(left, right, dtype, device)


def zoom_as_published(x: Tensor, left: list[np.ndarray], right: list[np.ndarray]) -> Tensor:
    """Return the same sum of images (N, C, H, W) in [0, 1] as the published code rounds it.

    SciPy interpolates in float64 and rounds to float32; the sum is in float32, in order.
    """
    x = x.float()
    total = torch.zeros_like(x)
    for a, b in zip(left, right, strict=True):
        total += linear.two_sided(
            x.double(), linear.stack([a], [b], torch.float64, x.device)
        ).float()
    return (x + total).div_(torch.full_like(x[:1], len(left) + 1))


def zoomed(field: Tensor, factor: float, trim: bool) -> Tensor:
    """Return float64 fields (N, 1, H, W) zoomed about the center, trimmed to their size or not."""
    height, width = field.shape[2:]
    if not has_loops(field):
        return linear.two_sided(field, _products(factor, trim, height, width, field.device))
    from harness.suites.corruptions import filters

    zooms = _pair(factor, trim, height, width)
    (top, below), (left, beside) = (_points(matrix) for matrix in zooms)
    out = field.new_empty(len(field), 1, len(top), len(left))
    left, share = left.astype(np.uint64), np.ones(1)
    of = (top[None], below[None], left[None], beside[None], share)
    filters.sum_of_zooms(field[:, 0].numpy(), *of, out[:, 0].numpy())
    return out


@functools.cache
def _pair(factor: float, trim: bool, height: int, width: int) -> list[np.ndarray]:
    matrices = [linear.zoom_matrix(size, factor) for size in (height, width)]
    return [linear.trim(matrix, centered=True) for matrix in matrices] if trim else matrices


@functools.cache
def _products(
    factor: float, trim: bool, height: int, width: int, device: torch.device
) -> linear.Products:
    matrices = _pair(factor, trim, height, width)
    return linear.stack(matrices[:1], matrices[1:], torch.float64, device)
