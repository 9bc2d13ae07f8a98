"""Perona-Malik steps on a CPU by loops that numba compiles: several times as fast as torch's calls.

A step is divisions and little else, if what it reads and writes stays in the innermost cache. One
call of torch for each sum and product goes through memory each time; a loop over the pixels of some
planes that does all of a step does not. Threads share the fields; the numbers do not depend on how
many there are, nor on the batch.

The first call on a machine compiles for some seconds; what was compiled is kept beside this file,
or, where that cannot be written, in the user's cache. HARNESS_OPS=reference does without.
"""

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.models.ops.loops import has_loops

ROW = 256  # elements of the planes side by side
HISTORY = 1 << 18  # elements of all states of the planes side by side, for the way back: 1 MiB
LEAST = 1 << 20  # elements times steps for each thread; below, starting it takes as long


def usable(u: Tensor, edge_stop: str, sigma: float) -> bool:
    """Return whether there are compiled loops for a state: rational edge stop, no smoothing."""
    if u.device.type != "cpu" or edge_stop != "rational" or sigma or not u.numel():
        return False
    return has_loops()


def march(fields: Tensor, kappa: Tensor, dt: float, num_steps: int) -> Tensor:
    """Return fields (F, G, H, W) after the steps, of their dtype; kappa (F,)."""
    from harness.models.ops import planes_kernels as kernels  # numba takes a second to import

    u, scales, number = _arrays(fields, kappa)
    out = np.empty_like(u)
    n = max(1, ROW // u.shape[3])

    def part(rows: slice) -> None:
        kernels.perona_malik(u[rows], scales[rows], number(dt), num_steps, n, out[rows])

    _share(part, u, n, num_steps)
    return torch.from_numpy(out)


def march_backward(
    grads: Tensor, fields: Tensor, kappa: Tensor, dt: float, num_steps: int, with_kappa: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients for fields (F, G, H, W) and for kappa (F,), float64.

    The latter is (0,) unless `with_kappa`.
    """
    from harness.models.ops import planes_kernels as kernels

    u, scales, number = _arrays(fields, kappa)
    grad = _array(grads, u.dtype)
    out, rates = np.empty_like(u), np.zeros(len(u) if with_kappa else 0)
    _, planes, height, width = u.shape
    states = max(num_steps, 1) * planes * (height + 1) * width
    n = max(1, min(ROW // width, HISTORY // states))

    def part(rows: slice) -> None:
        kernels.perona_malik_backward(
            grad[rows], u[rows], scales[rows], number(dt), num_steps, n, out[rows], rates[rows]
        )

    _share(part, u, n, 3 * num_steps)
    return torch.from_numpy(out), torch.from_numpy(rates)


def _arrays(fields: Tensor, kappa: Tensor) -> tuple[np.ndarray, np.ndarray, Any]:
    dtype = np.float64 if fields.dtype == torch.float64 else np.float32
    return _array(fields, dtype), _array(kappa, dtype), dtype


def _array(values: Tensor, dtype: Any) -> np.ndarray:
    real = torch.float64 if dtype == np.float64 else torch.float32
    return values.detach().to(real).contiguous().numpy()


def _share(part: Callable[[slice], None], u: np.ndarray, n: int, num_steps: int) -> None:
    """Do all fields, in as many threads as torch may use and as it pays."""
    blocks = -(-len(u) // n)
    threads = min(torch.get_num_threads(), blocks, 1 + u.size * num_steps // LEAST)
    if threads == 1:
        part(slice(len(u)))
        return
    ends = [n * (blocks * i // threads) for i in range(threads)] + [len(u)]
    rows = [slice(a, b) for a, b in itertools.pairwise(ends)]
    list(_pool(os.getpid(), threads).map(part, rows))


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # A forked process has none of its parent's threads.
    return ThreadPoolExecutor(threads)
