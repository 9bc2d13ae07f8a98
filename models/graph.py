"""The graph of a batch of feature vectors, and diffusion on it.

    w_ij = exp(-(d_ij / d_i(s))^2)  for the j with d_ij < d_i(n_top),  else 0
    W <- D^-1/2 W D^-1/2,   W <- (W + W^T) / 2,   L = diag(W 1) - W
    u <- u - step L u,   n times

d_ij is the distance of rows i and j, d_i(k) the k-th smallest of row i, which counts itself.
L 1 = 0 and L = L^T, so that the sum of u over the batch is kept; L >= 0. Stable for step < 2 /
lambda_max(L), and u stays a convex combination of what it was for step (d_i - w_ii) <= 1, all i.

Reference: T. Wang, Z. Dou, C. Bao, Z. Shi, Diffusion Mechanism in Residual Neural Network: Theory
and Applications, IEEE TPAMI 46(2), 2024, https://arxiv.org/abs/2105.03155.
"""

import torch
from torch import Tensor

N_TOP, S, STEPS, STEP = 8, 4, 10, 0.5
TINY = 1e-12


def distances(x: Tensor) -> Tensor:
    """Return the distances d_ij of the rows of x (N, d), zero on the diagonal."""
    squared = (x * x).sum(1)
    d = (squared[:, None] + squared - 2 * x @ x.T).clamp(min=0)
    return (d * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))).sqrt()


@torch.no_grad()
def weights(x: Tensor, n_top: int = N_TOP, s: int = S) -> Tensor:
    """Return W (N, N) of the rows of x (N, d); no gradient goes through it.

    Args:
        n_top: Neighbors of a row, itself counted.
        s: Rank of the neighbor that gives the scale of its distances.
    """
    n, d = len(x), distances(x)
    ordered = d.sort(dim=1).values
    far = ordered[:, min(n_top, n) - 1, None]
    scale = ordered[:, min(s, n) - 1, None].clamp(min=TINY)
    W = torch.where(d < far, torch.exp(-((d / scale) ** 2)), torch.zeros_like(d))
    degree = W.sum(1)
    root = torch.where(degree > 0, degree.clamp(min=TINY).rsqrt(), torch.zeros_like(degree))
    W = root[:, None] * W * root
    return (W + W.T) / 2


def laplacian(W: Tensor) -> Tensor:
    """Return L = diag(W 1) - W."""
    return torch.diag(W.sum(1)) - W


def lambda_max(L: Tensor) -> float:
    """Return the largest eigenvalue of L."""
    return float(torch.linalg.eigvalsh(L.double())[-1]) if len(L) else 0.0


def safe_step(L: Tensor, step: float) -> Tensor:
    """Return `step`, cut to 0.9 / max L_ii: below both limits, since lambda_max <= 2 max L_ii."""
    return (0.9 / L.diagonal().amax().clamp(min=TINY)).clamp(max=step)


def check_step(L: Tensor, step: float) -> None:
    """Refuse a step at which diffusion on the graph is unstable.

    Raises:
        ValueError: Says the limit.
    """
    limit = 2 / max(lambda_max(L), TINY)
    if not 0 <= step < limit:
        raise ValueError(
            f"`step` must lie in [0, {limit:.4g}), below 2 / lambda_max of the graph; got {step}. "
            f"Use {0.9 * limit:.3g}."
        )


def diffuse(u: Tensor, L: Tensor, step: float | Tensor, num_steps: int) -> Tensor:
    """Return u (N, k) after `num_steps` steps u <- u - step L u."""
    for _ in range(num_steps):
        u = u - step * (L @ u)
    return u
