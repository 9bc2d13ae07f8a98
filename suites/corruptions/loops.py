"""Loops over pixels, compiled by numba at their first call and kept.

Each does what torch's calls beside it do, in the same order, so that the bits are the same: nothing
is reassociated or contracted. One loop stays in the cache where many calls do not.
"""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled

Array = Any  # np.ndarray
TOP, MIDDLE, LOW = (  # the channel of the largest, middle and lowest value in each sector of hue
    np.array(channels) for channels in ((0, 1, 1, 2, 2, 0), (1, 0, 2, 1, 0, 2), (2, 2, 0, 0, 1, 1))
)


@compiled
def copy_nearby(u: Array, words: Array, d: int) -> None:
    """Copy pixels of uint8 images (N, C, H, W) from nearby, in place, once for each pass.

    A word, int64 (N, passes, H - 2d, W - 2d), holds both offsets plus d, as the leading two digits
    of a fraction of 2^32 in base 2d. Pixels take their turn in reading order backwards.
    """
    images, channels, height, width = u.shape
    for n in range(images):
        for turn in range(words.shape[1]):
            for h in range(height - d, d, -1):
                for w in range(width - d, d, -1):
                    word = words[n, turn, h - d - 1, w - d - 1] * (2 * d)
                    down = h + (word >> 32) - d
                    right = w + ((word & 0xFFFFFFFF) * (2 * d) >> 32) - d
                    for c in range(channels):
                        u[n, c, h, w] = u[n, c, down, right]


@compiled
def gauss(x: Array, weights: Array, out: Array) -> None:
    """Blur float64 planes (P, H, W), rows first, by an odd number of weights; border nearest."""
    planes, height, width = x.shape
    radius = len(weights) // 2
    padded = np.empty(width + 2 * radius)
    for p in range(planes):
        for h in range(height):
            row = padded[radius : radius + width]
            for w in range(width):
                row[w] = x[p, h, w] * weights[radius]
            for j in range(radius, 0, -1):
                above, below = x[p, max(h - j, 0)], x[p, min(h + j, height - 1)]
                for w in range(width):
                    row[w] += (above[w] + below[w]) * weights[radius - j]
            padded[:radius] = row[0]
            padded[radius + width :] = row[width - 1]
            result = out[p, h]
            for w in range(width):
                result[w] = row[w] * weights[radius]
            for j in range(radius, 0, -1):
                for w in range(width):
                    both = padded[radius + w - j] + padded[radius + w + j]
                    result[w] += both * weights[radius - j]


@compiled
def recolor(u: Array, a: float, b: float, c: float, out: Array) -> None:
    """Map saturation to a S + b and value to V + c, both cut off to [0, 1]: uint8 (N, 3, area)."""
    share = np.arange(256) / 255.0
    for n in range(len(u)):
        for k in range(u.shape[2]):
            red, green, blue = share[u[n, 0, k]], share[u[n, 1, k]], share[u[n, 2, k]]
            v = max(max(red, green), blue)
            d = v - min(min(red, green), blue)
            h, s = 0.0, 0.0
            if d > 0:
                if blue == v:
                    h = (red - green) / d + 4
                elif green == v:
                    h = (blue - red) / d + 2
                else:
                    h = (green - blue) / d
                h /= 6.0
                if h < 0:
                    h += 1
                s = d / v
            s = min(max(s * a + b, 0.0), 1.0)
            v = min(max(v + c, 0.0), 1.0)
            h *= 6
            i = np.floor(h)
            f = h - i
            sector = int(i) % 6
            share_of = f if sector % 2 == 1 else 1 - f
            low, middle = (1 - s) * v, (1 - share_of * s) * v
            out[n, TOP[sector], k] = np.uint8(255 * v)
            out[n, MIDDLE[sector], k] = np.uint8(255 * min(max(middle, 0.0), 1.0))
            out[n, LOW[sector], k] = np.uint8(255 * min(max(low, 0.0), 1.0))
