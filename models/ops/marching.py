"""Perona-Malik steps in place, block by block: a whole march while its planes are in the cache.

With v = u / kappa the edge scale is 1 for every image. A block is a flat run of pixels, planes one
after the other, so the differences to the right and to the lower neighbor are two subtractions of
the run from itself, shifted; those across the border of a plane are then set to 0. Per face:

    v_i += dt g(q) d,  v_j -= dt g(q) d,       d = v_j - v_i,  q = sum_c d²  (or of smoothed v).

The backward pass keeps nothing of the forward pass but `u`: each block marches again, with its
history, and then back. With lam the gradient after a step, e = lam_j - lam_i and r = sum_c e d,

    lam_i += dt w,  lam_j -= dt w,             w = g e + 2 g' r d
    grad_kappa += 2 dt sum g' q r,

where the second term of w, smoothed, belongs to the smoothed v if g looks at that.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.ops import planes, spectral
from harness.models.ops.edge_stop import START, conductance_and_slope, flux_slope_, resistance_

BLOCK = 1 << 18  # elements of v for each thread; with differences and conductances 5 MiB in float32
HISTORY = 1 << 22  # elements of the states of a block, for each thread, 16 MiB in float32
MIN_BLOCK = 1 << 16  # elements for each thread; below, the time goes into calls
DEVICE_BLOCK = 1 << 24  # elements on a device, where launches cost more than memory


@dataclass(frozen=True)
class March:
    """Steps of Perona-Malik diffusion: all but the state and its edge scale.

    Args:
        dt: Step size in pixel².
        num_steps: Number of steps.
        edge_stop: Name in `EDGE_STOPS`.
        coupled: Whether the channels of an image share one conductance.
        sigma: Standard deviation in pixels of the Gaussian before the conductance, 0 for none.
    """

    dt: float
    num_steps: int
    edge_stop: str
    coupled: bool
    sigma: float

    def smooth(self, u: Tensor) -> Tensor:
        """Return the state that the conductance looks at."""
        if not self.sigma:
            return u
        return spectral.march(u, None, (self.sigma**2 / 2,), "exact", "neumann")


class _Faces:
    """Differences and fluxes between the pixels of a block of fields, planes of (H, W).

    A field (G, H, W) is what shares one conductance: the channels of an image, or one plane.
    """

    def __init__(self, like: Tensor, fields: int, edge_stop: str) -> None:
        self.start = like.new_full((), START[edge_stop])  # on its device, without a copy
        self.shape = (fields, *like.shape[1:])
        self.width = like.shape[-1]
        self.pixels = fields * like[0].numel()

    def differences(self, v: Tensor, out: Tensor) -> Tensor:
        """Return v_j - v_i, (2, fields, G, H, W), for the right and the lower neighbor j of i."""
        flat, shifted = v.view(-1), out.view(2, -1)
        for axis, shift in enumerate((1, self.width)):
            end = max(self.pixels - shift, 0)
            torch.sub(flat[shift:], flat[:end], out=shifted[axis, :end])
        out[0, ..., -1].zero_()
        out[1, ..., -1, :].zero_()
        return out

    def squares(self, d: Tensor, out: Tensor) -> Tensor:
        """Return sum_c d² from the start of the edge stop, (2, fields, 1, H, W)."""
        torch.addcmul(self.start, d[:, :, :1], d[:, :, :1], out=out)
        for c in range(1, d.shape[2]):
            out.addcmul_(d[:, :, c : c + 1], d[:, :, c : c + 1])
        return out

    def add(self, v: Tensor, flux: Tensor, dt: float) -> None:
        """Move `dt * flux` from j to i."""
        flat, fluxes = v.view(-1), flux.view(2, -1)
        for axis, shift in enumerate((1, self.width)):
            end = max(self.pixels - shift, 0)
            flat[:end].add_(fluxes[axis, :end], alpha=dt)
            flat[shift:].sub_(fluxes[axis, :end], alpha=dt)


class _Run:
    """A march of blocks of fields with one set of buffers."""

    def __init__(self, fields: Tensor, how: March, history: bool) -> None:
        self.how = how
        states = how.num_steps if history else 0
        block = DEVICE_BLOCK // max(states, 1)
        if fields.device.type == "cpu":
            kept = max(HISTORY // max(states, 1), MIN_BLOCK)
            block = min(BLOCK, kept) * torch.get_num_threads()
        self.fields = max(1, block // max(fields[0].numel(), 1))
        shape = (min(self.fields, len(fields)), *fields.shape[1:])
        dtype = torch.promote_types(fields.dtype, torch.float32)
        new = fields.new_empty
        self.v = new(shape, dtype=dtype)
        self.d = new((2, *shape), dtype=dtype)
        self.e = self.d.new_empty(self.d.shape if history else 0)
        self.q = new((2, shape[0], 1, *shape[2:]), dtype=dtype)
        self.history = new((states, *shape), dtype=dtype)

    def start(self, block: Tensor, kappa: Tensor) -> Tensor:
        """Return v = u / kappa and make the buffers fit the block."""
        k = len(block)
        self.faces = _Faces(self.v, k, self.how.edge_stop)
        if k < len(self.v):  # the last block
            self.v, self.history = self.v[:k], self.history[:, :k].contiguous()
            self.d = self.d[:, :k].contiguous()
            self.e = self.e[:, :k].contiguous() if len(self.e) else self.e
            self.q = self.q[:, :k].contiguous()
        return torch.div(block, kappa, out=self.v)

    def step(self, v: Tensor) -> None:
        how, faces, d, q = self.how, self.faces, self.d, self.q
        faces.squares(faces.differences(how.smooth(v), d), q)
        if how.sigma:
            faces.differences(v, d)
        faces.add(v, d.div_(resistance_(q, how.edge_stop)), how.dt)

    def step_back(self, lam: Tensor, v: Tensor, rate: Tensor | None) -> None:
        how, faces, d, e, q = self.how, self.faces, self.d, self.e, self.q
        dt, edge_stop = how.dt, how.edge_stop
        faces.squares(faces.differences(how.smooth(v), d), q)
        faces.differences(lam, e)
        if rate is None and not how.sigma and v.shape[1] == 1:  # w = e (g + 2 g' q)
            faces.add(lam, e.mul_(flux_slope_(q, edge_stop)), -dt)
            return
        seen = d  # the differences that g sees
        if how.sigma:
            d = faces.differences(v, torch.zeros_like(d))
        g, slope = conductance_and_slope(q, edge_stop)
        r = torch.mul(e, d).sum(2, keepdim=True).mul_(slope)  # 2 g' r
        if rate is not None:
            q -= START[edge_stop]
            rate += q.mul_(r).sum((0, 2, 3, 4), dtype=torch.float64) * dt
        if how.sigma:
            change = torch.zeros_like(lam)
            faces.add(change, seen.mul_(r), dt)
            faces.add(lam, e.mul_(g), dt)
            lam += how.smooth(change)
        else:
            faces.add(lam, e.mul_(g).addcmul_(d, r), dt)


def _fields(u: Tensor, coupled: bool) -> Tensor:
    return u.reshape(-1, u.shape[1] if coupled else 1, *u.shape[2:])


def _scales(kappa: Tensor, u: Tensor, fields: int) -> Tensor:
    # One for every field, (fields, 1, 1, 1).
    dtype = torch.promote_types(u.dtype, torch.float32)
    kappa = kappa.to(u.device, dtype).expand(u.shape[0])
    return kappa.repeat_interleave(fields // u.shape[0]).view(-1, 1, 1, 1)


def march(u: Tensor, kappa: Tensor, how: March) -> Tensor:
    """Return `u` (N, C, H, W) after the steps, with kappa () or (N,)."""
    if not u.numel():
        return torch.empty_like(u)
    fields = _fields(u, how.coupled)
    scales = _scales(kappa, u, len(fields))
    if planes.usable(u, how.edge_stop, how.sigma):
        marched = planes.march(fields, scales.flatten(), how.dt, how.num_steps)
        return spectral.laid_out_like(u, marched.to(u.dtype))
    result = torch.empty_like(fields, memory_format=torch.contiguous_format)
    run = _Run(fields, how, history=False)
    n = run.fields
    for block, scale, out in zip(*(x.split(n) for x in (fields, scales, result)), strict=True):
        v = run.start(block, scale)
        for _ in range(how.num_steps):
            run.step(v)
        # u + kappa (v - u / kappa): what does not move stays as it is, to the last bit.
        v.addcdiv_(block.to(v.dtype), scale, value=-1)
        torch.addcmul(block.to(v.dtype), v, scale, out=v)
        out.copy_(v)
    return spectral.laid_out_like(u, result)


def march_backward(
    grad: Tensor, u: Tensor, kappa: Tensor, how: March, with_kappa: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients for `u` and for `kappa` (zeros unless `with_kappa`)."""
    grad_kappa = torch.zeros_like(kappa)
    if not u.numel():
        return torch.empty_like(u), grad_kappa
    fields = _fields(u, how.coupled)
    grads = _fields(grad, how.coupled)
    scales = _scales(kappa, u, len(fields))
    if planes.usable(u, how.edge_stop, how.sigma):
        marched, found = planes.march_backward(
            grads, fields, scales.flatten(), how.dt, how.num_steps, with_kappa
        )
        if with_kappa:
            grad_kappa += _for_kappa(found, u, kappa)
        return spectral.laid_out_like(u, marched.to(u.dtype)), grad_kappa
    result = torch.empty_like(fields, memory_format=torch.contiguous_format)
    rates = torch.zeros(len(fields), dtype=torch.float64, device=u.device)
    run = _Run(fields, how, history=True)
    states = (x.split(run.fields) for x in (fields, grads, scales, result, rates))
    for block, grad_block, scale, out, rate in zip(*states, strict=True):
        v = run.start(block, scale)
        for k, past in enumerate(run.history):
            past.copy_(v)
            if k < how.num_steps - 1:
                run.step(v)
        lam = v.copy_(grad_block)
        for past in reversed(run.history.unbind()):
            run.step_back(lam, past, rate if with_kappa else None)
        out.copy_(lam)
    if with_kappa:
        grad_kappa += _for_kappa(rates, u, kappa)
    return spectral.laid_out_like(u, result), grad_kappa


def _for_kappa(rates: Tensor, u: Tensor, kappa: Tensor) -> Tensor:
    per_image = rates.view(u.shape[0], -1).sum(1)
    return (per_image if kappa.ndim else per_image.sum()).to(kappa)
