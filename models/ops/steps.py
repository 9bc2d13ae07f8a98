"""Steps of explicit diffusion: (t, dt, num_steps) to a checked step size and a number of steps.

    dt * diffusivity <= 1 / 4,

the limit of forward Euler on the five-point Laplacian, pixel pitch 1: the fastest mode of a step,
1 - 8 dt, stays in [-1, 1], and each new pixel is a convex combination of old ones.
"""

import math

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

MAX_DT = 0.25  # pixel², diffusivity counted in
SLACK = 1e-6  # relative; one rounding of a float32 step size is no instability

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_state(u: Tensor) -> None:
    """Refuse what is no floating point state (N, C, H, W)."""
    if u.ndim != 4:
        raise ValueError(
            f"`u` must have shape (N, C, H, W); got {tuple(u.shape)}. "
            "Give one image as `u[None]`, one plane as `u[None, None]`."
        )
    if u.dtype not in DTYPES:
        raise ValueError(
            f"`u` must be float16, bfloat16, float32 or float64; got {u.dtype}. "
            "Convert images with `u.float() / 255`."
        )


def is_far(x: Tensor) -> bool:
    """Say whether the values of `x` are out of reach: on a device, compiling, or not there."""
    return torch.compiler.is_compiling() or x.device.type != "cpu" or isinstance(x, FakeTensor)


def values_of(x: Tensor) -> Tensor:
    """Return what `x` holds, for all of a vmap and without what autograd adds."""
    if torch.compiler.is_compiling():
        return x.detach()
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.detach()


def resolve(
    t: float | None, dt: float | None, num_steps: int | None
) -> tuple[float, int | None, str]:
    """Return the time, the number of steps (None: to be chosen) and the words for one step's size.

    Exactly `t`, `t` and `num_steps`, `t` and `dt`, or `dt` and `num_steps` determine a march.
    """
    given = [name for name, v in (("t", t), ("dt", dt), ("num_steps", num_steps)) if v is not None]
    if given not in (["t"], ["t", "num_steps"], ["t", "dt"], ["dt", "num_steps"]):
        raise ValueError(
            "Two of `t`, `dt` and `num_steps`, or `t` alone, determine the steps; "
            f"got {' and '.join(f'`{name}`' for name in given) or 'none of them'}. "
            "Give for example `t=2.0`, or `dt=0.2, num_steps=10`."
        )
    for name, value in (("t", t), ("dt", dt)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            cure = (
                "Diffusion cannot run backwards."
                if value < 0
                else f"Give a finite `{name}` in pixel²."
            )
            raise ValueError(f"`{name}` must be >= 0 and finite; got {name}={value}. {cure}")
    if num_steps is not None:
        if num_steps < 0 or (num_steps == 0 and t):
            least = "1 for t > 0" if t else "0"
            raise ValueError(
                f"`num_steps` must be >= {least}; got num_steps={num_steps}. "
                "Leave it out for the fewest stable steps."
            )
        if t is not None:
            return t, num_steps, "t / num_steps"
        assert dt is not None
        return num_steps * dt, num_steps, "dt"
    assert t is not None
    if dt is None:
        return t, None, "t / num_steps"
    whole = round(t / dt) if dt > 0 else 0
    if abs(whole * dt - t) > 1e-9 * t:
        raise ValueError(
            f"`t` must be a whole number of steps; got t={t}, dt={dt}. "
            "Give `t` and `num_steps`, and dt is t / num_steps."
        )
    return t, whole, "dt"


def fewest(t: float, diffusivity: float = 1.0) -> int:
    """Return the fewest stable steps of forward Euler to time `t`."""
    return max(1, math.ceil(diffusivity * t / MAX_DT * (1 - SLACK)))


def check_step(t: float, num_steps: int, words: str, diffusivity: float = 1.0) -> None:
    """Refuse steps of forward Euler beyond the stability limit."""
    if num_steps and diffusivity * t / num_steps > MAX_DT * (1 + SLACK):
        if diffusivity != 1.0:
            words = f"diffusivity * {words}"
        raise ValueError(
            f"Step size {words} = {diffusivity * t / num_steps:.6g} exceeds the stability limit "
            f"{MAX_DT}. Use num_steps >= {fewest(t, diffusivity)} for t = {t:.6g}, "
            "or give `t` alone."
        )
