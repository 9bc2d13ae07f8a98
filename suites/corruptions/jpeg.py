"""JPEG at a quality, there and back, in exact integers: the same bytes on every device.

    colors -> YCbCr -> blocks -> DCT -> rounded to multiples of a table -> inverse DCT -> colors

Entropy coding loses nothing, so it is left out. What remains is integer arithmetic: a pass of the
accurate integer DCT is an integer matrix, 2^13 times a cosine transform, then one rounding shift.
On a CPU loops do it; elsewhere products of matrices in float64, where these integers are exact.

Two codecs are reproduced, because the published files and today's wheels differ (chroma is always
halved both ways, 4:2:0):

- "libjpeg": IJG libjpeg 9, which made CIFAR-10-C. Chroma is halved in the frequency domain, by a
  16 x 16 DCT of which 8 x 8 coefficients are kept.
- "libjpeg-turbo": what Pillow's wheels carry. Chroma is halved by means of 2 x 2, rounded by 1 and
  2 in alternating columns, and doubled by a triangle filter.

References: ITU-T T.81 (1992), annex K for the tables; C. Loeffler, A. Ligtenberg and G. Moschytz,
Practical fast 1-D DCT algorithms with 11 multiplications, ICASSP 1989. Deviations: none that shows.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.ops import loops

SCALE = 13  # bits of a matrix entry
EXTRA = 2  # bits kept between the two passes

LUMINANCE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMINANCE = (
    """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99"""
    + " 99" * 32
)


def roundtrip(images: Tensor, quality: int, codec: str) -> Tensor:
    """Return uint8 images (N, 3, H, W) as they come back from a JPEG file.

    Args:
        quality: 1 to 100, on the codecs' common scale.
        codec: "libjpeg" or "libjpeg-turbo".
    """
    if images.device.type == "cpu" and loops.has_loops():
        return _by_loops(images, quality, codec)
    return _by_products(images, quality, codec)


def _by_loops(images: Tensor, quality: int, codec: str) -> Tensor:
    from harness.suites.corruptions import integers

    out, dct8 = torch.empty_like(images), _dct8()
    chroma = _dct16() if codec == "libjpeg" else dct8
    integers.roundtrip(images.numpy(), _tables(quality), dct8, chroma, out.numpy())
    return out


def _by_products(images: Tensor, quality: int, codec: str) -> Tensor:
    height, width = images.shape[2:]
    x = images.to(torch.float64)
    if height % 16 or width % 16:  # the border is repeated up to whole blocks
        x = F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate")
    y, chroma = _to_ycc(x, precise=codec == "libjpeg")
    luminance, chrominance, forward, inverse, forward16, inverse16 = _as_tensors(
        quality, images.device
    )
    y = _code(y, luminance, forward, inverse, 8)
    if codec == "libjpeg":
        chroma = _code(chroma, chrominance, forward16, inverse16, 16)
    else:
        small = _halve(chroma)
        rows, columns = (height + 1) // 2, (width + 1) // 2
        small[..., rows:, :] = small[..., rows - 1 : rows, :]  # this codec halves, then repeats
        small = _code(small, chrominance, forward, inverse, 8)
        chroma = _double(small[..., :rows, :columns])
    y, chroma = y[:, 0, :height, :width], chroma[..., :height, :width]
    return _to_rgb(y, chroma, precise=codec == "libjpeg")


def _shift(x: Tensor, bits: int) -> Tensor:
    # A shift to the right that rounds halves up, on integers held by floats.
    return x.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _fix(x: float, bits: int = SCALE) -> int:
    return int(x * 2**bits + 0.5)


def _to_ycc(x: Tensor, precise: bool) -> tuple[Tensor, Tensor]:
    r, g, b = x.unbind(1)
    y = _shift(r * 19595 + g * 38470 + b * 7471, 16) - 128
    # The older codec has five digits of its coefficients, the newer one nine.
    cb_r, cb_g = (11058, 21710) if precise else (11059, 21709)
    cr_g, cr_b = (27439, 5329)
    cb = b * 32768 - r * cb_r - g * cb_g
    cr = r * 32768 - g * cr_g - b * cr_b
    chroma = torch.stack([cb, cr], 1).sub_(1)
    return y[:, None], _shift(chroma, 16)


def _to_rgb(y: Tensor, chroma: Tensor, precise: bool) -> Tensor:
    cb, cr = (chroma - 128).unbind(1)
    out = torch.empty((len(y), 3, *y.shape[1:]), dtype=torch.uint8, device=y.device)
    green = 22553 if precise else 22554
    out[:, 0] = _shift(cr * 91881, 16).add_(y).clamp_(0, 255)
    out[:, 1] = _shift(cb * -green - cr * 46802, 16).add_(y).clamp_(0, 255)
    out[:, 2] = _shift(cb * 116130, 16).add_(y).clamp_(0, 255)
    return out


def _code(x: Tensor, table: Tensor, forward: Tensor, inverse: Tensor, size: int) -> Tensor:
    """Return planes (N, C, H, W) after their coefficients were rounded to multiples of a table.

    Args:
        x: Around 0; the result is in 0..255.
        table: (8, 8) steps.
        forward: (8, size) integers, `inverse`: (size, 8).
        size: Side of a block in x, 8 or 16; 8 x 8 coefficients remain of it.
    """
    n, c, height, width = x.shape
    across, down = width // size, height // size
    half = (size == 16) * 2  # bits: (8 / 16)^2
    rows = _shift(x.reshape(-1, size) @ forward.T, SCALE - EXTRA)
    blocks = rows.view(n * c * down, size, across * 8)
    k = torch.bmm(forward.expand(len(blocks), *forward.shape), blocks)
    k = _shift(k, SCALE + EXTRA + half)  # 8 times the coefficients
    step = (8 * table).repeat(1, across)
    k = k.abs().add_((step / 2).floor_()).div_(step).floor_().copysign_(k).mul_(step / 8)
    back = _shift(torch.bmm(inverse.expand(len(k), *inverse.shape), k), SCALE - EXTRA)
    back = _shift(back.view(-1, 8) @ inverse.T, SCALE + EXTRA + 3)
    return back.add_(128).clamp_(0, 255).view(n, c, height, width)


def _halve(x: Tensor) -> Tensor:
    total = x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]
    total[..., ::2] += 1
    total[..., 1::2] += 2
    return total.mul_(0.25).floor_()


def _double(x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    padded = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
    tall = torch.stack([3 * x + padded[:, :, :-2], 3 * x + padded[:, :, 2:]], 3)
    tall = tall.view(n, c, 2 * height, width)
    wide = torch.cat([tall[..., :1], tall, tall[..., -1:]], 3)
    left, right = 3 * tall + wide[..., :-2], 3 * tall + wide[..., 2:]
    both = torch.stack([left.add_(8), right.add_(7)], 4)
    return both.view(n, c, 2 * height, 2 * width).mul_(1 / 16).floor_()


@functools.cache
def _as_tensors(quality: int, device: torch.device) -> list[Tensor]:
    """Return both tables, then both matrices of a block of 8 and of 16, float64."""
    arrays = (*_tables(quality), *_dct8(), *_dct16())
    return [torch.tensor(array, dtype=torch.float64, device=device) for array in arrays]


@functools.cache
def _tables(quality: int) -> np.ndarray:
    """Return the steps of luminance and chrominance, int32 (2, 8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array([text.split() for text in (LUMINANCE, CHROMINANCE)], dtype=np.int32)
    return np.clip((base * scale + 50) // 100, 1, 255).reshape(2, 8, 8)


@functools.cache
def _dct8() -> tuple[np.ndarray, np.ndarray]:
    """Return the integer matrices (8, 8) of the transform and its inverse, its transpose."""
    x = np.eye(8, dtype=np.int64)
    even, odd = x[:4] + x[:3:-1], x[:4] - x[:3:-1]
    e0, e1, d0, d1 = even[0] + even[3], even[1] + even[2], even[0] - even[3], even[1] - even[2]
    shared = (d0 + d1) * _fix(0.541196100)
    o0, o1, o2, o3 = odd
    a = (o0 + o1 + o2 + o3) * _fix(1.175875602)
    outer, inner = (o3 + o0) * -_fix(0.899976223), (o2 + o1) * -_fix(2.562915447)
    left, right = a + (o3 + o1) * -_fix(1.961570560), a + (o2 + o0) * -_fix(0.390180644)
    matrix = np.stack(
        [
            (e0 + e1) << SCALE,
            o0 * _fix(1.501321110) + outer + right,
            shared + d0 * _fix(0.765366865),
            o1 * _fix(3.072711026) + inner + left,
            (e0 - e1) << SCALE,
            o2 * _fix(2.053119869) + inner + right,
            shared - d1 * _fix(1.847759065),
            o3 * _fix(0.298631336) + outer + left,
        ]
    )
    forward = matrix.astype(np.int32)
    return forward, forward.T.copy()


@functools.cache
def _dct16() -> tuple[np.ndarray, np.ndarray]:
    """Return the integer matrices (8, 16) and (16, 8) between 16 values and 8 coefficients.

    With c_k = sqrt(2) cos(k pi / 32), rows are 2^13 c_(k (2 j + 1)) but for the rounding of sums
    of products, which the factors below share in a way of their own, each way another.
    """
    c = np.sqrt(2) * np.cos(np.arange(16) * np.pi / 32)

    def f(*signed: int) -> int:
        return _fix(sum(np.sign(k) * c[abs(k)] for k in signed))

    x = np.eye(16, dtype=np.int64)
    s, o = x[:8] + x[:7:-1], x[:8] - x[:7:-1]
    e, d = s[:4] + s[:3:-1], s[:4] - s[:3:-1]
    shared = (d[3] - d[1]) * f(14) + (d[0] - d[2]) * f(2)
    t1 = (o[0] + o[1]) * f(3) + (o[6] - o[7]) * f(13)
    t2 = (o[0] + o[2]) * f(5) + (o[5] + o[7]) * f(11)
    t3 = (o[0] + o[3]) * f(7) + (o[4] - o[7]) * f(9)
    t4 = (o[1] + o[2]) * f(15) + (o[6] - o[5]) * f(1)
    t5 = (o[1] + o[3]) * -f(11) + (o[4] + o[6]) * -f(5)
    t6 = (o[2] + o[3]) * -f(3) + (o[5] - o[4]) * f(13)
    forward = np.stack(
        [
            e.sum(0) << SCALE,
            t1 + t2 + t3 - o[0] * f(7, 5, 3, -1) + o[7] * f(15, 13, -11, 9),
            shared + d[1] * f(6, 14) + d[2] * f(2, 10),
            t1 + t4 + t5 + o[1] * f(9, -3, -15, 11) - o[6] * f(7, 13, 1, -5),
            (e[0] - e[3]) * f(4) + (e[1] - e[2]) * f(12),
            t2 + t4 + t6 - o[2] * f(7, 5, 15, -3) + o[5] * f(9, -11, 1, -13),
            shared - d[0] * f(2, -6) - d[3] * f(10, 14),
            t3 + t5 + t6 + o[3] * f(15, 3, 11, -7) + o[4] * f(1, 13, 5, -9),
        ]
    )
    k = np.eye(8, dtype=np.int64)
    base, c4, c12 = k[0] << SCALE, k[4] * f(4), k[4] * f(12)
    z3, z4 = (k[2] - k[6]) * f(2), (k[2] - k[6]) * f(14)
    a = [z3 + k[6] * f(6, 2), z4 + k[2] * f(6, -14), z3 - k[2] * f(2, -10), z4 - k[6] * f(10, -14)]
    b = [base + c4, base + c12, base - c12, base - c4]
    evens = [b[i] + a[i] for i in range(4)] + [b[i] - a[i] for i in (3, 2, 1, 0)]
    z1, z2, z3, z4 = k[1], k[3], k[5], k[7]
    p35, m35 = (z2 + z3) * f(15), (z3 - z2) * f(1)
    q37, r37 = (z2 + z4) * -f(11), (z2 + z4) * -f(5)
    q57, r57 = (z3 + z4) * -f(3), (z4 - z3) * f(13)
    u1, u2, u3 = (z1 + z2) * f(3), (z1 + z3) * f(5), (z1 + z4) * f(7)
    v0, v1, v2 = (z1 - z4) * f(9), (z1 + z3) * f(11), (z1 - z2) * f(13)
    odds = [
        u1 + u2 + u3 - z1 * f(7, 5, 3, -1),
        u1 + p35 + z2 * f(9, 11, -3, -15) + q37,
        u2 + p35 - z3 * f(5, 7, 15, -3) + q57,
        u3 + q37 + z4 * f(3, 11, 15, -7) + q57,
        v0 + r37 + z4 * f(1, 5, 9, -13) + r57,
        v1 + m35 - z3 * f(1, 11, -9, -13) + r57,
        v2 + m35 + z2 * f(1, 5, 13, -7) + r37,
        v0 + v1 + v2 - z1 * f(9, 11, 13, -15),
    ]
    inverse = [p + q for p, q in zip(evens, odds, strict=True)]
    inverse += [p - q for p, q in zip(evens[::-1], odds[::-1], strict=True)]
    return forward.astype(np.int32), np.stack(inverse).astype(np.int32)
