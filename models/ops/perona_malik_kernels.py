"""Perona-Malik diffusion by csrc/perona_malik.cu: its launches.

Planes that fit a tile take one launch forward and one backward. Larger ones take a launch for every
few steps; what lies between the launches is not rounded to 16 bit.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.models.ops import nvrtc, spectral
from harness.models.ops.edge_stop import EDGE_STOPS
from harness.models.ops.marching import March

MOST_COUPLED = 4  # channels whose states fit the registers of a thread
SHARED = 48 * 1024  # bytes of shared memory that a block has without asking
SCRATCH = 1 << 28  # bytes for the history of marches that shared memory cannot hold


def unsupported(u: Tensor, how: March) -> str | None:
    """Return why there is no kernel for `u`; None if there is one."""
    if (how.coupled and u.shape[1] > MOST_COUPLED) or how.sigma:
        return f"It takes up to {MOST_COUPLED} coupled channels and no `sigma`. {nvrtc.UNSET}"
    return None


def march(u: Tensor, kappa: Tensor, how: March) -> Tensor:
    """Return `u` (N, C, H, W), not empty, after the steps, with kappa () or (N,)."""
    if not nvrtc.is_large(u):
        out = _launch(nvrtc.align(u), kappa, how)
        return spectral.laid_out_like(u, out)
    state = nvrtc.align(u.to(torch.promote_types(u.dtype, torch.float32)))
    for k in range(0, max(how.num_steps, 1), nvrtc.HALO):
        few = min(nvrtc.HALO, how.num_steps - k)
        state = _launch(state, kappa, replace(how, num_steps=few))
    return spectral.laid_out_like(u, state.to(u.dtype))


def _launch(state: Tensor, kappa: Tensor, how: March) -> Tensor:
    out = torch.empty_like(state)
    fields = _fields(state, how.coupled)
    scales, channels, size = _kernel_scales(kappa, how.dt, fields)
    nvrtc.launch(
        "perona_malik", "perona_malik", state, _macros(state, how),
        -(-nvrtc.tiles(fields) // 4), 128,
        state, out, scales, size, np.int32(how.num_steps), np.int32(channels),
        np.int64(fields.shape[0] * fields.shape[1]),
    )  # fmt: skip
    return out


def march_backward(grad: Tensor, u: Tensor, kappa: Tensor, how: March) -> tuple[Tensor, Tensor]:
    """Return the gradients for `u` and for `kappa`, given the one for the result of `march`."""
    if nvrtc.is_large(u):
        return _large_backward(grad, u, kappa, how)
    states = nvrtc.align(u), nvrtc.align(grad)
    out = torch.empty_like(states[0])
    fields, defines = _fields(u, how.coupled), _macros(u, how)
    scales, channels, size = _kernel_scales(kappa, how.dt, fields)
    rates = scales.new_empty(fields.shape[:2])
    tile = max(how.num_steps, 1) * 1024 * scales.element_size() * defines["CHANNELS"]  # of history
    shared = tile if tile <= SHARED else 0
    images = len(u) if shared else max(1, len(u) * SCRATCH // (tile * nvrtc.tiles(fields)))
    per_image = scales if channels else scales.expand(len(u))
    parts = (x.split(images) for x in (*states, out, rates, per_image))
    for state, incoming, outgoing, rate, scale in zip(*parts, strict=True):
        blocks = nvrtc.tiles(_fields(state, how.coupled))
        history = None if shared else scales.new_empty(blocks * tile // scales.element_size())
        nvrtc.launch(
            "perona_malik", "perona_malik_backward", state, defines, blocks, 32,
            incoming, state, outgoing, rate, scale, history, size, np.int32(how.num_steps),
            np.int32(channels), np.int64(rate.numel()), shared=shared,
        )  # fmt: skip
    total = rates.sum(1, dtype=torch.float64)
    grad_kappa = (total if kappa.ndim else total.sum()).to(kappa)
    return spectral.laid_out_like(u, out), grad_kappa


def _large_backward(grad: Tensor, u: Tensor, kappa: Tensor, how: March) -> tuple[Tensor, Tensor]:
    # The state before every few steps lies in memory; each launch repeats its own steps from it.
    real, channels = torch.promote_types(u.dtype, torch.float32), u.shape[1] if how.coupled else 1
    few = min(nvrtc.HALO // 2, SHARED // (1024 * real.itemsize * channels))
    states, lam = [nvrtc.align(u.to(real))], nvrtc.align(grad.to(real, copy=how.num_steps == 0))
    for _ in range(few, how.num_steps, few):
        states.append(_launch(states[-1], kappa, replace(how, num_steps=few)))
    fields, defines = _fields(lam, how.coupled), _macros(lam, how)
    scales, channels, size = _kernel_scales(kappa, how.dt, fields)
    blocks, total = nvrtc.tiles(fields), lam.new_zeros(len(u), dtype=torch.float64)
    for k in reversed(range(0, how.num_steps, few)):
        steps_here = min(few, how.num_steps - k)
        out, rates = torch.empty_like(lam), lam.new_empty(blocks)
        nvrtc.launch(
            "perona_malik", "perona_malik_backward", lam, defines, blocks, 32,
            lam, states.pop(), out, rates, scales, None, size, np.int32(steps_here),
            np.int32(channels), np.int64(fields.shape[0] * fields.shape[1]),
            shared=steps_here * 1024 * lam.element_size() * defines["CHANNELS"],
        )  # fmt: skip
        total += rates.view(len(u), -1).sum(1, dtype=torch.float64)
        lam = out
    grad_kappa = (total if kappa.ndim else total.sum()).to(kappa)
    return spectral.laid_out_like(u, lam.to(u.dtype)), grad_kappa


def _kernel_scales(
    kappa: Tensor, dt: float, u: Tensor
) -> tuple[Tensor, int, np.float32 | np.float64]:
    # kappa on the device, the planes that share one (0: all), and dt, in the kernel's types.
    real = torch.promote_types(u.dtype, torch.float32)
    if kappa.ndim == 0 and kappa.device != u.device:
        kappa = nvrtc.constants((float(kappa),), real, u.device)
    size = np.float64(dt) if real == torch.float64 else np.float32(dt)
    return (
        kappa.to(u.device, real).reshape(-1).contiguous(),
        u.shape[1] if kappa.numel() > 1 else 0,
        size,
    )


def _fields(u: Tensor, coupled: bool) -> Tensor:
    # In the shape of what shares one conductance, (N, 1 or C, H, W).
    return u[:, :1] if coupled else u


def _macros(u: Tensor, how: March) -> dict[str, int]:
    channels = u.shape[1] if how.coupled else 1
    return nvrtc.macros(u, EDGE_STOP=EDGE_STOPS.index(how.edge_stop), CHANNELS=channels)
