"""Layers of weather on large images as loops, compiled by numba at their first call and kept.

Each does what torch's calls in `weather` do, in the same order and types, so that the bits are the
same: nothing is reassociated or contracted.
"""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled

Array = Any  # np.ndarray


@compiled
def fractal(u: Array, decay: float, a: Array) -> None:
    """Write maps of `weather.plasma` before they are scaled: u float32 (N, side^2 - 1), a float64
    (N, side, side)."""
    images, side, _ = a.shape
    for n in range(images):
        used, step, w = 0, side, 100.0
        a[n, 0, 0] = 0.0
        while step >= 2:
            half, count = step // 2, side // step
            square, scale = count * count, w * w
            for i in range(count):
                h, down = i * step, (i + 1) % count * step
                for j in range(count):
                    v, right = j * step, (j + 1) % count * step
                    kick = (np.float64(u[n, used + i * count + j]) * 2 - 1) * scale
                    left_pair = a[n, h, v] + a[n, down, v]
                    pair = a[n, h, right] + a[n, down, right]
                    a[n, h + half, v + half] = (left_pair + pair) * 0.25 + kick
            for i in range(count):
                h, up = i * step, (i + count - 1) % count * step
                down = (i + 1) % count * step
                for j in range(count):
                    v, right = j * step, (j + 1) % count * step
                    left = (j + count - 1) % count * step
                    at, center = used + square + i * count + j, a[n, h + half, v + half]
                    kick = (np.float64(u[n, at]) * 2 - 1) * scale
                    across = a[n, h, v] + a[n, h, right] + center + a[n, up + half, v + half]
                    a[n, h, v + half] = across * 0.25 + kick
                    kick = (np.float64(u[n, at + square]) * 2 - 1) * scale
                    upright = a[n, h, v] + a[n, down, v] + center + a[n, h + half, left + half]
                    a[n, h + half, v] = upright * 0.25 + kick
            used += 3 * square
            step, w = half, w / decay


@compiled
def add_haze(images: Array, haze: Array, c: float, out: Array) -> None:
    """Write (x + c P) M / (M + c) of uint8 (N, 3, H, W), P float64 (N, side, side), M the largest
    value of x = u / 255."""
    count, channels, height, width = images.shape
    share = np.arange(256) / 255.0
    for n in range(count):
        largest = share[images[n].max()]
        for k in range(channels):
            for h in range(height):
                for w in range(width):
                    z = (share[images[n, k, h, w]] + haze[n, h, w] * c) * largest / (largest + c)
                    out[n, k, h, w] = np.uint8(min(max(z, 0.0), 1.0) * 255)


@compiled
def lay_crops(
    images: Array, flat: Array, start: Array, columns: Array, p: float, q: float, out: Array
) -> None:
    """Write q F + p u of uint8 (N, 3, H, W), F from pixel start[n] of pictures that are
    columns[n] wide, uint8 (3, pixels)."""
    count, channels, height, width = images.shape
    for n in range(count):
        for k in range(channels):
            for h in range(height):
                first = start[n] + h * columns[n]
                line = flat[k, first : first + width]
                for w in range(width):
                    z = line[w] * q + images[n, k, h, w] * p
                    out[n, k, h, w] = np.uint8(min(max(z, 0.0), 255.0))


@compiled
def lay_snow(images: Array, layer: Array, gray: Array, k: float, out: Array) -> None:
    """Write k x + (1 - k) max(x, 1.5 g + 0.5) + l + l turned, in float32, of uint8 (N, 3, H, W).

    Args:
        layer: float32 (N, 1, H, W).
        gray: float32 (3,): weights of the channels in g.
    """
    count, channels, height, width = images.shape
    keep, bleach = np.float32(k), np.float32(1 - k)
    steep, bright, most = np.float32(1.5), np.float32(0.5), np.float32(255)
    zero, one = np.float32(0), np.float32(1)
    x, white = np.empty((channels, width), np.float32), np.empty(width, np.float32)
    for n in range(count):
        for h in range(height):
            here, turned = layer[n, 0, h], layer[n, 0, height - 1 - h, ::-1]
            for c in range(channels):
                for w in range(width):
                    x[c, w] = np.float32(images[n, c, h, w]) / most
            for w in range(width):
                g = x[0, w] * gray[0] + x[1, w] * gray[1] + x[2, w] * gray[2]
                white[w] = g * steep + bright
            for c in range(channels):
                row, result = x[c], out[n, c, h]
                for w in range(width):
                    z = row[w] * keep + max(row[w], white[w]) * bleach + here[w] + turned[w]
                    result[w] = np.uint8(min(max(z, zero), one) * most)
