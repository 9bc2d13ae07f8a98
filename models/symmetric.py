"""Layers and steps of networks that are discretized partial differential equations.

    F(Y) = -K^T relu(N(K Y)),   N(y) = y / sqrt(sum over channels y^2 + 1e-3), scaled and shifted

K is a 3x3 convolution and K^T its transpose, with the same weights. Without N the Jacobian
-K^T diag(relu') K is symmetric and has no positive eigenvalue.

    Parabolic     Y <- Y + dt F(Y)                                dt <= 2 / |K|^2
    SecondOrder   Y <- 2 Y - Y_old + dt^2 F(Y)                    dt <= 2 / |K|
    Verlet        Y <- Y + dt F1(Z), Z <- Z - dt F2(Y)            dt < 2 / (|K1| |K2|)

The limits are those without N, for the identity in place of relu. With N the layers' outputs are
bounded by unit length a pixel, which is what bears dt = 1. Without N the first two cut their step
to the limit, by the bound |K|^2 <= |K|_1 |K|_inf.

Reference: L. Ruthotto, E. Haber, Deep Neural Networks Motivated by Partial Differential Equations,
J. Math. Imaging and Vision 2019, https://arxiv.org/abs/1804.04272.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from harness.models.layers import widen
from harness.models.reversible import Chain, Coupling

EPS = 1e-3


class PixelNorm(nn.Module):
    """N(y) = y / sqrt(sum over channels y^2 + eps), then scale and shift; 2 c weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, y: Tensor) -> Tensor:
        y = widen(y)
        length = (y.square().sum(dim=1, keepdim=True) + EPS).sqrt()
        return y / length * self.weight[:, None, None] + self.bias[:, None, None]


class SymmetricLayer(nn.Module):
    """F(Y) = sign K^T relu(N(K Y)) on (N, c, H, W); 9 c^2 + 2 c weights.

    Args:
        sign: -1, or 1 for the anti-diffusive null.
        norm: Whether there is N; without it, no 2 c weights either.
        relu: False for the linear layer of the theory.
    """

    def __init__(self, channels: int, sign: int = -1, norm: bool = True, relu: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.sign = sign
        self.norm = PixelNorm(channels) if norm else nn.Identity()
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, y: Tensor) -> Tensor:
        inner = self.activation(self.norm(conv2d(y, self.weight, padding=1)))
        return self.sign * conv_transpose2d(inner, self.weight, padding=1)

    def norm_bound(self) -> Tensor:
        """Return an upper bound of |K|^2: the largest sums of |K| by output and by input."""
        sums = self.weight.detach().abs().sum((2, 3))
        return sums.sum(0).max() * sums.sum(1).max()


class UntiedLayer(nn.Module):
    """F(Y) = K2 relu(N(K1 Y)) on (N, c, H, W); 18 c^2 + 2 c weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = PixelNorm(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        for conv in (self.first, self.second):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, y: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(y))))


Layer = Callable[[int], nn.Module]  # channels to F


class Parabolic(nn.Module):
    """Y <- Y + dt F(Y), a step for each F of `layers`: forward Euler, order 1."""

    def __init__(self, channels: int, layer: Layer, steps: int, dt: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(channels) for _ in range(steps))
        self.dt = dt

    def step_size(self, layer: nn.Module) -> float | Tensor:
        """Return dt, cut to the limit 2 / |K|^2 where there is no N to bound the layer."""
        if isinstance(layer, SymmetricLayer) and isinstance(layer.norm, nn.Identity):
            return (2 / layer.norm_bound()).clamp(max=self.dt)
        return self.dt

    def forward(self, y: Tensor) -> Tensor:
        y = widen(y)
        for layer in self.layers:
            y = y + self.step_size(layer) * layer(y)
        return y


class SecondOrder(Parabolic):
    """Y <- 2 Y - Y_old + dt^2 F(Y): leapfrog, order 2; it starts at rest in every block."""

    def step_size(self, layer: nn.Module) -> float | Tensor:
        """Return dt^2, cut to the limit 4 / |K|^2 where there is no N."""
        if isinstance(layer, SymmetricLayer) and isinstance(layer.norm, nn.Identity):
            return (4 / layer.norm_bound()).clamp(max=self.dt**2)
        return self.dt**2

    def forward(self, y: Tensor) -> Tensor:
        old = y = widen(y)
        for layer in self.layers:
            y, old = 2 * y - old + self.step_size(layer) * layer(y), y
        return y


def verlet(
    channels: int, layer: Layer, steps: int, dt: float, sign: float, store_activations: bool
) -> Chain:
    """Y <- Y + dt F1(Z), Z <- Z + sign dt F2(Y) on channel halves: Verlet, order 2."""
    half = channels // 2
    couplings = [Coupling(layer(half), layer(half), dt, sign * dt) for _ in range(steps)]
    return Chain(couplings, store_activations)
