"""The copies of glass_blur as a loop over pixels, compiled by numba at its first call and kept."""

from typing import Any

from numba import njit

Array = Any  # np.ndarray


@njit(nogil=True, cache=True)
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
