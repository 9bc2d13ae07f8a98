"""Weighted sums of slopes: all that a Runge-Kutta step does beside evaluating the field.

    u_i = u + sum_j a_ij (dt k_j),    ratio = sum_j e_j (dt k_j) / (atol + rtol max(|u|, |u_new|))

with a dt for every sample. Where nothing has a gradient, a CPU takes each sum in one compiled loop,
which reads every number once and writes nothing but the sum. PyTorch's calls read and write the sum
once a term; they serve gradients and devices. Either way the bits are the same, and so are steps
and evaluations: products round, and are added with one rounding, as PyTorch's `add(alpha=...)` does
with the vector units AVX2 and AVX512; on other processors there are no loops.

Importing numba takes a second. The loops are imported when PyTorch's calls have taken as long, or
when numba is there anyway.
"""

import sys
import threading
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.models.ops.loops import has_loops
from harness.models.ops.solvers.tableau import Row

MOST = 6  # terms of a sum in the loops; no method here has more
ENOUGH = 1 << 31  # elements of terms, which take PyTorch a second
SMALL = 1 << 14  # elements of a state, of which PyTorch's calls are as fast
SHORT = 64  # elements of a sample, likewise
VECTORS = ("AVX2", "AVX512")

KEPT = 64 << 20  # bytes

_kept = threading.local()
_summed = 0  # elements of terms so far


class Sums(Protocol):
    """The sums of one attempted step, from `u` (M, ...) with step sizes `dt` (M,)."""

    def add(self, slope: Tensor) -> None:
        """Take the next slope k_j, of the shape of u."""

    def state(self, weights: Row) -> Tensor:
        """Return u + sum_j weights_j (dt k_j), a new tensor."""

    def mean_square(self, weights: Row, u_new: Tensor, rtol: float, atol: float) -> Tensor:
        """Return the mean over each sample's entries of ratio², (M,)."""


class Room:
    """Memory for the terms of a step and one state more, taken when it is first used.

    Slopes are copied there, so that a field finds the memory of its last call free again: where it
    has to ask the system for other, each page costs more than the copy. For the same reason a
    thread keeps up to 64 MiB for its next solve; what solves inside a field takes its own.
    """

    def __init__(self, u: Tensor, stages: int) -> None:
        self.like, self.shape = u, (stages + 1, len(u), u[:1].numel())
        self.whole: Tensor | None = None

    def of(self, samples: int) -> list[Any]:
        """Return arrays (M, D) for so many samples."""
        if self.whole is None:
            kept, _kept.whole = getattr(_kept, "whole", None), None
            fits = kept is not None and kept.dtype == self.like.dtype and kept.shape == self.shape
            self.whole = kept if fits else self.like.new_empty(self.shape)
        assert self.whole is not None
        return [*self.whole[:, :samples].numpy()]

    def leave(self) -> None:
        """Leave the memory to the next solve of this thread."""
        if self.whole is not None and self.whole.nbytes <= KEPT:
            _kept.whole, self.whole = self.whole, None


def sums_of(u: Tensor, dt: Tensor, room: Room) -> Sums:
    """Return the sums of a step, as compiled loops where those are faster."""
    global _summed
    if torch.is_grad_enabled() or u.device.type != "cpu" or not u.is_contiguous():
        return TorchSums(u, dt)
    if u.numel() < max(SMALL, SHORT * len(u)):
        return TorchSums(u, dt)
    if "numba" not in sys.modules and _summed < ENOUGH:
        _summed += 4 * MOST * u.numel()
        return TorchSums(u, dt)
    return LoopSums(u, dt, room) if can_loop(u.dtype) else TorchSums(u, dt)


def can_loop(dtype: torch.dtype) -> bool:
    """Return whether loops give the bits that PyTorch gives, here and now."""
    return dtype in (torch.float32, torch.float64) and _has_vectors() and has_loops()


@cache
def _has_vectors() -> bool:
    return torch.backends.cpu.get_cpu_capability() in VECTORS


class TorchSums:
    """Sums as calls of PyTorch, which gradients go through."""

    def __init__(self, u: Tensor, dt: Tensor) -> None:
        self.u, self.dt = u, dt.view(-1, *[1] * (u.ndim - 1))
        self.kept: list[Tensor] = []  # dt k_j, so that every combination is a sum

    def add(self, slope: Tensor) -> None:
        self.kept.append(slope * self.dt)

    def state(self, weights: Row) -> Tensor:
        (weight, k), *others = ((w, k) for w, k in zip(weights, self.kept, strict=True) if w)
        found = torch.add(self.u, k, alpha=weight)
        for weight, k in others:
            found.add_(k, alpha=weight)  # a sum needs no values for its gradient
        return found

    def mean_square(self, weights: Row, u_new: Tensor, rtol: float, atol: float) -> Tensor:
        error = torch.zeros_like(u_new)
        for weight, k in zip(weights, self.kept, strict=True):
            if weight:
                error.add_(k, alpha=weight)
        bound = torch.maximum(self.u.detach().abs(), u_new.detach().abs())
        ratio = error / bound.mul_(rtol).add_(atol)
        return ratio.flatten(1).square().mean(1)


class LoopSums:
    """Sums as compiled loops."""

    def __init__(self, u: Tensor, dt: Tensor, room: Room) -> None:
        from harness.models.ops.solvers import sum_loops

        self.loops: Any = sum_loops
        self.like, self.u, self.dt = u, _rows(u), dt.numpy()
        self.square, *self.room = room.of(len(u))
        self.kept: list[Any] = []  # dt k_j

    def add(self, slope: Tensor) -> None:
        kept = self.room[len(self.kept)]
        self.loops.scale(_rows(slope.contiguous()), self.dt, kept)
        self.kept.append(kept)

    def _terms(self, weights: Row) -> tuple[Any, ...]:
        number, terms = self.u.dtype.type, []
        for weight, k in zip(weights, self.kept, strict=True):
            if weight:
                terms.append((number(weight), k))
        spare = MOST - len(terms)
        numbers = [w for w, _ in terms] + [number(0)] * spare
        return len(terms), *numbers, *(k for _, k in terms), *[self.u] * spare

    def state(self, weights: Row) -> Tensor:
        found = torch.empty_like(self.like)
        self.loops.add_terms(self.u, *self._terms(weights), _rows(found))
        return found

    def mean_square(self, weights: Row, u_new: Tensor, rtol: float, atol: float) -> Tensor:
        number, terms = self.u.dtype.type, self._terms(weights)
        bounds = number(rtol), number(atol)
        self.loops.square_of_error(self.u, _rows(u_new), *terms, *bounds, self.square)
        return torch.from_numpy(self.square).mean(1)


def _rows(x: Tensor) -> Any:
    """Return a state as an array of numpy's, a row a sample."""
    return x.detach().view(len(x), -1).numpy()
