"""Upper bounds of how much a network can enlarge a difference of two images.

    |f(x) - f(y)|_2 <= L |x - y|_2   for all x and y;   L of a chain is the product of its parts'

    linear layer      sigma_max(W), by singular values
    convolution       max over frequencies w of sigma_max(K(w)), K the Fourier transform of the
                      kernel on a grid as wide as image and kernel together: zero padding and stride
                      only cut such a cyclic convolution, so the bound holds for both
    ReLU, tanh, ...   1; sigmoid 1/4
    pooling           mean: ceil(k / s) / k, of k x k windows in steps of s; maximum: ceil(k / s)
    batch norm        max |gamma| / sqrt(variance + eps), in evaluation
    pixel norm        max |gamma| / sqrt(eps)
    Y + dt F(Y)       1 + dt L(F), but max(1, dt |K|^2 - 1) for F = -K^T relu(K Y)
    y + a f(z), z     (c + sqrt(c^2 + 4)) / 2 with c = |a| L(f), the norm of [[1, c], [0, 1]]

The last is the logarithmic norm at work: the Jacobian -K^T D K, 0 <= D <= 1, is symmetric and has
no positive eigenvalue, so that steps of dt <= 2 / |K|^2 never drive two states apart. Power
iteration is not used, since it comes from below and bounds nothing.

Reference: C. Szegedy et al., Intriguing properties of neural networks, ICLR 2014,
https://arxiv.org/abs/1312.6199 (products); H. Sedghi, V. Gupta and P. M. Long, The singular values
of convolutional layers, ICLR 2019, https://arxiv.org/abs/1805.10408 (the cyclic convolution).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.layers import Normalize
from harness.models.reversible import Chain
from harness.models.ruthotto_haber import PDENet
from harness.models.symmetric import (
    EPS,
    Parabolic,
    PixelNorm,
    SecondOrder,
    SymmetricLayer,
    UntiedLayer,
)

ROUNDED = 1 + 1e-9  # what singular values are multiplied by
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Bound:
    """A bound of a part of a network.

    Args:
        value: L, infinite where none is known.
        shape: Shape of one sample of its output.
        inner: L of all but the last layer, if that is `nn.Linear`; `last` its weights (K, d).
        unknown: Names of the classes of layers that have no rule.
    """

    value: float
    shape: Shape
    inner: float = math.inf
    last: Tensor | None = None
    unknown: tuple[str, ...] = ()


Rule = Callable[[Any, Shape], Bound]


def bound(module: nn.Module, shape: Shape) -> Bound:
    """Return the bound of a module in evaluation mode on samples of that shape, such as (3, H, W).

    Only classes of RULES have one, not what is derived from them, whose forward pass may be
    another; nor modules with hooks, or a forward pass of their own.

    Raises:
        ValueError: The module is in training mode.
    """
    if module.training:
        raise ValueError("A bound is that of a network in evaluation mode. Call `.eval()` first.")
    rule = RULES.get(type(module))
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    if rule is None or changed:
        return Bound(math.inf, shape, unknown=(type(module).__name__,))
    return rule(module, shape)


def chain(parts: Iterable[nn.Module], shape: Shape) -> Bound:
    """Return the bound of modules one after the other."""
    found = Bound(1.0, shape)
    for part in parts:
        if found.unknown:  # the shape behind it is not known
            return replace(found, last=None)
        after = bound(part, found.shape)
        found = Bound(
            found.value * after.value, after.shape, found.value * after.inner, after.last,
            after.unknown,
        )  # fmt: skip
    return found


def of_linear(layer: nn.Linear, shape: Shape) -> Bound:
    weight = layer.weight.detach().double()
    value = float(torch.linalg.matrix_norm(weight, 2)) * ROUNDED
    last = weight if len(shape) == 1 else None
    return Bound(value, (*shape[:-1], layer.out_features), 1.0, last)


def of_convolution(layer: nn.Conv2d, shape: Shape) -> Bound:
    outputs = [size_after(layer, n, axis) for axis, n in enumerate(shape[1:])]
    after = (layer.out_channels, *outputs)
    if layer.padding_mode != "zeros":
        return Bound(math.inf, after, unknown=(f"Conv2d with {layer.padding_mode} padding",))
    weight = layer.weight.detach()
    if layer.groups > 1:
        weight = torch.stack([torch.block_diag(*w) for w in _by_place(weight, layer.groups)], -1)
        weight = weight.unflatten(-1, layer.kernel_size)
    return Bound(convolution_norm(weight, shape[1:], layer.dilation), after)


def _by_place(weight: Tensor, groups: int) -> list[list[Tensor]]:
    """Return the matrices of the groups, for each place of the kernel."""
    flat = weight.flatten(2)
    return [list(flat[:, :, k].chunk(groups)) for k in range(flat.shape[2])]


def size_after(layer: nn.Conv2d, n: int, axis: int) -> int:
    """Return the length of an output axis."""
    k, s, d = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
    if layer.padding == "same":
        return -(-n // s)
    padding = 0 if isinstance(layer.padding, str) else int(layer.padding[axis])
    return (n + 2 * padding - d * (k - 1) - 1) // s + 1


def convolution_norm(
    weight: Tensor, size: tuple[int, ...], dilation: tuple[int, ...] = (1, 1)
) -> float:
    """Return an upper bound of |K|, the convolution with `weight` (c_out, c_in, k, k), any stride.

    Args:
        size: Height and width of the images, padding not counted.
    """
    grid = [n + d * (k - 1) for n, k, d in zip(size, weight.shape[2:], dilation, strict=True)]
    spread = weight.new_zeros((*weight.shape[:2], *grid), dtype=torch.float64)
    kernel = spread[:, :, :: dilation[0], :: dilation[1]][
        :, :, : weight.shape[2], : weight.shape[3]
    ]
    kernel.copy_(weight)  # a view: the grid is written
    waves = torch.fft.rfft2(spread).permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(waves, 2).max()) * ROUNDED


def of_norm(layer: nn.BatchNorm2d, shape: Shape) -> Bound:
    if layer.running_var is None:
        return Bound(math.inf, shape, unknown=("BatchNorm2d without running variance",))
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight.detach().double().abs()
    return Bound(float(scale.max()) * ROUNDED, shape)


def of_pool(layer: nn.AvgPool2d | nn.MaxPool2d, shape: Shape) -> Bound:
    k, s, p = (_pair(x) for x in (layer.kernel_size, layer.stride, layer.padding))
    plain = getattr(layer, "divisor_override", None) is None and not layer.ceil_mode
    if not plain or _pair(getattr(layer, "dilation", 1)) != (1, 1):
        return Bound(math.inf, shape, unknown=(f"{type(layer).__name__} of this kind",))
    after = [(n + 2 * p[i] - k[i]) // s[i] + 1 for i, n in enumerate(shape[1:])]
    value = math.sqrt(math.prod(-(-k[i] // s[i]) for i in (0, 1)))
    if isinstance(layer, nn.AvgPool2d):
        if p != (0, 0) and not layer.count_include_pad:
            return Bound(math.inf, shape, unknown=("AvgPool2d of this kind",))
        value /= math.sqrt(math.prod(k))
    return Bound(value, (shape[0], *after))


def _pair(x: Any) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else tuple(x)


def of_symmetric(layer: SymmetricLayer, shape: Shape) -> Bound:
    norm = bound(layer.norm, shape)
    return Bound(
        convolution_norm(layer.weight.detach(), shape[1:]) ** 2 * norm.value, shape,
        unknown=norm.unknown,
    )  # fmt: skip


def contracts(layer: nn.Module) -> bool:
    """Return whether F is -K^T relu(K Y), or linear, without a norm."""
    return (
        type(layer) is SymmetricLayer
        and layer.sign == -1
        and isinstance(layer.norm, nn.Identity)
        and isinstance(layer.activation, nn.ReLU | nn.Identity)
    )


def of_parabolic(block: Parabolic, shape: Shape) -> Bound:
    total, unknown = 1.0, tuple[str, ...]()
    for layer in block.layers:
        inside, dt = bound(layer, shape), float(block.step_size(layer))
        total *= max(1.0, dt * inside.value - 1) if contracts(layer) else 1 + dt * inside.value
        unknown += inside.unknown
    return Bound(total, shape, unknown=unknown)


def of_second_order(block: SecondOrder, shape: Shape) -> Bound:
    """Of (Y, Y_old) -> (2 Y + dt^2 F(Y) - Y_old, Y), from (Y, Y): the norm of [[a, 1], [1, 0]]."""
    total, unknown = math.sqrt(2), tuple[str, ...]()
    for layer in block.layers:
        inside, dt = bound(layer, shape), float(block.step_size(layer))
        reach = dt * inside.value  # |2 + dt^2 J|, J from -reach to 0 where F contracts
        a = max(2.0, reach - 2) if contracts(layer) else 2 + reach
        total *= (a + math.sqrt(a * a + 4)) / 2
        unknown += inside.unknown
    return Bound(total, shape, unknown=unknown)


def of_chain(block: Chain, shape: Shape) -> Bound:
    half, total, unknown = (shape[0] // 2, *shape[1:]), 1.0, tuple[str, ...]()
    coupling: Any
    for coupling in block.couplings:
        for function, step in ((coupling.f, coupling.a), (coupling.g, coupling.b)):
            inside = bound(function, half)
            c = abs(step) * inside.value
            total *= (c + math.sqrt(c * c + 4)) / 2
            unknown += inside.unknown
    return Bound(total, shape, unknown=unknown)


def of_network(net: PDENet, shape: Shape) -> Bound:
    parts: list[nn.Module] = [net.normalize, net.opening]
    for block, connector in zip(net.stages, net.connectors, strict=True):
        parts += [block, connector, nn.AvgPool2d(2).eval()]
    parts[-1:] = [nn.AdaptiveAvgPool2d(1).eval(), nn.Flatten().eval(), net.head]
    return chain(parts, shape)


def of_mean(layer: nn.AdaptiveAvgPool2d, shape: Shape) -> Bound:
    if layer.output_size not in (1, (1, 1)):
        return Bound(math.inf, shape, unknown=("AdaptiveAvgPool2d to more than one pixel",))
    return Bound(1 / math.sqrt(math.prod(shape[1:])), (shape[0], 1, 1))


def of_flatten(layer: nn.Flatten, shape: Shape) -> Bound:
    whole = (layer.start_dim, layer.end_dim) == (1, -1)
    return Bound(
        1.0 if whole else math.inf, (math.prod(shape),), unknown=() if whole else ("Flatten",)
    )


def same(value: float) -> Rule:
    """Return the rule of a layer that keeps the shape."""
    return lambda layer, shape: Bound(value, shape)


RULES: dict[type, Rule] = {
    nn.Sequential: chain,
    nn.Linear: of_linear,
    nn.Conv2d: of_convolution,
    nn.BatchNorm2d: of_norm,
    nn.AvgPool2d: of_pool,
    nn.MaxPool2d: of_pool,
    nn.AdaptiveAvgPool2d: of_mean,
    nn.Flatten: of_flatten,
    nn.Sigmoid: same(0.25),
    Normalize: lambda layer, shape: Bound(float(1 / layer.std.double().min()) * ROUNDED, shape),
    PixelNorm: lambda layer, shape: Bound(
        float(layer.weight.detach().double().abs().max()) / math.sqrt(EPS) * ROUNDED, shape
    ),
    SymmetricLayer: of_symmetric,
    UntiedLayer: lambda layer, shape: chain(
        (layer.first, layer.norm, nn.ReLU().eval(), layer.second), shape
    ),
    Parabolic: of_parabolic,
    SecondOrder: of_second_order,
    Chain: of_chain,
    PDENet: of_network,
    **dict.fromkeys(
        (nn.Identity, nn.ReLU, nn.Tanh, nn.Softplus, nn.Dropout, nn.Dropout2d), same(1.0)
    ),
}
