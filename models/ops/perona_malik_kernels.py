"""Perona-Malik diffusion by csrc/perona_malik.cu: its launches.

Planes that fit a tile take one launch forward and one backward. Larger ones take a launch for every
few steps; what lies between the launches is not rounded to 16 bit.
"""

import numpy as np
import torch
from torch import Tensor

from harness.models.ops import nvrtc, spectral
from harness.models.ops.edge_stop import EDGE_STOPS

MOST_COUPLED = 4  # channels whose states fit the registers of a thread
SHARED = 48 * 1024  # bytes of shared memory that a block has without asking
SCRATCH = 1 << 28  # bytes for the history of marches that shared memory cannot hold


def unsupported(u: Tensor, coupled: bool, sigma: float) -> str | None:
    """Return why there is no kernel for `u`; None if there is one."""
    if (coupled and u.shape[1] > MOST_COUPLED) or sigma:
        return f"It takes up to {MOST_COUPLED} coupled channels and no `sigma`. {nvrtc.UNSET}"
    return None


def march(
    u: Tensor, kappa: Tensor, dt: float, num_steps: int, edge_stop: str, coupled: bool
) -> Tensor:
    """Return `u` (N, C, H, W), not empty, after the steps, with kappa () or (N,)."""
    if not nvrtc.is_large(u):
        out = _launch(nvrtc.aligned(u), kappa, dt, num_steps, edge_stop, coupled)
        return spectral.laid_out_like(u, out)
    state = nvrtc.aligned(u.to(torch.promote_types(u.dtype, torch.float32)))
    for k in range(0, max(num_steps, 1), nvrtc.HALO):
        state = _launch(state, kappa, dt, min(nvrtc.HALO, num_steps - k), edge_stop, coupled)
    return spectral.laid_out_like(u, state.to(u.dtype))


def _launch(
    state: Tensor, kappa: Tensor, dt: float, num_steps: int, edge_stop: str, coupled: bool
) -> Tensor:
    out = torch.empty_like(state)
    fields = _fields(state, coupled)
    scales, channels, size = _kernel_scales(kappa, dt, fields)
    nvrtc.launch(
        "perona_malik", "perona_malik", state, _macros(state, edge_stop, coupled),
        -(-nvrtc.tiles(fields) // 4), 128,
        state, out, scales, size, np.int32(num_steps), np.int32(channels),
        np.int64(fields.shape[0] * fields.shape[1]),
    )  # fmt: skip
    return out


def march_backward(
    grad: Tensor,
    u: Tensor,
    kappa: Tensor,
    dt: float,
    num_steps: int,
    edge_stop: str,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients for `u` and for `kappa`, given the one for the result of `march`."""
    if nvrtc.is_large(u):
        return _large_backward(grad, u, kappa, dt, num_steps, edge_stop, coupled)
    states = nvrtc.aligned(u), nvrtc.aligned(grad)
    out = torch.empty_like(states[0])
    fields, defines = _fields(u, coupled), _macros(u, edge_stop, coupled)
    scales, channels, size = _kernel_scales(kappa, dt, fields)
    rates = scales.new_empty(fields.shape[:2])
    tile = max(num_steps, 1) * 1024 * scales.element_size() * defines["CHANNELS"]  # of history
    shared = tile if tile <= SHARED else 0
    images = len(u) if shared else max(1, len(u) * SCRATCH // (tile * nvrtc.tiles(fields)))
    per_image = scales if channels else scales.expand(len(u))
    parts = (x.split(images) for x in (*states, out, rates, per_image))
    for state, incoming, outgoing, rate, scale in zip(*parts, strict=True):
        blocks = nvrtc.tiles(_fields(state, coupled))
        history = None if shared else scales.new_empty(blocks * tile // scales.element_size())
        nvrtc.launch(
            "perona_malik", "perona_malik_backward", state, defines, blocks, 32,
            incoming, state, outgoing, rate, scale, history, size, np.int32(num_steps),
            np.int32(channels), np.int64(rate.numel()), shared=shared,
        )  # fmt: skip
    total = rates.sum(1, dtype=torch.float64)
    grad_kappa = (total if kappa.ndim else total.sum()).to(kappa)
    return spectral.laid_out_like(u, out), grad_kappa


def _large_backward(
    grad: Tensor,
    u: Tensor,
    kappa: Tensor,
    dt: float,
    num_steps: int,
    edge_stop: str,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    # The state before every few steps lies in memory; each launch repeats its own steps from it.
    real, channels = torch.promote_types(u.dtype, torch.float32), u.shape[1] if coupled else 1
    few = min(nvrtc.HALO // 2, SHARED // (1024 * real.itemsize * channels))
    states, lam = [nvrtc.aligned(u.to(real))], nvrtc.aligned(grad.to(real, copy=num_steps == 0))
    for _ in range(few, num_steps, few):
        states.append(_launch(states[-1], kappa, dt, few, edge_stop, coupled))
    fields, defines = _fields(lam, coupled), _macros(lam, edge_stop, coupled)
    scales, channels, size = _kernel_scales(kappa, dt, fields)
    blocks, total = nvrtc.tiles(fields), lam.new_zeros(len(u), dtype=torch.float64)
    for k in reversed(range(0, num_steps, few)):
        steps_here = min(few, num_steps - k)
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


def _macros(u: Tensor, edge_stop: str, coupled: bool) -> dict[str, int]:
    channels = u.shape[1] if coupled else 1
    return nvrtc.macros(u, EDGE_STOP=EDGE_STOPS.index(edge_stop), CHANNELS=channels)
