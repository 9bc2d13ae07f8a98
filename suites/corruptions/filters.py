"""Filters of large images as loops over rows, compiled by numba at their first call and kept.

A row of the result is finished before the next is begun, so that it and the rows that it comes from
stay in the cache. Sums are in the order written here.
"""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled

Array = Any  # np.ndarray


@compiled
def to_levels(x: Array, tie: float, out: Array) -> None:
    """Write float32 values of any shape plus `tie`, within 0..255 and cut off, as uint8."""
    values, levels, more = x.reshape(-1), out.reshape(-1), np.float32(tie)
    low, high = np.float32(0), np.float32(255)
    for i in range(len(values)):
        levels[i] = np.uint8(min(max(values[i] + more, low), high))


@compiled
def blur_levels(u: Array, weights: Array, out: Array) -> None:
    """Blur uint8 planes (P, H, W) as `linear.gauss` does u / 255, and quantize: all in float64."""
    planes, height, width = u.shape
    radius = len(weights) // 2
    x, padded = np.empty((height, width)), np.empty(width + 2 * radius)
    both = np.empty(width)
    for p in range(planes):
        for h in range(height):
            for w in range(width):
                x[h, w] = u[p, h, w] / 255.0
        for h in range(height):
            row, middle, a = padded[radius : radius + width], x[h], weights[radius]
            for w in range(width):
                row[w] = middle[w] * a
            for j in range(radius, 0, -1):
                above, below = x[max(h - j, 0)], x[min(h + j, height - 1)]
                a = weights[radius - j]
                for w in range(width):
                    row[w] += (above[w] + below[w]) * a
            padded[:radius], padded[radius + width :] = row[0], row[width - 1]
            a = weights[radius]
            for w in range(width):
                both[w] = row[w] * a
            for j in range(radius, 0, -1):
                left = padded[radius - j : radius - j + width]
                right = padded[radius + j : radius + j + width]
                a = weights[radius - j]
                for w in range(width):
                    both[w] += (left[w] + right[w]) * a
            result = out[p, h]
            for w in range(width):
                result[w] = np.uint8(min(max(both[w], 0.0), 1.0) * 255)


@compiled
def sum_along_lines(x: Array, down: Array, start: Array, weights: Array, out: Array) -> None:
    """Write the sum over k of weights[n, k] x[n, c, h + down[n, k], start[n, k] + w].

    Args:
        x: float32 (N, C, H, W'), its columns padded; rows beyond the border are the border's.
        down: int64 (N, K), K odd; `start` likewise, in 0..W' - W; `weights` float32 (N, K).
        out: float32 (N, C, H, W).
    """
    images, channels, height, width = out.shape
    for n in range(images):
        for c in range(channels):
            for h in range(height):
                row = out[n, c, h]
                i = min(max(h + down[n, 0], 0), height - 1)
                one, a = x[n, c, i, start[n, 0] : start[n, 0] + width], weights[n, 0]
                for w in range(width):
                    row[w] = a * one[w]
                for k in range(1, weights.shape[1], 2):
                    i = min(max(h + down[n, k], 0), height - 1)
                    j = min(max(h + down[n, k + 1], 0), height - 1)
                    one = x[n, c, i, start[n, k] : start[n, k] + width]
                    two = x[n, c, j, start[n, k + 1] : start[n, k + 1] + width]
                    a, b = weights[n, k], weights[n, k + 1]
                    for w in range(width):
                        row[w] = row[w] + a * one[w] + b * two[w]


@compiled
def correlate_symmetric(x: Array, quadrant: Array, reach: Array, out: Array) -> None:
    """Correlate with a kernel that is the same upside down, and left to right.

    Args:
        x: float32 (P, H + 2r, W + 2r), padded.
        quadrant: float32 (r + 1, r + 1): the kernel from its center to its lower right corner.
        reach: int64 (r + 1,): the last column of each row that is not 0, -1 where all are.
        out: float32 (P, H, W).
    """
    planes, height, width = out.shape
    r = len(quadrant) - 1
    both = np.empty(width + 2 * r, np.float32)
    for p in range(planes):
        for h in range(height):
            row = out[p, h]
            row[:] = 0
            for i in range(r + 1):
                if reach[i] < 0:
                    continue
                above, below = x[p, h + r - i], x[p, h + r + i]
                if i:
                    for w in range(width + 2 * r):
                        both[w] = above[w] + below[w]
                else:
                    both[:] = above
                a = quadrant[i, 0]
                middle = both[r : r + width]
                for w in range(width):
                    row[w] += a * middle[w]
                for j in range(1, reach[i] + 1):
                    left, right = both[r - j : r - j + width], both[r + j : r + j + width]
                    a = quadrant[i, j]
                    for w in range(width):
                        row[w] += a * (left[w] + right[w])


@compiled
def sum_of_zooms(
    x: Array, top: Array, below: Array, left: Array, beside: Array, share: Array, out: Array
) -> None:
    """Write the sum over zooms, linear in each direction, of images times their share.

    Args:
        x: float32 or float64 (P, H, W), as are all that are not places.
        top: int64 (Z, H'): the row above each point of a zoom, at most H - 2; `below` (Z, H'): the
            share of the next row. `left`, uint64, and `beside`, (Z, W'), are of columns.
        share: (Z,).
        out: (P, H', W').
    """
    planes, height, width = out.shape
    across = x.shape[2]
    line, next_one = np.empty(across, x.dtype), np.uint64(1)
    for p in range(planes):
        for h in range(height):
            row = out[p, h]
            row[:] = 0
            for z in range(len(share)):
                one, two = x[p, top[z, h]], x[p, top[z, h] + 1]
                b = share[z] * below[z, h]
                a = share[z] - b
                for w in range(across):
                    line[w] = a * one[w] + b * two[w]
                at, of = left[z], beside[z]
                for w in range(width):
                    first = line[at[w]]
                    row[w] += first + of[w] * (line[at[w] + next_one] - first)
