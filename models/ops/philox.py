"""Random numbers as a function of a key and a position: no state, no order.

    (w_0, w_1, w_2, w_3) = Philox4x32-10(counter = (block, draw ^ high, level, low), key),
    key                  = the first 64 bits of SHA-256("seed:purpose"),
    index                = low + 2^32 high, so that high is 0 for a position in a data set.

Row i of a result depends on `indices[i]` alone beside the arguments that all rows share, so it is
the same in any batch, in any order, on any device. A row of n numbers takes B = ceil(n / 4) blocks;
word w of block b is its number w B + b, counted in the memory order of the row. The words are
integers, equal on every device; normals go through float32 log, cos and sin, whose last bits may
differ between devices.

The generator is ten rounds on four 32-bit words, with the constants M0, M1, W0, W1 below:

    c0, c1, c2, c3 = hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0),
    k0, k1 = k0 + W0, k1 + W1            (modulo 2^32)

Here words are the low halves of int64, whose product wraps modulo 2^64, which keeps all 64 bits.
The work is done in blocks that stay in a core's cache, in place; long rows on a CPU by a compiled
loop, eight times as fast. HARNESS_OPS=reference does without it.

Reference: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, Parallel random numbers: as easy
as 1, 2, 3, SC 2011, https://doi.org/10.1145/2063384.2063405. Deviations: none.
"""

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.models.ops.loops import has_loops

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # what a key grows by in a round: golden ratio, sqrt(3) - 1
MASK = 0xFFFFFFFF
ROUNDS = 10
CACHED = 1 << 16  # counters in a block of work on the CPU: 512 KiB for each of six buffers
RESIDENT = 1 << 24  # the same on other devices, where only memory limits it
LONG = (
    1 << 12
)  # counters of a row from which on the loop is worth the second that numba's import takes

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Return four words for each counter.

    Args:
        counter: Four int64 tensors that broadcast together, values in 0..2^32-1.
        key: Two integers in 0..2^32-1.
    """
    c0, c1, c2, c3 = counter
    shape = torch.broadcast_shapes(*(c.shape for c in counter))
    k0, k1 = key
    p0 = p1 = torch.empty(0)
    for i in range(ROUNDS):
        if i < 3:  # words that do not depend on all of the counter yet stay as small as they are
            p0, p1 = c0 * M0, c2 * M1
            c0, c2 = (p1 >> 32) ^ c1 ^ k0, (p0 >> 32) ^ c3 ^ k1
        else:
            if i == 3:
                c0, c1, c2, c3 = (c.expand(shape).clone() for c in (c0, c1, c2, c3))
                p0, p1 = torch.empty_like(c0), torch.empty_like(c0)
            torch.mul(c0, M0, out=p0)
            torch.mul(c2, M1, out=p1)
            torch.bitwise_right_shift(p1, 32, out=c0).bitwise_xor_(c1).bitwise_xor_(k0)
            torch.bitwise_right_shift(p0, 32, out=c2).bitwise_xor_(c3).bitwise_xor_(k1)
        c0 &= MASK  # what is above 32 bits would spoil the next product;
        c2 &= MASK
        c1, p1 = p1, c1  # c1 and c3 are cleaned by the masks of the next round
        c3, p0 = p0, c3
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1.bitwise_and_(MASK), c2, c3.bitwise_and_(MASK)


def key(seed: int, purpose: str) -> tuple[int, int]:
    """Return the two words of the key for `seed` and what the numbers are for."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def words(
    shape: Sequence[int], seed: int, purpose: str, level: int, indices: Tensor, draw: int = 0
) -> Tensor:
    """Return int64 numbers uniform in 0..2^32-1.

    Args:
        shape: `shape[0]` must be the number of `indices`.
        seed, purpose: The key.
        level: Severity, or another small integer that tells conditions apart.
        indices: (N,) int64, the images' positions in their data set, or any keys >= 0.
        draw: Number of the draw, of several for one image.

    Raises:
        ValueError: `indices` do not fit `shape` or are negative, or `level` or `draw` is outside of
            32 bits.
    """
    return _fill(shape, torch.int64, seed, purpose, level, indices, draw, lambda w, out: w)


def uniform(
    shape: Sequence[int], seed: int, purpose: str, level: int, indices: Tensor, draw: int = 0
) -> Tensor:
    """Return float32 numbers uniform in [0, 1), multiples of 2^-24; arguments of `words`."""
    return _fill(shape, torch.float32, seed, purpose, level, indices, draw, _uniform)


def normal(
    shape: Sequence[int], seed: int, purpose: str, level: int, indices: Tensor, draw: int = 0
) -> Tensor:
    """Return float32 standard normal numbers by Box and Muller; arguments of `words`.

        r = sqrt(-2 log((w_0 + 1/2) / 2^32)),  a = 2 pi w_1 / 2^32,  numbers r cos a, r sin a,

    and the same of w_2, w_3. No number is beyond 6.8.
    """
    return _fill(shape, torch.float32, seed, purpose, level, indices, draw, _normal)


def integers(
    shape: Sequence[int],
    low: int,
    high: int,
    seed: int,
    purpose: str,
    level: int,
    indices: Tensor,
    draw: int = 0,
) -> Tensor:
    """Return int64 numbers uniform in low..high-1, low + floor(w (high - low) / 2^32).

    The other arguments are those of `words`. A value's probability is off by at most 2^-32.

    Raises:
        ValueError: The range is empty or wider than 2^31, or as in `words`.
    """
    if not 0 < high - low <= 1 << 31:
        raise ValueError(f"`high - low` must lie in 1..2^31; got {high - low}. Exchange the ends.")
    return (words(shape, seed, purpose, level, indices, draw) * (high - low) >> 32) + low


def _uniform(w: Words, out: Words) -> Words:
    for word, part in zip(w, out, strict=True):
        part.copy_(word.bitwise_right_shift_(8)).mul_(2.0**-24)
    return out


def _normal(w: Words, out: Words) -> Words:
    for i in (0, 2):
        radius, angle = out[i], out[i + 1]
        radius.copy_(w[i]).add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle.copy_(w[i + 1]).mul_(2 * math.pi * 2.0**-32)
        sine = angle.sin()
        angle.cos_()
        sine.mul_(radius)
        radius.mul_(angle)
        angle.copy_(sine)
    return out


def _fill(
    shape: Sequence[int],
    dtype: torch.dtype,
    seed: int,
    purpose: str,
    level: int,
    indices: Tensor,
    draw: int,
    transform: Callable[[Words, Words], Words],
) -> Tensor:
    wide = _check(shape, level, indices, draw)
    device, count, size = indices.device, len(indices), math.prod(shape[1:])
    blocks = (size + 3) // 4
    out = torch.empty((count, 4, blocks), dtype=dtype, device=device)
    if not out.numel():
        return out.flatten().reshape(tuple(shape))
    block = torch.arange(blocks, device=device)
    level_word = torch.tensor([[level]], device=device)
    draw_word = torch.tensor([[draw]], device=device)
    pair = key(seed, purpose)
    rows = max(1, (CACHED if device.type == "cpu" else RESIDENT) // blocks)
    compiled = blocks >= LONG and device.type == "cpu" and has_loops()
    for start in range(0, count, rows):
        index, part = indices[start : start + rows, None], _unbound(out[start : start + rows])
        # Alike for all rows where indices are positions, which saves work.
        draw_words = draw_word ^ (index >> 32) if wide else draw_word
        if compiled:
            whole = out[start : start + rows]
            numbers = whole if dtype == torch.int64 else torch.empty_like(whole, dtype=torch.int64)
            _loop(numbers, pair, level, draw_words.expand_as(index), index & MASK)
            w = _unbound(numbers)
        else:
            w = philox4x32((block, draw_words, level_word, index & MASK), pair)
        for target, result in zip(part, transform(w, part), strict=True):
            if target is not result:
                target.copy_(result)
    return out.view(count, -1)[:, :size].reshape(tuple(shape))


def _loop(out: Tensor, pair: tuple[int, int], level: int, draws: Tensor, indices: Tensor) -> None:
    """Fill int64 (rows, 4, blocks) with words; draws, indices (rows, 1)."""
    from harness.models.ops import philox_kernels as kernels  # numba takes a second to import

    draw, index = (np.ascontiguousarray(t.numpy()[:, 0]).view(np.uint64) for t in (draws, indices))
    k0, k1, c2 = (np.uint64(number) for number in (*pair, level))
    kernels.fill(out.numpy().view(np.uint64), k0, k1, c2, draw, index)


def _unbound(rows: Tensor) -> Words:
    return rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]


def _check(shape: Sequence[int], level: int, indices: Tensor, draw: int) -> bool:
    """Return whether an index has more than 32 bits."""
    if indices.ndim != 1 or indices.dtype != torch.int64:
        raise ValueError(
            f"`indices` must be int64 of shape (N,); got {indices.dtype} of shape "
            f"{tuple(indices.shape)}. Give each image's position in its data set."
        )
    if not shape or shape[0] != len(indices):
        raise ValueError(
            f"`shape[0]` must be the number of `indices`, {len(indices)}; got {tuple(shape)}. "
            "Give one row an index."
        )
    for name, value in (("level", level), ("draw", draw)):
        if not 0 <= value <= MASK:
            raise ValueError(f"`{name}` must lie in 0..2^32-1; got {value}. Count from 0.")
    if not len(indices):
        return False
    low, high = (int(v) for v in indices.aminmax())
    if low < 0:
        raise ValueError(
            f"`indices` must be >= 0; got {low}..{high}. "
            "Give positions in the data set, counted from 0."
        )
    return high > MASK
