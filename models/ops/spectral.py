"""Linear diffusion in the eigenbasis of the Laplacian: u' = V [m ∘ (Vᵀ u V)] Vᵀ.

The five-point Laplacian is a sum of one matrix per axis, L1 = V diag(lam) Vᵀ, V orthonormal:

    neumann     V_ik ~ cos(pi k (i + 1/2) / n)            lam_k = 2 cos(pi k / n) - 2
    periodic    V_ik ~ cos, sin(2 pi k i / n)             lam_k = 2 cos(2 pi k / n) - 2
    dirichlet   V_ik ~ sin(pi (k + 1) (i + 1) / (n + 1))  lam_k = 2 cos(pi (k + 1) / (n + 1)) - 2

so that every linear scheme is one multiplier m of the modes l = lam_i + lam_j, whatever its number
of steps. The operator is self-adjoint, and its slope in the diffusivity D is the multiplier dm/dD:

    <w, du'/dD> = sum (Vᵀ w V) ∘ dm/dD ∘ (Vᵀ u V).

Bases and multipliers are made in float64 and rounded once. Planes go through the products in blocks
that stay in the cache. Planes of at most 64 pixels take one product with the whole operator
(V ⊗ V) diag(m) (V ⊗ V)ᵀ, or, where few of them share one, two with V ⊗ V.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 18  # elements for each thread, 1 MiB of float32; smaller ones wait too often
DEVICE_BLOCK = 1 << 26  # elements on a device, where launches cost more than memory
SMALL = 64  # pixels of a plane up to which one dense product is cheaper than two thin ones
TINY = 16  # pixels of a plane up to which the channels of a block are not worth a call each
MANY = 4  # times as many images as pixels, and an operator is worth making for each channel

# The product of oneDNN has no public name; without it there is the ordinary one.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

Taus = tuple[float, ...]
Size = tuple[int, int]


@functools.cache
def eigenbasis(n: int, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Return V (n, n), columns the modes, and lam (n,) of one axis, in float64.

    In numpy, so that what is kept is not a tensor of the mode (fake, inference) of the first call.
    """
    i = np.arange(n, dtype=np.float64)
    if boundary == "neumann":
        angle = np.pi * i / n
        V = np.cos((i + 0.5)[:, None] * angle)
    elif boundary == "periodic":
        angle = 2 * np.pi * np.floor((i + 1) / 2) / n  # 0, 1, 1, 2, 2, ...
        phase = i[:, None] * angle
        V = np.where(i % 2 == 1, np.cos(phase), np.sin(phase))
        V[:, 0] = 1
    else:
        angle = np.pi * (i + 1) / (n + 1)
        V = np.sin((i + 1)[:, None] * angle)
    return V / np.linalg.norm(V, axis=0), 2 * np.cos(angle) - 2


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _bases(
    size: Size, boundary: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, Tensor]:
    # What acts on the rows' axis from the left (None: nothing) and on the columns' axis.
    Vh, Vw = (torch.tensor(eigenbasis(n, boundary)[0]) for n in size)
    if size[0] * size[1] <= SMALL:
        return None, torch.kron(Vh, Vw).to(device, dtype)
    return Vh.to(device, dtype), Vw.to(device, dtype)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _modes(size: Size, boundary: str, device: torch.device) -> Tensor:
    return _new_modes(size, boundary, device)


def _new_modes(size: Size, boundary: str, device: torch.device) -> Tensor:
    lam_h, lam_w = (eigenbasis(n, boundary)[1] for n in size)
    return torch.tensor(lam_h[:, None] + lam_w, device=device)


def multiplier(modes: Tensor, D: Tensor | float, taus: Taus, scheme: str) -> tuple[Tensor, Tensor]:
    """Return m and dm/dD (..., H, W) for the modes l (H, W) and diffusivities D (..., 1, 1)."""
    rate = D * modes
    if scheme == "exact":
        m = torch.exp(sum(taus) * rate)
        return m, sum(taus) * modes * m
    m, slope = torch.ones_like(rate), torch.zeros_like(rate)
    for tau, n in Counter(taus).items():
        if scheme == "implicit":
            factor = (1 - tau * rate) ** -n
            change = n * tau * modes * (1 - tau * rate) ** (-n - 1)
        else:  # no division by a factor: it can be 0
            factor = (1 + tau * rate) ** n
            change = n * tau * modes * (1 + tau * rate) ** (n - 1)
        m, slope = m * factor, slope * factor + m * change
    return m, slope


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _kept_multiplier(
    size: Size, taus: Taus, scheme: str, boundary: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    m, _ = multiplier(_modes(size, boundary, device), 1.0, taus, scheme)
    return m.to(dtype)


def _multipliers(
    D: Tensor, size: Size, taus: Taus, scheme: str, boundary: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    modes = _modes(size, boundary, D.device)
    m, slope = multiplier(modes, D.double()[..., None, None], taus, scheme)
    return m.to(dtype), slope.to(dtype)


def reference(u: Tensor, D: Tensor | None, taus: Taus, scheme: str, boundary: str) -> Tensor:
    """Return `u` (N, C, H, W) after the steps `taus` of a linear scheme.

    Args:
        u: Floating point state.
        D: Diffusivity, of shape () or (C,); None for 1.
        taus: Sizes of the steps, one for "exact".
        scheme: "explicit" with any steps, "implicit" or "exact".
        boundary: "neumann", "periodic" or "dirichlet".

    Returns:
        The state in the dtype of `u`, by plain differentiable torch.
    """
    w = u.to(torch.promote_types(u.dtype, torch.float32))
    size = (int(u.shape[2]), int(u.shape[3]))
    Vh, Vw = (torch.tensor(eigenbasis(n, boundary)[0]).to(w) for n in size)
    rates = torch.ones((), device=u.device) if D is None else D
    modes = _new_modes(size, boundary, u.device)
    m, _ = multiplier(modes, rates.double()[..., None, None], taus, scheme)
    return (Vh @ (m.to(w.dtype) * (Vh.T @ w @ Vw)) @ Vw.T).to(u.dtype)


def _times(x: Tensor, right: Tensor) -> Tensor:
    # x (rows, k) times right (k, k). oneDNN takes 0.4 of MKL's time for k = 64, on AMD's Zen 5.
    if x.device.type == "cpu" and x.dtype == torch.float32 and ONEDNN:
        return torch.ops.mkldnn._linear_pointwise(x, right.T, None, "none", [], "")
    return x @ right


def _images_of_a_block(u: Tensor, elements: int) -> int:
    block = BLOCK * torch.get_num_threads() if u.device.type == "cpu" else DEVICE_BLOCK
    return max(1, block // elements)


class _Transform:
    """Products with the bases, block by block: planes (B, H, W) to modes and back."""

    def __init__(self, u: Tensor, boundary: str) -> None:
        self.images = _images_of_a_block(u, u[0].numel())
        self.dtype = torch.promote_types(u.dtype, torch.float32)
        self.left, self.right = _bases((u.shape[2], u.shape[3]), boundary, self.dtype, u.device)

    def blocks(self, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the same images of all states (N, C, H, W)."""
        return zip(*(state.split(self.images) for state in states), strict=True)

    def to_modes(self, block: Tensor, out: Tensor) -> Tensor:
        block = block.to(self.dtype).contiguous()
        left = None if self.left is None else self.left.T
        return self._products(block, left, self.right, out[: block.shape[0]])

    def to_planes(self, modes: Tensor, out: Tensor) -> None:
        direct = out.is_contiguous() and out.dtype == self.dtype
        target = out if direct else torch.empty_like(modes)
        self._products(modes, self.left, self.right.T, target)
        if not direct:
            out.copy_(target)

    def _products(self, block: Tensor, left: Tensor | None, right: Tensor, out: Tensor) -> Tensor:
        product = _times(block.view(-1, right.shape[0]), right)
        if left is None:
            return out.copy_(product.view(out.shape))
        planes = product.view(-1, *block.shape[2:])
        torch.bmm(left.expand(len(planes), -1, -1), planes, out=out.view(planes.shape))
        return out

    def buffer(self, u: Tensor) -> Tensor:
        return u.new_empty((min(self.images, u.shape[0]), *u.shape[1:]), dtype=self.dtype)


@torch.inference_mode(False)
def _operators(
    D: Tensor, size: Size, taus: Taus, scheme: str, boundary: str, dtype: torch.dtype
) -> Tensor:
    # The symmetric operator on flat planes for every diffusivity, (len(D), H W, H W).
    _, V = _bases(size, boundary, torch.float64, D.device)
    m, _ = _multipliers(D, size, taus, scheme, boundary, torch.float64)
    return (V * m.reshape(-1, 1, len(V)) @ V.T).to(dtype)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _kept_operator(
    size: Size, taus: Taus, scheme: str, boundary: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    one = torch.ones((), dtype=torch.float64, device=device)
    return _operators(one, size, taus, scheme, boundary, dtype)


def _march_whole(u: Tensor, operators: Tensor) -> Tensor:
    # One operator for all planes or one per channel.
    result, pixels = torch.empty_like(u), operators.shape[-1]
    images = _images_of_a_block(u, u[0].numel() // len(operators))
    channels = u.shape[1] // len(operators)
    with full_precision(u.device):
        for block, out in zip(u.split(images), result.split(images), strict=True):
            parts = zip(block.split(channels, 1), out.split(channels, 1), operators, strict=True)
            for planes, changed, operator in parts:
                flat = planes.to(operator.dtype).reshape(-1, pixels)
                changed.copy_(_times(flat, operator).view(planes.shape))
    return result


def march(u: Tensor, D: Tensor | None, taus: Taus, scheme: str, boundary: str) -> Tensor:
    """Return the same as `reference`, block by block and in full float32 precision."""
    result = torch.empty_like(u)
    if not u.numel():
        return result
    size = (int(u.shape[2]), int(u.shape[3]))
    pixels, dtype = size[0] * size[1], torch.promote_types(u.dtype, torch.float32)
    if pixels <= SMALL and D is None:
        return _march_whole(u, _kept_operator(size, taus, scheme, boundary, dtype, u.device))
    many = pixels > TINY and len(u) >= MANY * pixels
    if pixels <= SMALL and D is not None and (D.numel() == 1 or many):
        D = D.to(u.device)
        return _march_whole(u, _operators(D, size, taus, scheme, boundary, dtype))
    transform = _Transform(u, boundary)
    if D is None:
        m = _kept_multiplier(size, taus, scheme, boundary, transform.dtype, u.device)
    else:
        m, _ = _multipliers(D.to(u.device), size, taus, scheme, boundary, transform.dtype)
    modes = transform.buffer(u)
    with full_precision(u.device):
        for block, out in transform.blocks(u, result):
            transform.to_planes(transform.to_modes(block, modes).mul_(m), out)
    return result


def march_backward(
    grad: Tensor, u: Tensor, D: Tensor, taus: Taus, scheme: str, boundary: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients for `u` and for `D`, given the one for the result of `march`."""
    result, grad_D = torch.empty_like(grad), torch.zeros_like(D, dtype=torch.float64)
    if not u.numel():
        return result, grad_D.to(D.dtype)
    transform, size = _Transform(u, boundary), (u.shape[2], u.shape[3])
    m, slope = _multipliers(D, size, taus, scheme, boundary, transform.dtype)
    modes, modes_u = transform.buffer(u), transform.buffer(u)
    with full_precision(u.device):
        for grad_block, block, out in transform.blocks(grad, u, result):
            g = transform.to_modes(grad_block, modes)
            product = transform.to_modes(block, modes_u).mul_(g).mul_(slope)
            per_channel = product.sum((0, 2, 3), dtype=torch.float64)
            grad_D += per_channel if D.ndim else per_channel.sum()
            transform.to_planes(g.mul_(m), out)
    return result, grad_D.to(D.dtype)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep float32 products in float32, whatever the program allows for its own."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    allowed = backend.matmul.fp32_precision
    if allowed in ("none", "ieee"):
        yield
        return
    backend.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.matmul.fp32_precision = allowed


def laid_out_like(u: Tensor, result: Tensor) -> Tensor:
    """Return a contiguous `result` in the shape and the memory layout of `u`."""
    out, result = torch.empty_like(u), result.view(u.shape)
    return result if out.stride() == result.stride() else out.copy_(result)
