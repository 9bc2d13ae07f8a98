"""Couplings of two halves, which can be undone, and training that does so instead of remembering.

    y <- y + a f(z),   z <- z + b g(y)          forwards
    z <- z - b g(y),   y <- y - a f(z)          backwards

A chain of couplings keeps only its last state for the backward pass, and finds the states before
it by going back: memory does not grow with the number of couplings, and every f and g is evaluated
once more. Round-off grows on the way back, and the more so the less stable the chain is.

Reference: A. N. Gomez et al., The Reversible Residual Network: Backpropagation Without Storing
Activations, NeurIPS 2017, https://arxiv.org/abs/1707.04585.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.models.layers import widen


class Coupling(nn.Module):
    """(y, z) to (y + a f(z), z + b g(y + a f(z))), halves of one shape."""

    def __init__(self, f: nn.Module, g: nn.Module, a: float = 1.0, b: float = 1.0) -> None:
        super().__init__()
        self.f, self.g, self.a, self.b = f, g, a, b

    def forward(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        y = y + self.a * self.f(z)
        return y, z + self.b * self.g(y)

    def inverse(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` was given, up to round-off."""
        z = z - self.b * self.g(y)
        return y - self.a * self.f(z), z


class Chain(nn.Module):
    """Couplings one after the other on the channel halves of x (N, c, H, W), to the same shape.

    Args:
        store_activations: Whether the backward pass may remember; else it goes back.
    """

    def __init__(self, couplings: Sequence[Coupling], store_activations: bool = True) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(couplings)
        self.store_activations = store_activations

    def forward(self, x: Tensor) -> Tensor:
        y, z = widen(x).chunk(2, dim=1)
        if self.store_activations or not torch.is_grad_enabled():
            for coupling in self.couplings:
                y, z = coupling(y, z)
        else:
            y, z = Undone.apply(self.couplings, y, z, *self.couplings.parameters())
        return torch.cat((y, z), dim=1)

    def inverse(self, x: Tensor) -> Tensor:
        """Return what `forward` was given, up to round-off."""
        y, z = x.chunk(2, dim=1)
        for coupling in reversed(self.couplings):
            y, z = coupling.inverse(y, z)  # type: ignore[operator]
        return torch.cat((y, z), dim=1)


class Undone(torch.autograd.Function):
    """A chain whose backward pass recomputes its states from its result."""

    @staticmethod
    def forward(
        ctx: Any, couplings: nn.ModuleList, y: Tensor, z: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = y.device.type
        ctx.couplings, ctx.parameters = couplings, parameters
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        for coupling in couplings:
            y, z = coupling(y, z)
        ctx.save_for_backward(y, z)
        return y, z

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        y, z = ctx.saved_tensors
        grads: dict[int, Tensor] = {}
        with torch.autocast(**ctx.autocast), replay(ctx.couplings):
            for coupling in reversed(ctx.couplings):
                # z = z0 + b g(y): the gradient of y gains b g'(y)^T grad_z.
                value, gained = pull_back(coupling.g, y, coupling.b * grad_z, grads)
                z, grad_y = z - coupling.b * value, grad_y + gained
                # y = y0 + a f(z0)
                value, gained = pull_back(coupling.f, z, coupling.a * grad_y, grads)
                y, grad_z = y - coupling.a * value, grad_z + gained
        return (None, grad_y, grad_z, *(grads.get(id(p)) for p in ctx.parameters))


def pull_back(
    f: nn.Module, x: Tensor, grad: Tensor, grads: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return f(x) and f'(x)^T grad; add the gradients of f's parameters to `grads`."""
    parameters = [p for p in f.parameters() if p.requires_grad]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = f(x)
        found = torch.autograd.grad(
            value, (x, *parameters), grad.to(value.dtype), allow_unused=True
        )
    for p, g in zip(parameters, found[1:], strict=True):
        if g is not None:
            grads[id(p)] = grads[id(p)] + g if id(p) in grads else g
    return value.detach(), found[0].to(grad.dtype)


@contextlib.contextmanager
def replay(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch a second time."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    training = [m for m in norms if m.training]
    for norm in training:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in training:
            norm.track_running_stats = True
