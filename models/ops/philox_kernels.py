"""The generator of `philox` as a loop, compiled by numba at its first call and kept."""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled

Array = Any  # np.ndarray of uint64, as `k0`, `k1` and `level` are np.uint64

HALF, MASK = np.uint64(32), np.uint64(0xFFFFFFFF)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@compiled
def fill(out: Array, k0: Any, k1: Any, level: Any, draws: Array, indices: Array) -> None:
    """Fill (rows, 4, blocks) with the words of each row's draw and index (rows,) and each block."""
    for row in range(out.shape[0]):
        draw, index = draws[row], indices[row]
        for b in range(out.shape[2]):
            c0, c1, c2, c3 = np.uint64(b), draw, level, index
            a, e = k0, k1
            for _ in range(10):
                p0, p1 = c0 * M0, c2 * M1
                c0, c1 = (p1 >> HALF) ^ c1 ^ a, p1 & MASK
                c2, c3 = (p0 >> HALF) ^ c3 ^ e, p0 & MASK
                a, e = (a + W0) & MASK, (e + W1) & MASK
            out[row, 0, b], out[row, 1, b], out[row, 2, b], out[row, 3, b] = c0, c1, c2, c3
