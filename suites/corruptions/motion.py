"""Blur along a line, which `blur` and `weather` share."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.suites.corruptions.contract import has_loops

WINDOWS = 1 << 20  # values in the table of `motion`: 4 MiB


def motion(
    x: Tensor, radius: int, sigma: float, degrees: Tensor, left: int, right: int, stops: bool
) -> Tensor:
    """Return the blur along a line of float32 images (N, C, H, W), one angle (N,) for each image.

        sum over i = 0..2 radius of w_i x[h + ceil(i sin - 1/2), w + ceil(i cos - 1/2)],

    w_i proportional to exp(-i^2 / 2 sigma^2), normalized; rows count down, border nearest.

    Args:
        left, right: How far the angles' taps reach to either side at most.
        stops: Leave out the taps from the first on whose offset reaches the image's side, which
            then darkens (imagenet_c).
    """
    n, c, height, width = x.shape
    device = x.device
    taps = np.arange(2 * radius + 1)
    fall = np.exp(-(taps**2) / (2 * sigma**2))
    weights = torch.tensor(fall / fall.sum(), dtype=torch.float32, device=device).expand(n, -1)
    i = torch.tensor(taps, dtype=torch.float64, device=device)
    radians = degrees.double()[:, None] * (np.pi / 180)
    dy = (i * radians.sin() - 0.5).ceil().long()  # (N, K)
    dx = (i * radians.cos() - 0.5).ceil().long()
    if stops:
        weights = weights * ((dy.abs() < height) & (dx.abs() < width))
    left, right = min(left, width - 1), min(right, width - 1)
    padded = F.pad(x, (left, right, 0, 0), mode="replicate")
    start = dx.clamp_(-left, right).add_(left)
    if has_loops(x):
        from harness.suites.corruptions import filters

        out = torch.empty_like(x)
        of = (padded, dy, start, weights.contiguous(), out)
        filters.sum_along_lines(*(tensor.numpy() for tensor in of))
        return out
    # All windows of a row: a tap is a row of this table, and a pixel row a weighted sum of taps.
    starts = left + right + 1
    h = torch.arange(height, device=device)[:, None]
    row = (h + dy[:, None]).clamp_(0, height - 1)  # (N, H, K)
    tap = row * starts + start[:, None]
    per_tap = weights[:, None].expand(n, c * height, len(taps))
    limit = WINDOWS if device.type == "cpu" else 64 * WINDOWS
    images = max(1, limit // (c * height * starts * width))
    plane = torch.arange(min(images, n) * c, device=device).view(-1, c, 1, 1) * (height * starts)
    out = torch.empty_like(x)
    for first in range(0, n, images):
        some = slice(first, first + images)
        windows = padded[some].unfold(3, width, 1).reshape(-1, width)  # (N C H S, W)
        bags = (plane[: len(tap[some])] + tap[some, None]).view(-1, len(taps))  # (N C H, K)
        weight = per_tap[some].reshape(bags.shape)
        blurred = F.embedding_bag(bags, windows, mode="sum", per_sample_weights=weight)
        out[some] = blurred.view_as(out[some])
    return out
