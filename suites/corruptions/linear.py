"""Linear maps on images: border rules, correlations, resampling matrices.

Borders: *nearest* aaa|abcd|ddd, *reflect* dcba|abcd|dcba, *mirror* dcb|abcd|cba. A separable blur
or a resize is A X B^T with small matrices; a sum of them is two products. Where a result must not
depend on the order of a sum, which truncation makes visible, a correlation is written out in the
order of the reference, in float64.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def border(position: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Return the positions 0..size-1 that stand for `position`, any integers."""
    if rule == "nearest":
        return np.clip(position, 0, size - 1)
    period = 2 * size if rule == "reflect" else 2 * size - 2
    folded = position % period
    return np.where(folded < size, folded, period - (rule == "reflect") - folded)


def gauss_weights(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """Return exp(-i^2 / 2 sigma^2), normalized, for |i| <= trunc(truncate sigma + 1/2)."""
    radius = int(truncate * float(sigma) + 0.5)
    i = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * i**2)
    return weights / weights.sum()


def gauss(x: Tensor, sigma: float) -> Tensor:
    """Blur float64 images (..., H, W) as scipy.ndimage.gaussian_filter does, bit for bit.

    Border nearest, truncate 4. The rows are blurred first; each sum starts with the center and goes
    on from the outermost pair inwards.
    """
    weights = gauss_weights(sigma).tolist()
    radius = len(weights) // 2
    for dim in (-2, -1) if radius else ():
        size = x.shape[dim]
        rows, columns = (radius, 0) if dim == -2 else (0, radius)
        padded = F.pad(x, (columns, columns, rows, rows), "replicate")
        x = x * weights[radius]
        pair = torch.empty_like(x)
        for j in range(radius, 0, -1):
            before, after = (padded.narrow(dim, radius + k, size) for k in (-j, j))
            x += torch.add(before, after, out=pair).mul_(weights[radius - j])
    return x


def correlate(x: Tensor, kernel: np.ndarray) -> Tensor:
    """Correlate images (..., H, W) with an odd kernel, border mirror, tap by tap in row order."""
    height, width = x.shape[-2:]
    rows, columns = (n // 2 for n in kernel.shape)
    x = F.pad(x, (columns, columns, rows, rows), "reflect")
    out = torch.zeros((), dtype=x.dtype, device=x.device)
    for (i, j), weight in np.ndenumerate(kernel):
        if weight:
            out = x[..., i : i + height, j : j + width] * float(weight) + out
    return out


def correlation_matrix(weights: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Return the matrix (size, size) of a 1-D correlation."""
    out = np.zeros((size, size))
    radius = len(weights) // 2
    for j, weight in enumerate(weights):
        np.add.at(out, (np.arange(size), border(np.arange(size) + j - radius, size, rule)), weight)
    return out


def zoom_matrix(size: int, factor: float) -> np.ndarray:
    """Return the matrix (points, size) of a zoom by `factor` about the center.

    The middle ceil(size / factor) pixels are resampled to round(that times factor) points, linearly
    and with aligned corners.
    """
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    points = round(crop * factor)
    at = np.arange(points) * ((crop - 1) / (points - 1))
    low = np.minimum(np.floor(at).astype(int), crop - 2)
    out = np.zeros((points, size))
    out[np.arange(points), top + low] += 1 - (at - low)
    out[np.arange(points), top + low + 1] += at - low
    return out


def trim(matrix: np.ndarray, centered: bool) -> np.ndarray:
    """Return the middle rows of a zoom, as many as columns, or the first if not `centered`."""
    points, size = matrix.shape
    first = (points - size) // 2 if centered else 0
    return matrix[first : first + size]


def stack(
    left: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return what `two_sided` needs for the sum of left[k] X right[k]^T, for left[k] (H', H).

    These are matrices (H', H K) and (W, K W').
    """
    a = np.stack(left, axis=-1)  # (H', H, K)
    b = np.concatenate(right).T  # (W, K W')
    return (
        torch.tensor(a.reshape(len(a), -1), dtype=dtype, device=device),
        torch.tensor(np.ascontiguousarray(b), dtype=dtype, device=device),
    )


def fewest(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return as few matrices as round-off lets, with the same sum of left[k] X right[k]^T.

    Zooms to many factors are mostly combinations of few: a matrix is linear in its factor as long
    as the factor leaves the crop and the neighbors as they are.
    """
    q_left, r_left = np.linalg.qr(np.stack(left, -1).reshape(-1, len(left)))
    q_right, r_right = np.linalg.qr(np.stack(right, -1).reshape(-1, len(right)))
    u, s, v = np.linalg.svd(r_left @ r_right.T)
    kept = s > 1e-12 * s[0]
    a, b = q_left @ (u[:, kept] * s[kept]), q_right @ v[kept].T
    return (
        [a[:, k].reshape(left[0].shape) for k in range(kept.sum())],
        [b[:, k].reshape(right[0].shape) for k in range(kept.sum())],
    )


def two_sided(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return sum over k of A_k X B_k^T for images (N, C, H, W), given the `stacked` matrices."""
    n, c, _, w = x.shape
    terms = (x.reshape(-1, w) @ right).view(n * c, left.shape[1], -1)  # rows (h, k)
    return torch.bmm(left.expand(n * c, *left.shape), terms).unflatten(0, (n, c))


@functools.cache
def disk(radius: float, sd: float) -> np.ndarray:
    """Return a disk, antialiased by a small Gaussian, without the zeros around it.

    On the grid -8..8 (or -r..r for r > 8): 1 where X^2 + Y^2 <= r^2, divided by its sum, blurred by
    3 x 3 (5 x 5) Gaussian weights with border mirror, in float32.
    """
    reach = 8 if radius <= 8 else int(radius)
    grid = np.arange(-reach, reach + 1)
    out = np.float32(grid[:, None] ** 2 + grid**2 <= radius**2)
    out /= out.sum()
    tip = 1 if radius <= 8 else 2
    weights = np.exp(-(np.arange(-tip, tip + 1) ** 2) / (2 * sd * sd))
    weights = (weights / weights.sum()).astype(np.float32)
    for _ in range(2):
        padded = out[border(np.arange(-tip, len(grid) + tip), len(grid), "mirror")]
        rows = [w * padded[i : i + len(grid)] for i, w in enumerate(weights)]
        out = functools.reduce(np.add, rows).T
    used = np.flatnonzero(out.any(0))
    return out[used[0] : used[-1] + 1, used[0] : used[-1] + 1].astype(np.float64)


def separate(kernel: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return vectors a_k, b_k with kernel = sum of the outer products, as few as round-off lets."""
    u, s, v = np.linalg.svd(kernel)
    kept = np.flatnonzero(s > 1e-8 * s[0])
    return [u[:, k] * s[k] for k in kept], [v[k] for k in kept]
