"""The optimal denoiser of a finite set of images, and what the images of each class make likely.

Noise of standard deviation s is added to an image drawn from x_1 .. x_M. Then the mean of the
image, given the noisy one, is a softmax over all of them, and the density of noisy images of class
c a sum over those of the class:

    D(x; s)    = sum_i w_i x_i,   w = softmax_i(-|x - x_i|^2 / (2 s^2))
    l_c(x; s)  = log sum_{i in c} exp(-|x - x_i|^2 / (2 s^2))      (log p(x, c; s) plus a constant)

and with them their gradients, g being what is handed back and D_c the mean over class c alone:

    (dD/dx)^T g      = sum_i w_i ((x_i - D) . g) x_i / s^2
    sum_c g_c dl_c/dx = sum_c g_c (D_c - x) / s^2

Sums run over blocks of images: of M x d numbers, only a block is ever held in floating point, and
of N x M weights only those of a block (few are kept), in the gradient as well, which computes them
again. D is a streaming softmax: the sums so far shrink where a later block holds a nearer image.

Squares of distances are expanded, |x|^2 - 2 x . x_i + |x_i|^2, so that a matrix product does the
work. In float32 that leaves an error of about 1e-7 |x|^2, and exponents are off by that over 2 s^2:
for images of 3,072 numbers by 0.1 and more at s = 0.02. Distances are therefore float64 always (but
on devices without it, such as MPS), means in the type of `noisy`.

Reference: T. Karras, M. Aittala, T. Aila and S. Laine, Elucidating the Design Space of
Diffusion-Based Generative Models, NeurIPS 2022, https://arxiv.org/abs/2206.00364, appendix B.3
(the denoiser). M. Milakov and N. Gimelshein, Online normalizer calculation for softmax, 2018,
https://arxiv.org/abs/1805.02867. Deviations: none.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 25  # bytes of a block of images in float64: 1,365 of 3,072 numbers
KEPT = 1 << 22  # weights that the gradient of `class_evidence` keeps; more are computed again
# Smallest exponents, less the largest: what is below adds nothing that can be seen, and takes a CPU
# long, since it is no normal number.
LEAST = {torch.float32: -87.0, torch.float64: -700.0}


def denoise(noisy: Tensor, sigma: Tensor, images: Tensor) -> Tensor:
    """Return D(x; s), the mean of the image given a noisy one, of the shape of `noisy`.

    Args:
        noisy: (N, ...), float32 or float64; the result is exact to its type.
        sigma: (N,), > 0, standard deviation of the noise of each; no gradient goes to it.
        images: (M, ...), uint8, taken as images in [-1, 1], or floating point, taken as they are.
    """
    x, s = _checked(noisy, sigma, images)
    return _Denoise.apply(x, s, images.flatten(1)).view_as(noisy)


def class_evidence(
    noisy: Tensor, sigma: Tensor, images: Tensor, counts: Sequence[int], k: int = 0
) -> Tensor:
    """Return l_c(x; s) of each class, (N, C), in the type of distances.

    It is -inf for a class without images.

    Args:
        noisy: (N, ...), float32 or float64.
        sigma: (N,), > 0; no gradient goes to it.
        images: (M, ...), those of class 0 first, then those of class 1, and so on; uint8 or
            floating point as for `denoise`.
        counts: How many there are of each class; they sum to M.
        k: If not 0: minus the mean of |x - x_i|^2 / (2 s^2) over the `k` nearest images of the
            class (all, where it has fewer) stands in place of the sum; k = 1 is its largest term.

    Raises:
        ValueError: `counts` do not sum to M.
    """
    if sum(counts) != len(images):
        raise ValueError(f"`counts` sum to {sum(counts)}; there are {len(images)} images.")
    x, s = _checked(noisy, sigma, images)
    return _Evidence.apply(x, s, images.flatten(1), tuple(counts), k)


def squared_distances(noisy: Tensor, images: Tensor) -> Tensor:
    """Return |x - x_i|^2, (N, M), in the type of distances; arguments of `denoise`, no gradient."""
    with torch.no_grad():
        unit = torch.full((len(noisy),), 0.5**0.5, dtype=precise(noisy), device=noisy.device)
        x, s = _checked(noisy, unit, images)
        found = [-e for _, _, e in _Exponents(x, s, images.flatten(1))]
    return torch.cat(found, 1) if found else x.new_zeros(len(x), 0)


def _checked(noisy: Tensor, sigma: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    if noisy.shape[1:] != images.shape[1:]:
        one, kept = tuple(noisy.shape[1:]), tuple(images.shape[1:])
        raise ValueError(
            f"`noisy` has images of shape {one}, and the set of shape {kept}. Give one size."
        )
    if sigma.shape != noisy.shape[:1]:
        raise ValueError(
            f"`sigma` must have shape ({len(noisy)},), one an image; got {tuple(sigma.shape)}."
        )
    wide = torch.promote_types(noisy.dtype, torch.float32)
    return noisy.flatten(1).to(wide), sigma.detach()


def precise(like: Tensor) -> torch.dtype:
    """Return the type of distances on the device of `like`: float64 where there is one."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _as(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in a floating-point type; bytes become [-1, 1]."""
    values = images.to(dtype)
    return values.div_(127.5).sub_(1) if images.dtype == torch.uint8 else values


class _Exponents:
    """-|x - x_i|^2 / (2 s^2) for blocks of images, (N, B), in the precise type."""

    def __init__(self, x: Tensor, sigma: Tensor, images: Tensor) -> None:
        self._dtype, self._images = precise(x), images
        self._x, self._rate = x.to(self._dtype), 0.5 / sigma.to(precise(x)).square()[:, None]
        if images.dtype == torch.uint8:  # in units of a gray level, so that bytes stay as they are
            self._x, self._rate = 127.5 * (self._x + 1), self._rate / 127.5**2
        self._square = self._x.square().sum(1, keepdim=True)

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        """The first position of each block, the one behind its last, and the exponents."""
        size = max(1, BLOCK // (8 * max(1, self._images.shape[1])))
        for start in range(0, len(self._images), size):
            y = self._images[start : start + size].to(self._dtype)
            own = torch.linalg.vector_norm(y, dim=1).square()
            squares = torch.addmm(own, self._x, y.T, alpha=-2).add_(self._square)
            yield start, start + len(y), squares.mul_(-self._rate)


class _Denoise(torch.autograd.Function):
    """x (N, d), sigma (N,), images (M, d) to D (N, d)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: Tensor, images: Tensor) -> Tensor:
        mean = torch.zeros_like(x)
        total = torch.zeros(len(x), 1, dtype=precise(x), device=x.device)
        top = torch.full_like(total, -torch.inf)
        with torch.autocast(x.device.type, enabled=False):
            for start, end, e in _Exponents(x, sigma, images):
                higher = torch.maximum(top, e.amax(1, keepdim=True))
                shrink = (top - higher).exp()
                e = e.sub_(higher).clamp_(min=LEAST[x.dtype]).exp_()
                total = total * shrink + e.sum(1, keepdim=True)
                mean.mul_(shrink.to(x.dtype))
                mean.addmm_(e.to(x.dtype), images[start:end].to(x.dtype))
                top = higher
        if images.dtype == torch.uint8:  # bytes become [-1, 1] in the mean, not one by one
            mean.div_(127.5 * total.to(x.dtype)).sub_(1)
        else:
            mean.div_(total.to(x.dtype))
        ctx.save_for_backward(x, sigma, images, mean, top + total.log())
        return mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, sigma, images, mean, normalizer = ctx.saved_tensors
        g, out = grads[0], torch.zeros_like(x)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            along = (mean * g).sum(1, keepdim=True)
            for start, end, e in _Exponents(x, sigma, images):
                w = e.sub_(normalizer).clamp_(min=LEAST[x.dtype]).exp_().to(x.dtype)
                y = _as(images[start:end], x.dtype)
                out.addmm_(w * (g @ y.T - along), y)
        return out / sigma.to(x.dtype).square()[:, None], None, None


class _Evidence(torch.autograd.Function):
    """x (N, d), sigma (N,), images (M, d) in the order of classes, counts, k to l (N, C)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sigma: Tensor, images: Tensor, counts: tuple[int, ...], k: int
    ) -> Tensor:
        empty = torch.full((len(x), 0), -torch.inf, dtype=precise(x), device=x.device)
        # Of each class: the sum so far, (N, 1), or its k largest terms.
        found, kept = [empty] * len(counts), []
        small = ctx.needs_input_grad[0] and len(x) * len(images) <= KEPT
        with torch.autocast(x.device.type, enabled=False):
            for start, end, e in _Exponents(x, sigma, images):
                kept += [e] * small
                for c, a, b in _parts(counts, start, end):
                    both = torch.cat((found[c], e[:, a - start : b - start]), 1)
                    found[c] = (
                        both.topk(min(k, both.shape[1]), 1).values
                        if k
                        else both.logsumexp(1, keepdim=True)
                    )
        levels = torch.stack([f.mean(1) if f.shape[1] else f.sum(1) - torch.inf for f in found], 1)
        last = torch.stack([f[:, -1] if f.shape[1] else f.sum(1) for f in found], 1)
        ctx.counts, ctx.k = counts, k
        ctx.save_for_backward(x, sigma, images, last, *kept)
        return levels

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, sigma, images, last, *kept = ctx.saved_tensors
        g, counts, k = grads[0], ctx.counts, ctx.k
        present = torch.tensor([count > 0 for count in counts], device=g.device)
        g = torch.where(present, g, 0.0)
        out = (-g.sum(1, keepdim=True) * x).to(x.dtype)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            for start, end, e in _again(kept) if kept else _Exponents(x, sigma, images):
                for c, a, b in _parts(counts, start, end):
                    part, level = e[:, a - start : b - start], last[:, c, None]
                    if k:  # which of them were among the nearest
                        part.copy_((part >= level) / min(k, counts[c]))
                    else:
                        part.sub_(level).clamp_(min=LEAST[x.dtype]).exp_()
                    part.mul_(g[:, c, None])
                out.addmm_(e.to(x.dtype), _as(images[start:end], x.dtype))
        return out / sigma.to(x.dtype).square()[:, None], None, None, None, None


def _again(kept: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
    """Blocks of exponents that the forward pass kept, copied, as of `_Exponents`."""
    start = 0
    for e in kept:
        yield start, start + e.shape[1], e.clone()
        start += e.shape[1]


def _parts(counts: Sequence[int], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The classes within a block of positions, and where each begins and ends there."""
    first = 0
    for c, count in enumerate(counts):
        a, b = max(first, start), min(first + count, end)
        if a < b:
            yield c, a, b
        first += count
