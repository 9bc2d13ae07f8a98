"""Linear diffusion of the planes of an image, one diffusivity for all or one per channel.

    u_t = diffusivity * Laplacian(u)

on unit cells (dx = 1 pixel) with the five-point Laplacian L. The boundary says what a pixel at the
border sees beyond it: itself ("neumann", no flux), the opposite border ("periodic"), or 0
("dirichlet"). The schemes, with D the diffusivity, multiply the modes of L by

    "explicit"   (1 + D dt L)^K                   forward Euler, stable for D dt <= 1/4
    "implicit"   (1 - D dt L)^-K                  backward Euler, stable for every dt
    "exact"      exp(D t L)
    "fed"        prod_i (1 + D tau_i L)           K explicit steps of unequal size, for longer times

    tau_i = tau_max / (2 cos²(pi (2 i + 1) / (4 K + 2))),   sum_i tau_i = tau_max (K² + K) / 3 = t,

stable for D tau_max <= 1/4 though single tau_i are larger.

References: J. Weickert, Anisotropic Diffusion in Image Processing, Teubner 1998. S. Grewenig,
J. Weickert and A. Bruhn, From box filtering to fast explicit diffusion, DAGM 2010 ("fed").
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.models.ops import nvrtc, spectral, steps
from harness.models.ops.library import batched, define, differentiable, twice

NEGATIVE = "`diffusivity` must be >= 0 and finite; got {}. Diffusion cannot run backwards."
Context = Any  # torch's, of autograd
SCHEMES = ("explicit", "implicit", "exact", "fed")
MANY_STEPS = 64  # beyond, the eigenbasis takes less time than a kernel: its time does not grow
BOUNDARIES = ("neumann", "periodic", "dirichlet")


def heat(
    u: Tensor,
    t: float | None = None,
    *,
    dt: float | None = None,
    num_steps: int | None = None,
    diffusivity: float | Tensor = 1.0,
    scheme: str = "explicit",
    boundary: str = "neumann",
) -> Tensor:
    """Diffuse `u` for time `t`: u_t = diffusivity * Laplacian(u).

    Differentiable, also twice, in `u` and in `diffusivity`.

    Args:
        u: State (N, C, H, W), float16, bfloat16, float32 or float64; 16-bit states are diffused
            in float32 and rounded once.
        t: Time in pixel², >= 0. Alone, it takes the fewest stable steps; "implicit" takes one.
        dt: Step size in pixel²; for "fed" the mean of the steps.
        num_steps: Number of steps; of `t`, `dt` and `num_steps` two are enough. "exact" has none.
        diffusivity: >= 0; a float, a tensor of shape (), or one per channel (C,). On a CUDA
            device the limits of a tensor are checked without waiting for the device, and then
            "explicit" and "fed" need `num_steps`.
        scheme: "explicit", "implicit", "exact" or "fed".
        boundary: "neumann", "periodic" or "dirichlet".

    Returns:
        The diffused state: shape and dtype of `u`.

    Raises:
        ValueError: An argument is out of range; says the limit and the cure.
    """
    steps.check_state(u)
    for name, value, known in (("scheme", scheme, SCHEMES), ("boundary", boundary, BOUNDARIES)):
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {', '.join(known)}; got {value!r}. "
                f"Leave it out for {known[0]!r}."
            )
    t, num_steps, words = steps.resolve(t, dt, num_steps)
    largest = _largest(diffusivity, u)
    if num_steps is None:
        num_steps = _fewest(t, largest, scheme)
    if largest is None:
        assert isinstance(diffusivity, Tensor)
        _check_far(diffusivity, t, num_steps, scheme)
    elif scheme == "explicit":
        steps.check_step(t, num_steps, words, largest)
    elif scheme == "fed":
        _check_fed(t, num_steps, largest)
    taus = step_sizes(t, num_steps, scheme)
    kind = "explicit" if scheme == "fed" else scheme  # explicit steps of any size
    if isinstance(diffusivity, Tensor):
        diffusivity = diffusivity.to(u.device)
        return HEAT(u, diffusivity, taus, kind, boundary)
    return HEAT(u, None, [diffusivity * tau for tau in taus], kind, boundary)


def step_sizes(t: float, num_steps: int, scheme: str) -> list[float]:
    """Return the steps of `scheme` to time `t`; they sum to t."""
    if scheme == "exact":
        return [t]
    if scheme == "fed":
        tau_max = 3 * t / max(num_steps**2 + num_steps, 1)
        angles = (math.pi * (2 * i + 1) / (4 * num_steps + 2) for i in range(num_steps))
        return [tau_max / (2 * math.cos(angle) ** 2) for angle in angles]
    return [t / num_steps] * num_steps if num_steps else []


def _largest(diffusivity: float | Tensor, u: Tensor) -> float | None:
    # None where only the device knows.
    if not isinstance(diffusivity, Tensor):
        if not (diffusivity >= 0 and math.isfinite(diffusivity)):
            raise ValueError(NEGATIVE.format(diffusivity))
        return diffusivity
    if diffusivity.shape not in (torch.Size([]), u.shape[1:2]):
        raise ValueError(
            f"`diffusivity` must be a float or have shape () or ({u.shape[1]},), one per "
            f"channel; got {tuple(diffusivity.shape)}. Drop its other dimensions."
        )
    if steps.is_far(diffusivity):
        return None
    values = steps.values_of(diffusivity)
    smallest, largest = (float(v) for v in values.aminmax()) if values.numel() else (0.0, 0.0)
    if not (smallest >= 0 and math.isfinite(largest)):
        raise ValueError(NEGATIVE.format(smallest if smallest < 0 else largest))
    return largest


def _check_far(D: Tensor, t: float, num_steps: int, scheme: str) -> None:
    D = D.to(torch.promote_types(D.dtype, torch.float32))
    limit = torch.finfo(D.dtype).max
    if scheme in ("explicit", "fed") and t > 0:
        parts = num_steps if scheme == "explicit" else (num_steps**2 + num_steps) / 3
        limit = min(limit, steps.MAX_DT * (1 + steps.SLACK) * parts / t)
    torch._assert_async(
        D.clamp(0, limit).eq(D).all(),  # false for NaN
        f"`diffusivity` must be finite and between 0 and the stability limit {limit:.6g} of "
        f"{num_steps} steps to t = {t:.6g}. Clamp it, or take more steps.",
    )


def _fewest(t: float, diffusivity: float | None, scheme: str) -> int:
    if scheme in ("implicit", "exact"):
        return 1
    if diffusivity is None:
        raise ValueError(
            f"`num_steps` of the scheme {scheme!r} would depend on a `diffusivity` that only the "
            "device knows. Give `num_steps`."
        )
    if scheme == "explicit":
        return steps.fewest(t, diffusivity)
    ratio = 3 * diffusivity * t / steps.MAX_DT * (1 - steps.SLACK)
    return max(1, math.ceil((math.sqrt(1 + 4 * ratio) - 1) / 2))  # MAX_DT (n² + n) / 3 >= D t


def _check_fed(t: float, num_steps: int, diffusivity: float) -> None:
    tau_max = diffusivity * 3 * t / max(num_steps**2 + num_steps, 1)
    if tau_max > steps.MAX_DT * (1 + steps.SLACK):
        raise ValueError(
            f"Step size diffusivity * tau_max = {tau_max:.6g} of fast explicit diffusion exceeds "
            f"the stability limit {steps.MAX_DT}. Use num_steps >= "
            f"{_fewest(t, diffusivity, 'fed')} for t = {t:.6g}, or give `t` alone."
        )


def _heat(u: Tensor, D: Tensor | None, taus: list[float], scheme: str, boundary: str) -> Tensor:
    usable = nvrtc.usable(u, _unsupported(u, taus, scheme, boundary)) and u.numel()
    if usable and (len(taus) <= MANY_STEPS or nvrtc.choice() == "cuda"):
        return _launch(u, D, taus)
    return spectral.march(u, D, tuple(taus), scheme, boundary)


def _unsupported(u: Tensor, taus: list[float], scheme: str, boundary: str) -> str | None:
    if scheme != "explicit" or boundary != "neumann" or len(set(taus)) > 1:
        return f"It takes explicit steps of one size and no flux through the border. {nvrtc.UNSET}"
    return None


def _launch(u: Tensor, D: Tensor | None, taus: list[float]) -> Tensor:
    real, every = torch.promote_types(u.dtype, torch.float32), max(len(taus), 1)
    state = nvrtc.align(u)
    if nvrtc.is_large(u):  # several launches: what lies between them is not rounded to 16 bit
        state, every = nvrtc.align(u.to(real)), nvrtc.HALO
    D = nvrtc.constants((1.0,), real, u.device) if D is None else D.to(u.device, real).contiguous()
    channels = u.shape[1] if D.numel() > 1 else 0
    for k in range(0, max(len(taus), 1), every):
        sizes = nvrtc.constants(tuple(taus[k : k + every]), real, u.device)
        out = torch.empty_like(state)
        nvrtc.launch(
            "heat", "heat", state, nvrtc.macros(state), -(-nvrtc.tiles(u) // 4), 128,
            state, out, sizes, D, np.int32(len(sizes)), np.int32(channels),
            np.int64(u.shape[0] * u.shape[1]),
        )  # fmt: skip
        state = out
    return spectral.laid_out_like(u, state.to(u.dtype))


def _heat_backward(
    grad: Tensor, u: Tensor, D: Tensor, taus: list[float], scheme: str, boundary: str
) -> tuple[Tensor, Tensor]:
    return spectral.march_backward(grad, u, D, tuple(taus), scheme, boundary)


def _save(ctx: Context, inputs: tuple, output: Tensor) -> None:
    u, D, *ctx.rest = inputs
    ctx.with_D = D is not None and D.requires_grad  # `u` is of no use to its own gradient
    ctx.save_for_backward(D, u if ctx.with_D else None)


def _backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
    D, u = ctx.saved_tensors
    if ctx.with_D:
        grad_u, grad_D = HEAT_BACKWARD(grad, u, D, *ctx.rest)
        return grad_u, grad_D, None, None, None
    # The discrete Laplacian is symmetric, so the adjoint of diffusion is diffusion.
    return HEAT(grad, D, *ctx.rest), None, None, None, None


def _save_backward(ctx: Context, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.rest = inputs[3:]


def _backward_backward(ctx: Context, *grads: Tensor) -> tuple[Tensor | None, ...]:
    taus, scheme, boundary = ctx.rest

    def diffuse(u: Tensor, D: Tensor) -> Tensor:
        return spectral.reference(u, D, tuple(taus), scheme, boundary)

    return *twice(diffuse, list(ctx.saved_tensors), list(grads)), None, None, None


def _heat_mapped(size: int, u: Tensor, D: Tensor | None, *rest: Any) -> Tensor:
    # Every mapped image is a channel more.
    D = D if D is None else D.reshape(size, -1).expand(size, u.shape[2]).flatten()
    channels = u.movedim(0, 1).flatten(1, 2)
    return HEAT(channels, D, *rest).unflatten(1, (size, -1)).movedim(1, 0)


def _heat_backward_mapped(
    size: int, grad: Tensor, u: Tensor, D: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    each = D.reshape(size, -1).expand(size, u.shape[2])
    states = (x.movedim(0, 1).flatten(1, 2) for x in (grad, u))
    grad_u, grad_D = HEAT_BACKWARD(*states, each.flatten(), *rest)
    grad_D = grad_D.view(each.shape)
    grad_D = grad_D if D.ndim > 1 else grad_D.sum(1)
    return grad_u.unflatten(1, (size, -1)).movedim(1, 0), grad_D


HEAT = define(
    "heat(Tensor u, Tensor? diffusivity, float[] taus, str scheme, str boundary) -> Tensor",
    _heat,
    lambda u, D, taus, scheme, boundary: torch.empty_like(u),
)
HEAT_BACKWARD = define(
    "heat_backward(Tensor grad, Tensor u, Tensor diffusivity, float[] taus, str scheme, "
    "str boundary) -> (Tensor, Tensor)",
    _heat_backward,
    lambda grad, u, D, taus, scheme, boundary: (torch.empty_like(grad), torch.empty_like(D)),
)
differentiable("heat", _backward, _save)
differentiable("heat_backward", _backward_backward, _save_backward)
batched("heat", _heat_mapped)
batched("heat_backward", _heat_backward_mapped)
