"""What a row of attention, or a saliency map, looks like: one number for each row.

A row a is a distribution over the K = H W places of a grid, in row-major order: the weights that a
query gives to the keys, or a saliency map m as max(m, 0) / sum. Statistics are those of the native
grid, never of a map that was enlarged. With u, v for neighbors among the `edges` pairs that share
a side:

    entropy           -sum a log a                          0 .. log K; uniform: log K
    concentration     1 - entropy / log K                   0 .. 1; uniform: 0
    support           exp(entropy)                          1 .. K; uniform: K
    gini              sum_j (2 j - K - 1) a_(j) / K         0 .. 1 - 1/K; uniform: 0
    total_variation   K / edges sum |a_u - a_v|             uniform: 0
    dirichlet         K^2 / edges 1/2 sum (a_u - a_v)^2     uniform: 0
    border            sum of a over the outer ring          uniform: 1 - (H-2)(W-2) / (H W)
    spread            sqrt(sum a |p - sum a p|^2)           in places; a point: 0
    distance          sum a(q, k) |p_q - p_k|               in places; of attention alone

Total variation and energy are scaled so that grids of different size can be compared. The average
over rows is taken of the statistic, not of the maps: the entropy of a mean map is larger.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def entropy(a: Tensor) -> Tensor:
    """Return -sum a log a over the last dimension, in nats; 0 log 0 = 0."""
    smallest = torch.finfo(a.dtype).tiny  # whose logarithm is finite, so that 0 log 0 = 0
    return -(a * a.clamp_min(smallest).log()).sum(dim=-1)


def argsort(x: Tensor) -> Tensor:
    """Return the places of the last dimension in ascending order of x; of equals in any."""
    if x.device.type == "cpu":  # NumPy sorts short rows in vectors, ten times as fast
        return torch.from_numpy(np.argsort(x.detach().numpy(), axis=-1))
    return x.argsort(dim=-1)


def gini(a: Tensor) -> Tensor:
    """Return the Gini coefficient of rows (..., K) that sum to one, in [0, 1 - 1/K]."""
    k = a.shape[-1]
    place = torch.arange(1, k + 1, device=a.device, dtype=a.dtype)
    return (a.gather(-1, argsort(a)) * (2 * place - k - 1)).sum(dim=-1) / k


@lru_cache(maxsize=16)
def positions(height: int, width: int, device: torch.device) -> Tensor:
    """Return the places of a grid in row-major order, (K, 2), float32."""
    h, w = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.cartesian_prod(h, w).float()


def statistics(a: Tensor, height: int, width: int, attention: bool = False) -> Tensor:
    """Return the statistics of rows, in the order of `metrics.MAP_STATISTICS`.

    Args:
        a: (..., K), K = height x width, rows that sum to one; a row of NaN gives NaN.
        attention: Whether the dimension before the last are queries at the places of the grid.

    Returns:
        (..., 8), all but the distance; (..., 9) for attention.

    Raises:
        ValueError: The rows do not fit the grid.
    """
    k = height * width
    if a.shape[-1] != k or (attention and a.shape[-2] != k):
        raise ValueError(f"Rows {tuple(a.shape)} do not fit a grid of {height} x {width} places.")
    h = entropy(a)
    grid = a.unflatten(-1, (height, width))
    down, right = grid.diff(dim=-2), grid.diff(dim=-1)
    edges = max(1, (height - 1) * width + height * (width - 1))
    variation = down.abs().sum((-2, -1)) + right.abs().sum((-2, -1))
    energy = down.square().sum((-2, -1)) + right.square().sum((-2, -1))
    inner = grid[..., 1:-1, 1:-1].sum((-2, -1))
    place = positions(height, width, a.device).to(a.dtype)
    center = a @ place
    # Variance by E|p|^2 - |E p|^2, from the middle of the grid, where nothing cancels.
    middle = place.mean(dim=0)
    square = a @ (place - middle).square().sum(dim=1)
    spread = (square - (center - middle).square().sum(dim=-1)).clamp(min=0).sqrt()
    found = [
        h,
        1 - h / torch.tensor(max(2, k), dtype=a.dtype).log(),
        h.exp(),
        gini(a),
        variation * k / edges,
        0.5 * energy * k**2 / edges,
        a.sum(dim=-1) - inner,
        spread,
    ]
    if attention:
        found.append((a * torch.cdist(place, place)).sum(dim=-1))
    return torch.stack(found, dim=-1)


def ranks(x: Tensor) -> Tensor:
    """Return the ranks 1..K of the last dimension, equal values having their average rank;
    NaN for a row with a NaN."""
    order = argsort(x)
    ordered = x.gather(-1, order)
    place = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=torch.float64)
    found = torch.empty(x.shape, device=x.device, dtype=torch.float64)
    found.scatter_(-1, order, place.expand(x.shape))
    tied = (ordered[..., 1:] == ordered[..., :-1]).any(dim=-1)
    if tied.any():  # rarely, so that only their rows take the longer way
        own, rows = ordered[tied].contiguous(), x[tied].contiguous()
        below = torch.searchsorted(own, rows)
        upto = torch.searchsorted(own, rows, right=True)
        found[tied] = (below + upto + 1).to(torch.float64) / 2
    return found.masked_fill(x.isnan().any(-1, keepdim=True), torch.nan)


def spearman_of_ranks(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of ranks (..., K), NaN where one row is constant or NaN."""
    middle = (a.shape[-1] + 1) / 2
    x, y = a - middle, b - middle
    rho = (x * y).sum(-1) / (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return rho.float()


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's rank correlation of rows (..., K), NaN where one of them is constant."""
    return spearman_of_ranks(ranks(a), ranks(b))
