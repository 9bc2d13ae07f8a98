"""Loops over the entries of a state, compiled by numba at their first call and kept.

A product and the sum that takes it have one rounding ("contracted"), as in PyTorch's
`add(alpha=...)`; nothing else may be changed by the compiler.
"""

from typing import Any

from numba import njit

Array = Any  # np.ndarray
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@compiled
def scale(x: Array, dt: Array, out: Array) -> None:
    """Write x (M, D), times dt (M,), to `out`."""
    for row in range(len(x)):
        h, p, q = dt[row], x[row], out[row]
        for i in range(len(p)):
            q[i] = p[i] * h


@compiled
def add_terms(
    u: Array, terms: int, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any,
    k1: Array, k2: Array, k3: Array, k4: Array, k5: Array, k6: Array, out: Array,
) -> None:  # fmt: skip
    """Write u + a k1 + b k2 + ... to `out`, of as many terms, at most 6; all (M, D)."""
    for row in range(len(u)):
        x, y = u[row], out[row]
        p, q, r, s, t, v = k1[row], k2[row], k3[row], k4[row], k5[row], k6[row]
        if terms == 1:
            for i in range(len(x)):
                y[i] = x[i] + a * p[i]
        elif terms == 2:
            for i in range(len(x)):
                y[i] = x[i] + a * p[i] + b * q[i]
        elif terms == 3:
            for i in range(len(x)):
                y[i] = x[i] + a * p[i] + b * q[i] + c * r[i]
        elif terms == 4:
            for i in range(len(x)):
                z = x[i] + a * p[i] + b * q[i] + c * r[i]
                y[i] = z + d * s[i]
        elif terms == 5:
            for i in range(len(x)):
                z = x[i] + a * p[i] + b * q[i] + c * r[i]
                y[i] = z + d * s[i] + e * t[i]
        else:
            for i in range(len(x)):
                z = x[i] + a * p[i] + b * q[i] + c * r[i]
                y[i] = z + d * s[i] + e * t[i] + f * v[i]


@compiled
def square_of_error(
    u: Array, new: Array, terms: int,
    a: Any, b: Any, c: Any, d: Any, e: Any, f: Any,
    k1: Array, k2: Array, k3: Array, k4: Array, k5: Array, k6: Array,
    rtol: Any, atol: Any, out: Array,
) -> None:  # fmt: skip
    """Write the square of (a k1 + b k2 + ...) / bound to `out`; all (M, D)."""
    zero = a - a
    for row in range(len(u)):
        x, x_new, y = u[row], new[row], out[row]
        p, q, r, s, t, v = k1[row], k2[row], k3[row], k4[row], k5[row], k6[row]
        for i in range(len(x)):
            z = zero + a * p[i] + b * q[i]
            if terms > 2:
                z = z + c * r[i]
            if terms > 3:
                z = z + d * s[i]
            if terms > 4:
                z = z + e * t[i] + f * v[i]
            bound = (
                max(abs(x[i]) * rtol, abs(x_new[i]) * rtol) + atol
            )  # a maximum is not contracted
            ratio = z / bound
            y[i] = ratio * ratio
