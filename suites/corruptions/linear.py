"""Linear maps on images: border rules, correlations, resampling matrices.

Borders: *nearest* aaa|abcd|ddd, *reflect* dcba|abcd|dcba, *mirror* dcb|abcd|cba. A separable blur
or a resize is A X B^T with small matrices; a sum of them is two products. Where a result must not
depend on the order of a sum, which truncation makes visible, a correlation is written out in the
order of the reference, in float64.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.suites.corruptions.contract import has_loops

Blocks = tuple[tuple[slice, tuple[tuple[slice, Tensor], ...]], ...]

DENSE = 64  # pixels; whole products of matrices are cheaper up to here
BLOCK = 16  # rows of a block of a product
RUN = 192  # terms of a run of a sum


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
    if radius and has_loops(x):
        from harness.suites.corruptions import loops

        out = torch.empty_like(x)
        planes = x.reshape(-1, *x.shape[-2:])
        loops.gauss(planes.numpy(), np.array(weights), out.view_as(planes).numpy())
        return out
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


@dataclass(frozen=True)
class Products:
    """What `two_sided` needs for the sum over k of A_k X B_k^T, each A_k (H', H), B_k (W', W).

    Args:
        left: (H', H K), columns in the order (h, k); `right`: (W, K W').
        rows: Blocks of rows of `left`, each with the columns that are not all 0, in parts;
            `columns`: the same of each B_k^T. None for both where whole products are cheaper.
    """

    left: Tensor
    right: Tensor
    rows: Blocks | None = None
    columns: Blocks | None = None


def stack(
    left: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    dtype: torch.dtype,
    device: torch.device,
) -> Products:
    """Return what `two_sided` needs for the sum of left[k] X right[k]^T."""
    a = np.stack(left, axis=-1)  # (H', H, K)
    b = np.stack([matrix.T for matrix in right], axis=1)  # (W, K, W')
    rows = columns = None
    if device.type == "cpu" and min(a.shape[1], len(b)) > DENSE:
        k = len(left)
        used = np.repeat(np.any(a != 0, -1), k, axis=1)
        flat = torch.tensor(a.reshape(len(a), -1), dtype=dtype)
        rows = tuple(
            (out, tuple((part, flat[out, part].contiguous()) for part in parts))
            for out, parts in _bands(used)
        )
        flat = torch.tensor(b, dtype=dtype)
        columns = tuple(
            (out, tuple((part, flat[part, :, out].flatten(1).contiguous()) for part in parts))
            for out, parts in _bands(np.any(b != 0, 1).T)
        )
    return Products(
        torch.tensor(a.reshape(len(a), -1), dtype=dtype, device=device),
        torch.tensor(b.reshape(len(b), -1), dtype=dtype, device=device),
        rows,
        columns,
    )


def _bands(used: np.ndarray) -> list[tuple[slice, list[slice]]]:
    """Return blocks of rows of a matrix (M, K), and for each the columns that it uses, in parts.

    A product of matrices sums in runs, and the runs' sums one after the other; the last bits of a
    result show where they end. Parts end there too, so a block of a product has the bits of the
    whole one. The runs are those of MKL on x86; elsewhere the last bit may differ.
    """
    size, depth = used.shape
    run = depth if depth <= RUN else min(RUN, depth // 2)
    starts = range(0, max(size - BLOCK, 0) + 1, BLOCK)
    blocks = []
    for start in starts:
        out = slice(start, size if start == starts[-1] else start + BLOCK)
        at = np.flatnonzero(used[out].any(0))
        first, end = int(at[0]), int(at[-1]) + 1
        edges = [first, *range((first // run + 1) * run, end, run), end]
        blocks.append((out, [slice(*pair) for pair in itertools.pairwise(edges)]))
    return blocks


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
    # Where all matrices are 0, so are their combinations, but for round-off.
    a *= np.any(np.stack(left) != 0, 0).reshape(-1, 1)
    b *= np.any(np.stack(right) != 0, 0).reshape(-1, 1)
    return (
        [a[:, k].reshape(left[0].shape) for k in range(kept.sum())],
        [b[:, k].reshape(right[0].shape) for k in range(kept.sum())],
    )


def two_sided(x: Tensor, by: Products) -> Tensor:
    """Return the sum over k of A_k X B_k^T for images (N, C, H, W)."""
    n, c, height, width = x.shape
    if by.rows is None or by.columns is None:
        terms = (x.reshape(-1, width) @ by.right).view(n * c, by.left.shape[1], -1)  # rows (h, k)
        return torch.bmm(by.left.expand(n * c, *by.left.shape), terms).unflatten(0, (n, c))
    across = by.columns[-1][0].stop
    k = by.right.shape[1] // across
    lines = x.reshape(-1, width)
    terms = x.new_empty(len(lines), k, across)
    for place, parts in by.columns:
        product = _summed([(lines[:, part], matrix) for part, matrix in parts])
        terms[:, :, place] = product.view(len(lines), k, -1)
    out = x.new_empty(n * c, len(by.left), across)
    for rows, result in zip(terms.view(n * c, height * k, across), out, strict=True):
        for place, parts in by.rows:
            _summed([(matrix, rows[part]) for part, matrix in parts], result[place])
    return out.unflatten(0, (n, c))


def _summed(factors: list[tuple[Tensor, Tensor]], out: Tensor | None = None) -> Tensor:
    """Return the sum of the products of pairs of matrices, in `out` if given."""
    (a, b), *others = factors
    total = torch.mm(a, b, out=out)
    for a, b in others:
        total.addmm_(a, b)
    return total


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
