"""Residual networks of coupled halves, which can be trained without storing activations.

    y1 = x1 + F(x2),   y2 = x2 + G(y1)          x2 = y2 - G(y1),   x1 = y1 - F(x2)

A symplectic Euler step of a coupled system, with no restriction on F and G. In slot form, F and G
are GN - ReLU - conv3x3 - GN - ReLU - conv3x3 on half of the channels, in the second block of every
stage of ResNet-18: half the weights of a plain slot. The presets are those of the paper: F and G
of two BN - ReLU - conv3x3 each, three stages of 3 (RevNet-38) or 9 units (RevNet-110); the first
unit of the second and third stage has stride 2, with averaged and zero-padded halves in place of
x1 and x2, and stores its input.

Reference: A. N. Gomez et al., The Reversible Residual Network: Backpropagation Without Storing
Activations, NeurIPS 2017, https://arxiv.org/abs/1707.04585. Deviations: group norm in the slots; no
bottlenecks (RevNet-164). Batch statistics are counted once, in the forward pass.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.papers import GOMEZ_2017
from harness.models.reversible import Chain, Coupling
from harness.models.slots import STAGES, ResidualFunction, with_slots

FILTERS = (32, 32, 64, 112)  # of the stem and the three stages, at width 64


class Uncoupled(nn.Module):
    """y1 = x1 + F(x1), y2 = x2 + G(x2): each half on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f, self.g = (ResidualFunction(channels // 2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat((a + self.f(a), b + self.g(b)), dim=1)


def branch(inputs: int, channels: int, stride: int = 1) -> nn.Sequential:
    """BN - ReLU - conv3x3 - BN - ReLU - conv3x3 from `inputs` to `channels`."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
    )


class Downsampling(nn.Module):
    """y1 = s(x1) + F(x2), y2 = s(x2) + G(y1); s averages `stride`^2 pixels and pads channels."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, (channels - inputs) // 2
        self.f = branch(inputs // 2, channels // 2, stride)
        self.g = branch(channels // 2, channels // 2)

    def shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = nn.functional.avg_pool2d(x, self.stride, ceil_mode=True)
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.added))

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)
        y1 = self.shortcut(x1) + self.f(x2)
        return torch.cat((y1, self.shortcut(x2) + self.g(y1)), dim=1)


class RevNet(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""

    def __init__(
        self, num_classes: int, filters: tuple[int, ...], units: int, store_activations: bool
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.stem = nn.Conv2d(3, filters[0], 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        for stage, (inputs, channels) in enumerate(pairwise(filters)):
            half, left = channels // 2, units
            if stage:
                layers.append(Downsampling(inputs, channels, 2))
                left -= 1
            couplings = [Coupling(branch(half, half), branch(half, half)) for _ in range(left)]
            layers.append(Chain(couplings, store_activations))
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.BatchNorm2d(filters[-1]),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(filters[-1], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(self.normalize(images))))

    def blocks(self) -> dict[str, nn.Module]:
        """Return the chains of units, and the units between them."""
        return {f"stages.{name}": block for name, block in self.stages.named_children()}


def slot(channels: int, store_activations: bool) -> Chain:
    """Return one coupling of halves, F and G of the slots."""
    f, g = (ResidualFunction(channels // 2) for _ in range(2))
    return Chain([Coupling(f, g)], store_activations)


@MODELS.register
@card(
    "review",
    "y1 = x1 + F(x2), y2 = x2 + G(y1)",
    (GOMEZ_2017,),
    ("uncoupled_slot", "resnet18_slot"),
)
def revnet(num_classes: int = 10, width: int = 64, store_activations: bool = True) -> nn.Module:
    """ResNet-18 with coupled slots, of half the weights of plain slots.

    Args:
        store_activations: False trains the slots by going back through them.
    """
    return with_slots(num_classes, width, STAGES, lambda c: slot(c, store_activations))


@MODELS.register
@card("null", "y1 = x1 + F(x1), y2 = x2 + G(x2)")
def uncoupled_slot(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `revnet`: halves that do not see each other in the slots."""
    return with_slots(num_classes, width, STAGES, Uncoupled)


@MODELS.register
@card("review", "y1 = x1 + F(x2), y2 = x2 + G(y1)", (GOMEZ_2017,), ("resnet32",))
def revnet38(
    num_classes: int = 10, width: int = 64, units: int = 3, store_activations: bool = True
) -> nn.Module:
    """RevNet-38 of the paper at width 64, about the weights of ResNet-32.

    Args:
        units: A stage; 9 is RevNet-110, but for its last filters.
        store_activations: False trains the stages by going back through them.
    """
    filters = tuple(2 * round(f * width / 128) for f in FILTERS)
    return RevNet(num_classes, filters, units, store_activations)


@MODELS.register
@card("review", "y1 = x1 + F(x2), y2 = x2 + G(y1)", (GOMEZ_2017,), ("resnet110",))
def revnet110(num_classes: int = 10, width: int = 64, store_activations: bool = True) -> nn.Module:
    """RevNet-110 of the paper at width 64, about the weights of ResNet-110.

    Args:
        store_activations: False trains the stages by going back through them.
    """
    filters = tuple(2 * round(f * width / 128) for f in (32, 32, 64, 128))
    return RevNet(num_classes, filters, 9, store_activations)
