"""Nonlinear diffusion that smooths within regions and stops at their edges.

    u_t = div(g(|grad u|) grad u),   no flux through the border,

with an edge stop g that falls from 1 to 0 around the edge scale kappa (in the units of u):

    "rational"      g(s) = 1 / (1 + (s / kappa)²)
    "exponential"   g(s) = exp(-(s / kappa)²)
    "weickert"      g(s) = 1 - exp(-3.31488 (s / kappa)^-8),   g(0) = 1

on unit cells (dx = 1 pixel), forward Euler in time. Fluxes live on the faces between pixels: one
step adds dt * sum_d g(|D_d u|) D_d u over the four differences D_d u to the neighbors. Each step
keeps the sum of every channel and, since g <= 1, for dt <= 1/4 the maximum principle.

References: P. Perona and J. Malik, Scale-space and edge detection using anisotropic diffusion,
IEEE TPAMI 12(7), 1990. F. Catté, P.-L. Lions, J.-M. Morel and T. Coll, Image selective smoothing
and edge detection by nonlinear diffusion, SIAM J. Numer. Anal. 29(1), 1992 (`sigma`). G. Gerig,
O. Kübler, R. Kikinis and F. A. Jolesz, Nonlinear anisotropic filtering of MRI data, IEEE TMI
11(2), 1992 (`coupled`). J. Weickert, Anisotropic Diffusion in Image Processing, Teubner 1998
("weickert").
"""

import math
from typing import Any

import torch
from torch import Tensor

from harness.models.ops import marching, nvrtc, spectral, steps
from harness.models.ops import perona_malik_kernels as kernels
from harness.models.ops.edge_stop import EDGE_STOPS, conductance
from harness.models.ops.library import batched, define, differentiable, twice
from harness.models.ops.marching import March

CLAMP = "Clamp it, for example with `kappa.clamp(min=1e-4)`."
Context = Any  # torch's, of autograd


def perona_malik(
    u: Tensor,
    t: float | None = None,
    *,
    dt: float | None = None,
    num_steps: int | None = None,
    kappa: float | Tensor,
    edge_stop: str = "rational",
    coupled: bool = True,
    sigma: float = 0.0,
) -> Tensor:
    """Diffuse `u` for time `t`, except across edges: u_t = div(g(|grad u|) grad u).

    Differentiable in `u` and in `kappa`.

    Args:
        u: State (N, C, H, W), float16, bfloat16, float32 or float64; 16-bit states are diffused
            in float32 and rounded once.
        t: Time in pixel², >= 0. Alone, it takes the fewest stable steps.
        dt: Step size in pixel², <= 1/4.
        num_steps: Number of steps; of `t`, `dt` and `num_steps` two are enough.
        kappa: Edge scale in the units of `u`, > 0: a float, a tensor of shape (), or one per image
            (N,). On a CUDA device the sign of a tensor is checked without waiting for the device.
        edge_stop: "rational", "exponential" or "weickert".
        coupled: Take |D_d u|² as the sum over the channels, one g for all, so that colors keep
            their edges together; else each channel on its own.
        sigma: Standard deviation in pixels of the Gaussian that smooths `u` before its gradient
            enters g (not before it enters the flux); 0 for none.

    Returns:
        The diffused state: shape and dtype of `u`.

    Raises:
        ValueError: An argument is out of range; says the limit and the cure.
    """
    steps.check_state(u)
    if edge_stop not in EDGE_STOPS:
        raise ValueError(
            f"`edge_stop` must be one of {', '.join(EDGE_STOPS)}; got {edge_stop!r}. "
            'Leave it out for "rational".'
        )
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ValueError(
            f"`sigma` must be >= 0 and finite; got sigma={sigma}. Leave it out for no smoothing."
        )
    t, num_steps, words = steps.resolve(t, dt, num_steps)
    if num_steps is None:
        num_steps = steps.fewest(t)
    steps.check_step(t, num_steps, words)
    size = t / max(num_steps, 1)
    return PERONA_MALIK(u, _check_kappa(kappa, u), size, num_steps, edge_stop, coupled, sigma)


def _check_kappa(kappa: float | Tensor, u: Tensor) -> Tensor:
    if isinstance(kappa, Tensor):
        if kappa.shape not in (torch.Size([]), u.shape[:1]):
            raise ValueError(
                f"`kappa` must be a float or have shape () or ({u.shape[0]},), one per image; "
                f"got {tuple(kappa.shape)}. Drop its other dimensions."
            )
        values = steps.values_of(kappa)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        range_ = torch.finfo(values.dtype)
        good = values.clamp(range_.smallest_normal, range_.max).eq(values).all()  # not so for NaN
        if steps.is_far(kappa):
            torch._assert_async(good, f"`kappa` must be > 0 and finite. {CLAMP}")
        elif not good:
            raise ValueError(
                f"`kappa` must be > 0 and finite; got {float(values.min()):.6g}. {CLAMP}"
            )
        return kappa.to(u.device)
    if not (kappa > 0 and math.isfinite(kappa)):
        raise ValueError(
            f"`kappa` must be > 0 and finite; got kappa={kappa}. "
            "Give a scale in the units of `u`, for example 0.1 for images in [0, 1]."
        )
    return torch.tensor(kappa, dtype=torch.float64)  # on the CPU: a device need not wait for it


def reference(u: Tensor, kappa: Tensor, how: March) -> Tensor:
    """Return the same as `perona_malik`, step by step in plain differentiable torch."""
    dtype = u.dtype
    u = u.to(torch.promote_types(dtype, torch.float32), copy=True)
    kappa = kappa.to(u).reshape(-1, 1, 1, 1)
    for _ in range(how.num_steps):
        smooth = u
        if how.sigma:
            smooth = spectral.reference(u, None, (how.sigma**2 / 2,), "exact", "neumann")
        update = torch.zeros_like(u)
        for dim in (-1, -2):
            squared = smooth.diff(dim=dim).square()
            if how.coupled:
                squared = squared.sum(1, keepdim=True)
            flux = conductance(squared / kappa**2, how.edge_stop) * u.diff(dim=dim)  # on the faces
            wall = torch.zeros_like(u.narrow(dim, 0, 1))
            update = update + torch.cat((flux, wall), dim) - torch.cat((wall, flux), dim)
        u = u + how.dt * update
    return u.to(dtype)


def _perona_malik(u: Tensor, kappa: Tensor, *rest: Any) -> Tensor:
    how = March(*rest)
    if not (nvrtc.usable(u, kernels.unsupported(u, how)) and u.numel()):
        return marching.march(u, kappa, how)
    return kernels.march(u, kappa, how)


def _perona_malik_backward(
    grad: Tensor, u: Tensor, kappa: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    *march, with_kappa = rest
    how = March(*march)
    if not (nvrtc.usable(u, kernels.unsupported(u, how)) and u.numel()):
        return marching.march_backward(grad, u, kappa, how, with_kappa)
    return kernels.march_backward(grad, u, kappa, how)


def _save(ctx: Context, inputs: tuple, output: Tensor) -> None:
    u, kappa, *ctx.rest = inputs
    ctx.save_for_backward(u, kappa)


def _backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
    u, kappa = ctx.saved_tensors
    with_kappa = ctx.needs_input_grad[1]
    grad_u, grad_kappa = PERONA_MALIK_BACKWARD(grad, u, kappa, *ctx.rest, with_kappa)
    return grad_u, grad_kappa if with_kappa else None, None, None, None, None, None


def _save_backward(ctx: Context, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    *ctx.rest, ctx.with_kappa = inputs[3:]


def _backward_backward(ctx: Context, *grads: Tensor) -> tuple[Tensor | None, ...]:
    def diffuse(u: Tensor, kappa: Tensor) -> Tensor:
        return reference(u, kappa, March(*ctx.rest))

    wanted = [grads[0], grads[1] if ctx.with_kappa else None]
    return *twice(diffuse, list(ctx.saved_tensors), wanted), *[None] * 6


def _perona_malik_mapped(size: int, u: Tensor, kappa: Tensor, *rest: Any) -> Tensor:
    # Every mapped image is an image more.
    each = kappa.reshape(size, -1).expand(size, u.shape[1])
    return PERONA_MALIK(u.flatten(0, 1), each.flatten(), *rest).view(u.shape)


def _perona_malik_backward_mapped(
    size: int, grad: Tensor, u: Tensor, kappa: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    each = kappa.reshape(size, -1).expand(size, u.shape[1])
    states = grad.flatten(0, 1), u.flatten(0, 1)
    grad_u, grad_kappa = PERONA_MALIK_BACKWARD(*states, each.flatten(), *rest)
    grad_kappa = grad_kappa.view(each.shape)
    return grad_u.view(u.shape), grad_kappa if kappa.ndim > 1 else grad_kappa.sum(1)


ARGUMENTS = (  # from dt on those of `March`, in its order
    "Tensor u, Tensor kappa, float dt, int num_steps, str edge_stop, bool coupled, float sigma"
)
PERONA_MALIK = define(
    f"perona_malik({ARGUMENTS}) -> Tensor",
    _perona_malik,
    lambda u, *_: torch.empty_like(u),
)
PERONA_MALIK_BACKWARD = define(
    f"perona_malik_backward(Tensor grad, {ARGUMENTS}, bool with_kappa) -> (Tensor, Tensor)",
    _perona_malik_backward,
    lambda grad, u, kappa, *_: (torch.empty_like(u), torch.empty_like(kappa)),
)
differentiable("perona_malik", _backward, _save)
differentiable("perona_malik_backward", _backward_backward, _save_backward)
batched("perona_malik", _perona_malik_mapped)
batched("perona_malik_backward", _perona_malik_backward_mapped)
