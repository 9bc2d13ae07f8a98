"""Linear diffusion in the eigenbasis of the Laplacian: u' = V [m ∘ (Vᵀ u V)] Vᵀ.

The five-point Laplacian is a sum of one matrix per axis, L1 = V diag(lam) Vᵀ, V orthonormal:

    neumann     V_ik ~ cos(pi k (i + 1/2) / n)            lam_k = 2 cos(pi k / n) - 2
    periodic    V_ik ~ cos, sin(2 pi k i / n)             lam_k = 2 cos(2 pi k / n) - 2
    dirichlet   V_ik ~ sin(pi (k + 1) (i + 1) / (n + 1))  lam_k = 2 cos(pi (k + 1) / (n + 1)) - 2

so that every linear scheme is one multiplier m of the modes l = lam_i + lam_j, whatever its number
of steps, for four small matrix products per plane.
"""

import functools

import torch
from torch import Tensor


@functools.cache
def eigenbasis(n: int, boundary: str) -> tuple[Tensor, Tensor]:
    """Return V (n, n), columns the modes, and lam (n,) of one axis, in float64 on the CPU."""
    i = torch.arange(n, dtype=torch.float64)
    if boundary == "neumann":
        angle = torch.pi * i / n
        V = torch.cos((i + 0.5)[:, None] * angle)
    elif boundary == "periodic":
        half = (i + 1).div(2, rounding_mode="floor")  # 0, 1, 1, 2, 2, ...: cosine and sine
        angle = 2 * torch.pi * half / n
        phase = i[:, None] * angle
        V = torch.where(i % 2 == 1, torch.cos(phase), torch.sin(phase))
        V[:, 0] = 1
    else:
        angle = torch.pi * (i + 1) / (n + 1)
        V = torch.sin((i + 1)[:, None] * angle)
    return V / V.norm(dim=0), 2 * torch.cos(angle) - 2


def multiplier(modes: Tensor, diffusivity: Tensor, taus: list[float], scheme: str) -> Tensor:
    """Return m (..., H, W) for the modes l (H, W) and diffusivities (..., 1, 1)."""
    rate = diffusivity * modes
    if scheme == "exact":
        return torch.exp(sum(taus) * rate)
    m = torch.ones_like(rate)
    for tau in taus:
        m = m / (1 - tau * rate) if scheme == "implicit" else m * (1 + tau * rate)
    return m


def diffuse(
    u: Tensor, diffusivity: float | Tensor, taus: list[float], scheme: str, boundary: str
) -> Tensor:
    """Return `u` after the steps `taus` of a linear scheme, in plain differentiable torch."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    Vh, lam_h = eigenbasis(u.shape[2], boundary)
    Vw, lam_w = eigenbasis(u.shape[3], boundary)
    modes = (lam_h[:, None] + lam_w).to(u.device)
    kappa = torch.as_tensor(diffusivity, dtype=torch.float64, device=u.device).reshape(-1, 1, 1)
    m = multiplier(modes, kappa, taus, scheme).to(dtype)
    Vh, Vw = Vh.to(u.device, dtype), Vw.to(u.device, dtype)
    return (Vh @ (m * (Vh.T @ u.to(dtype) @ Vw)) @ Vw.T).to(u.dtype)
