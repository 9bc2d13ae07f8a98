"""Loops over planes side by side, compiled by numba at their first call and kept for the next.

State and result are fields (F, G, H, W), contiguous: F of them, G planes each that share one
conductance. `n` fields at a time lie side by side in `v` (G, H + 1, n W + 1), so that the innermost
loop is long whatever W is, and what is worked on fits into the innermost cache. The last row and
column of `v` make the face beyond the border one without a difference. Rows are replaced in order:
a row's old values are needed no more when the fluxes through its faces are known.

Nothing is reassociated or contracted: numbers do not depend on the width of the vector unit, on `n`
or on the other fields.
"""

from typing import Any

import numpy as np

from harness.models.ops.loops import compiled

Array = Any  # np.ndarray, float32 or float64


@compiled
def _load(u: Array, start: int, count: int, scale: Array, v: Array) -> None:
    # Fields u[start : start + count], each divided by its scale, side by side.
    _, G, H, W = u.shape
    for p in range(count):
        for c in range(G):
            for i in range(H):
                for j in range(W):
                    v[c, i, p * W + j] = u[start + p, c, i, j] / scale[start + p]


@compiled
def _inside(n: int, W: int) -> Array:
    # Whether a pixel of a row has a right neighbor in its plane.
    found = np.ones(n * W, np.bool_)
    found[W - 1 :: W] = False
    return found


@compiled
def _close(v: Array) -> None:
    # Make the row beyond the last one equal to it.
    G, rows, _ = v.shape
    for c in range(G):
        v[c, rows - 1] = v[c, rows - 2]


@compiled
def _resistances(v: Array, i: int, inside: Array, right: Array, down: Array) -> None:
    # 1 + q of the faces to the right of and below row i, q = sum_c d².
    one = v.dtype.type(1)
    L = len(inside)
    right[:] = one
    down[:] = one
    for c in range(v.shape[0]):
        for j in range(L):
            d = v[c, i, j + 1] - v[c, i, j]
            right[j] += d * d
            e = v[c, i + 1, j] - v[c, i, j]
            down[j] += e * e


@compiled
def _step(
    v: Array,
    dt: float,
    inside: Array,
    into: Array,
    right: Array,
    down: Array,
    flux: Array,
    above: Array,
) -> None:
    # One step of Perona-Malik from `v` into `into`, which is another array: else no vectors.
    G, rows, _ = v.shape
    L, zero = len(inside), v.dtype.type(0)
    _close(v)
    above[:] = zero
    flux[0] = zero
    for i in range(rows - 1):
        _resistances(v, i, inside, right, down)
        for j in range(L):
            right[j] = dt / right[j]
            down[j] = dt / down[j]
        for c in range(G):
            for j in range(L):
                d = v[c, i, j + 1] - v[c, i, j]
                flux[j + 1] = right[j] * d if inside[j] else zero
            for j in range(L):
                below = down[j] * (v[c, i + 1, j] - v[c, i, j])
                into[c, i, j] = v[c, i, j] + ((flux[j + 1] - flux[j]) + (below - above[c, j]))
                above[c, j] = below


@compiled
def perona_malik(u: Array, kappa: Array, dt: float, steps: int, n: int, out: Array) -> None:
    """Write the state after `steps` steps of size `dt` into `out`; kappa (F,) is the edge scale."""
    F, G, H, W = u.shape
    L = n * W
    inside = _inside(n, W)
    v, into = np.zeros((G, H + 1, L + 1), out.dtype), np.zeros((G, H + 1, L + 1), out.dtype)
    right, down = np.empty(L, out.dtype), np.empty(L, out.dtype)
    flux, above = np.empty(L + 1, out.dtype), np.empty((G, L), out.dtype)
    for start in range(0, F, n):
        count = min(n, F - start)
        _load(u, start, count, kappa, v)
        for _ in range(steps):
            _step(v, dt, inside, into, right, down, flux, above)
            v, into = into, v
        for p in range(count):
            k = kappa[start + p]
            for c in range(G):
                for i in range(H):
                    for j in range(W):  # what does not move stays as it is, to the last bit
                        old = u[start + p, c, i, j]
                        out[start + p, c, i, j] = old + k * (v[c, i, p * W + j] - old / k)


@compiled
def _step_back(
    lam: Array,
    v: Array,
    dt: float,
    inside: Array,
    right: Array,
    down: Array,
    flux: Array,
    above: Array,
    rate: Array,
    with_rate: bool,
) -> None:
    # One step of the adjoint, `lam` in place, about the state `v` before the step.
    G, rows, _ = v.shape
    L, zero, one, two = len(inside), v.dtype.type(0), v.dtype.type(1), v.dtype.type(2)
    _close(lam)
    above[:] = zero
    flux[0] = zero
    turned, sunk = np.empty(L, v.dtype), np.empty(L, v.dtype)  # 2 g' sum_c e d of both faces
    for i in range(rows - 1):
        _resistances(v, i, inside, right, down)
        turned[:] = zero
        sunk[:] = zero
        for c in range(G):
            for j in range(L):
                turned[j] += (lam[c, i, j + 1] - lam[c, i, j]) * (v[c, i, j + 1] - v[c, i, j])
                sunk[j] += (lam[c, i + 1, j] - lam[c, i, j]) * (v[c, i + 1, j] - v[c, i, j])
        for j in range(L):
            g, h = one / right[j], one / down[j]
            turned[j] = -(two * g * g) * turned[j]
            sunk[j] = -(two * h * h) * sunk[j]
            if with_rate:
                beside = (right[j] - one) * turned[j] if inside[j] else zero
                rate[j] += dt * (beside + (down[j] - one) * sunk[j])
            right[j], down[j] = dt * g, dt * h
            turned[j], sunk[j] = dt * turned[j], dt * sunk[j]
        for c in range(G):
            for j in range(L):
                w = right[j] * (lam[c, i, j + 1] - lam[c, i, j])
                w += turned[j] * (v[c, i, j + 1] - v[c, i, j])
                flux[j + 1] = w if inside[j] else zero
            for j in range(L):
                below = down[j] * (lam[c, i + 1, j] - lam[c, i, j])
                below += sunk[j] * (v[c, i + 1, j] - v[c, i, j])
                lam[c, i, j] += (flux[j + 1] - flux[j]) + (below - above[c, j])
                above[c, j] = below


@compiled
def perona_malik_backward(
    grad: Array, u: Array, kappa: Array, dt: float, steps: int, n: int, out: Array, rates: Array
) -> None:
    """Write the gradient for the state into `out`, that for kappa into `rates` (F,) or (0,)."""
    F, G, H, W = u.shape
    L = n * W
    inside = _inside(n, W)
    past = np.zeros((max(steps, 1), G, H + 1, L + 1), out.dtype)
    lam = np.zeros((G, H + 1, L + 1), out.dtype)
    right, down = np.empty(L, out.dtype), np.empty(L, out.dtype)
    flux, above = np.empty(L + 1, out.dtype), np.empty((G, L), out.dtype)
    rate, ones = np.zeros(L, np.float64), np.ones(F, out.dtype)
    for start in range(0, F, n):
        count = min(n, F - start)
        _load(u, start, count, kappa, past[0])
        for k in range(steps - 1):
            _step(past[k], dt, inside, past[k + 1], right, down, flux, above)
        if steps:
            _close(past[steps - 1])
        _load(grad, start, count, ones, lam)
        rate[:] = 0
        for k in range(steps - 1, -1, -1):
            _step_back(lam, past[k], dt, inside, right, down, flux, above, rate, len(rates) > 0)
        for p in range(count):
            if len(rates):
                rates[start + p] = rate[p * W : (p + 1) * W].sum()
            for c in range(G):
                for i in range(H):
                    for j in range(W):
                        out[start + p, c, i, j] = lam[c, i, p * W + j]
