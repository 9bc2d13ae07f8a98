"""Loops over whole numbers: JPEG's blocks, and means of boxes of pixels.

Each gives the integers of torch's calls in `jpeg` and `digital`, on a CPU in a fraction of the
time: a strip of blocks stays in the cache from the image to the result.
"""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled
from harness.suites.corruptions.jpeg import EXTRA, SCALE

Array = Any  # np.ndarray
LANES = 128  # blocks at a time
F = np.float32


@compiled
def roundtrip(
    images: Array, tables: Array, dct8: tuple[Array, Array], dct16: tuple[Array, Array], out: Array
) -> None:
    """Write uint8 images (N, 3, H, W) as they come back from JPEG files of 4:2:0.

    Args:
        tables: int32 (2, 8, 8), steps of luminance and chrominance.
        dct8: int32 (8, 8) forward and inverse.
        dct16: int32 (8, 16) and (16, 8), if chroma is halved by it, as libjpeg 9 does; (8, 8) if
            by means, as libjpeg-turbo does.
    """
    height, width = images.shape[2:]
    tall, wide = height + -height % 16, width + -width % 16
    precise = dct16[0].shape[1] == 16
    shrink = 1 if precise else 2
    rows, columns = (height + 1) // 2, (width + 1) // 2
    band = min(16 * max(1, LANES * 16 // wide), tall)  # rows at a time, which stay in the cache
    y = np.empty((tall, wide), np.int16)
    chroma = np.empty((2, tall // shrink, wide // shrink), np.int16)
    fine, row = np.empty((2, band, wide), np.int16), np.empty(columns + 2, np.int32)
    for n in range(len(images)):
        for top in range(0, tall, band):
            count = min(band, tall - top)
            _to_ycc(images[n], top, precise, y[top : top + count], fine)
            _code(y[top : top + count], tables[0], dct8[0], dct8[1])
            for c in range(2):
                coded = chroma[c, top // shrink : (top + count) // shrink]
                if precise:
                    coded[:] = fine[c, :count]
                    _code(coded, tables[1], dct16[0], dct16[1])
                else:
                    _halve(fine[c], rows - top // 2, coded)
                    _code(coded, tables[1], dct8[0], dct8[1])
        for h in range(height):
            for c in range(2):
                if precise:
                    fine[c, 0] = chroma[c, h]
                else:
                    _double(chroma[c, :rows, :columns], h, row, fine[c, 0])
            _to_rgb(y[h], fine[0, 0], fine[1, 0], precise, out[n], h)


@compiled
def _to_ycc(image: Array, top: int, precise: bool, y: Array, chroma: Array) -> None:
    """Write Y, then Cb and Cr around 0 of rows of uint8 (3, H, W); the border is repeated.

    Products are made in float32, faster than whole numbers and as exact below 2^24.
    """
    height, width = image.shape[1:]
    # The older codec has five digits of its coefficients, the newer one nine.
    cb_r, cb_g = (F(11058), F(21710)) if precise else (F(11059), F(21709))
    for h in range(len(y)):
        inside = min(top + h, height - 1)
        red, green, blue = image[0, inside], image[1, inside], image[2, inside]
        row, cb, cr = y[h], chroma[0, h], chroma[1, h]
        for w in range(width):
            r, g, b = F(red[w]), F(green[w]), F(blue[w])
            row[w] = (np.int32(r * F(19595) + g * F(38470) + b * F(7471) + F(32768)) >> 16) - 128
            cb[w] = np.int32(b * F(32768) - r * cb_r - g * cb_g + F(32767)) >> 16
            cr[w] = np.int32(r * F(32768) - g * F(27439) - b * F(5329) + F(32767)) >> 16
        row[width:], cb[width:], cr[width:] = row[width - 1], cb[width - 1], cr[width - 1]


@compiled
def _to_rgb(y: Array, us: Array, vs: Array, precise: bool, out: Array, h: int) -> None:
    """Write Y, Cb, Cr in 0..255 of a row as uint8 colors (3, H, W); as above."""
    cb_g = F(22553) if precise else F(22554)
    low, high = np.int32(0), np.int32(255)
    red, green, blue = out[0, h], out[1, h], out[2, h]
    for w in range(len(red)):
        cb, cr = F(us[w]) - F(128), F(vs[w]) - F(128)
        r = np.int32(y[w] + (np.int32(cr * F(91881) + F(32768)) >> 16))
        g = np.int32(y[w] + (np.int32(F(32768) - cb * cb_g - cr * F(46802)) >> 16))
        b = np.int32(y[w] + (np.int32(cb * F(116130) + F(32768)) >> 16))
        red[w] = np.uint8(min(max(r, low), high))
        green[w] = np.uint8(min(max(g, low), high))
        blue[w] = np.uint8(min(max(b, low), high))


@compiled
def _code(x: Array, table: Array, forward: Array, inverse: Array) -> None:
    """Round the coefficients of blocks of a plane to multiples of a table, in place."""
    size = forward.shape[1]
    down, across = x.shape[0] // size, x.shape[1] // size
    group = min(max(1, LANES // across), down)  # rows of blocks at a time
    bits = SCALE + EXTRA + (2 if size == 16 else 0)  # (8 / 16)^2
    for start in range(0, down, group):
        some = min(group, down - start)
        lanes = some * across
        pixels = np.empty((size, size, lanes), np.int32)  # [column, row, block]
        half = np.empty((8, size, lanes), np.int32)  # [frequency along a row, row, block]
        k = np.empty((8, lanes), np.int32)
        strip = x[start * size : (start + some) * size]
        _cut(strip, pixels)
        _analyze(forward, pixels.reshape(size, -1), SCALE - EXTRA, half.reshape(8, -1))
        for i in range(8):
            _analyze(forward, half[i], bits, k)
            _round(k, table[:, i])
            _synthesize(inverse, k, SCALE - EXTRA, half[i])
        _synthesize(inverse, half.reshape(8, -1), SCALE + EXTRA + 3, pixels.reshape(size, -1))
        _join(pixels, strip)


@compiled
def _cut(x: Array, blocks: Array) -> None:
    """Write a strip (H, W) as N blocks of side S, (S, S, N), columns first."""
    size, across = len(blocks), x.shape[1] // len(blocks)
    for h in range(len(x)):
        for j in range(size):
            part, values = x[h, j::size], blocks[j, h % size, h // size * across :]
            for b in range(across):
                values[b] = part[b]


@compiled
def _join(blocks: Array, x: Array) -> None:
    """Undo it, add 128 and cut off to 0..255."""
    size, across = len(blocks), x.shape[1] // len(blocks)
    for h in range(len(x)):
        for j in range(size):
            part, values = x[h, j::size], blocks[j, h % size, h // size * across :]
            for b in range(across):
                part[b] = min(max(np.int32(values[b] + 128), np.int32(0)), np.int32(255))


@compiled
def _analyze(matrix: Array, x: Array, bits: int, out: Array) -> None:
    """Write the product (8, L) of a cosine transform (8, S) and x over 2^bits, halves rounded up.

    Even rows of the matrix are symmetric, odd ones antisymmetric: half of the products are enough.
    """
    size, lanes = x.shape
    both = np.empty((2, size // 2, lanes), np.int32)
    for j in range(size // 2):
        near, far, plus, minus = x[j], x[size - 1 - j], both[0, j], both[1, j]
        for w in range(lanes):
            plus[w] = near[w] + far[w]
            minus[w] = near[w] - far[w]
    rest, half = np.empty(lanes, np.int32), 1 << bits - 1
    rest[:] = half
    for i in range(8):
        row, part, factors = out[i], both[i % 2], matrix[i]
        if size == 16:
            a, b, c, d = part[4], part[5], part[6], part[7]
            p, q, r, s = factors[4], factors[5], factors[6], factors[7]
            for w in range(lanes):
                rest[w] = a[w] * p + b[w] * q + c[w] * r + d[w] * s + half
        a, b, c, d = part[0], part[1], part[2], part[3]
        p, q, r, s = factors[0], factors[1], factors[2], factors[3]
        for w in range(lanes):
            row[w] = np.int32(a[w] * p + b[w] * q + c[w] * r + d[w] * s + rest[w]) >> bits


@compiled
def _synthesize(matrix: Array, k: Array, bits: int, out: Array) -> None:
    """Write the same with the transposed matrix (S, 8), of k (8, L): (S, L)."""
    size, lanes = out.shape
    half = 1 << bits - 1
    k0, k1, k2, k3, k4, k5, k6, k7 = k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7]
    for j in range(size // 2):
        near, far = out[j], out[size - 1 - j]
        a, b, c, d, e, f, g, h = matrix[j]
        for w in range(lanes):
            even = np.int32(a * k0[w] + c * k2[w] + e * k4[w] + g * k6[w] + half)
            odd = np.int32(b * k1[w] + d * k3[w] + f * k5[w] + h * k7[w])
            near[w] = np.int32(even + odd) >> bits
            far[w] = np.int32(even - odd) >> bits


@compiled
def _round(k: Array, steps: Array) -> None:
    """Round 8 times the coefficients (8, L) to multiples of the steps of each row, in place."""
    for i in range(8):
        row, step = k[i], np.int32(steps[i])
        half, divisor = np.int32(4 * step), np.float32(8 * step)
        for w in range(len(row)):
            value = row[w]
            size = np.int32(np.float32(np.int32(abs(value) + half)) / divisor)
            row[w] = np.int32(size * step) if value >= 0 else np.int32(-size * step)


@compiled
def _halve(x: Array, rows: int, half: Array) -> None:
    """Write means of 2 x 2 of a plane (2H, 2W); rows from `rows` on repeat the last one before."""
    for h in range(len(half)):
        if h >= rows:
            half[h] = half[rows - 1]
            continue
        above, below, row = x[2 * h], x[2 * h + 1], half[h]
        for w in range(len(row)):
            total = above[2 * w] + above[2 * w + 1] + below[2 * w] + below[2 * w + 1]
            row[w] = total + 1 + w % 2 >> 2


@compiled
def _double(x: Array, h: int, row: Array, out: Array) -> None:
    """Write row h of a plane (H, W) with twice the sides, by a triangle filter; `row` is room."""
    height, width = x.shape
    near, other = x[h // 2], x[min(max(h // 2 + (1 if h % 2 else -1), 0), height - 1)]
    for w in range(width):
        row[w + 1] = 3 * near[w] + other[w]
    row[0], row[width + 1] = row[1], row[width]
    for w in range(width):
        out[2 * w] = 3 * row[w + 1] + row[w] + 8 >> 4
        out[2 * w + 1] = 3 * row[w + 1] + row[w + 2] + 7 >> 4


@compiled
def boxes(
    images: Array, across: tuple[Array, ...], down: tuple[Array, ...], bits: int, out: Array
) -> None:
    """Write uint8 planes (P, H, W) as means of boxes, each repeated to the planes' size.

    Args:
        across: For columns each mean's first pixel and the one after its last, uint64, its weight
            times 2^bits, int32, and which mean each output repeats, uint64. `down`: For rows.
    """
    planes, height, width = images.shape
    first, after, weights, place = across
    top, below, heights, source = down
    half, points = np.int32(1 << bits - 1), len(first)
    means, small = np.empty((height, points), np.uint8), np.empty(points, np.uint8)
    total = np.empty(points, np.int32)
    for p in range(planes):
        for h in range(height):
            row, result = images[p, h], means[h]
            for i in range(points):
                level = np.uint64(0)
                for w in range(first[i], after[i]):
                    level += np.uint64(row[w])
                total[i] = level
            for i in range(points):
                result[i] = np.int32(total[i] * weights[i] + half) >> bits
        for h in range(height):
            if h > 0 and source[h] == source[h - 1]:
                out[p, h] = out[p, h - 1]
                continue
            total[:] = 0
            for r in range(top[source[h]], below[source[h]]):
                row = means[r]
                for i in range(points):
                    total[i] += row[i]
            weight, row = heights[source[h]], out[p, h]
            for i in range(points):
                small[i] = np.int32(total[i] * weight + half) >> bits
            for w in range(width):
                row[w] = small[place[w]]
