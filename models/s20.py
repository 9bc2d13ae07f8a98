"""He's residual networks for small images, S20: 6 n + 2 layers in three stages of n blocks.

    x <- ReLU(x + f(x)),   f = conv3x3 - BN - ReLU - conv3x3 - BN

16, 32 and 64 channels at width 64, and width / 64 times as many at others. Where the shape changes,
the shortcut takes every second pixel and pads channels with zeros, or is a 1x1 convolution with BN.

Reference: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR
2016, https://arxiv.org/abs/1512.03385, section 4.2. Deviations: none.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.papers import HE_2016

# (channels before, channels, stride, index of the block, number of blocks) to a block
Block = Callable[[int, int, int, int, int], nn.Module]


class Padded(nn.Module):
    """Every `stride`-th pixel, and zeros for the channels that are missing: no weights."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, channels - inputs

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.added == 0:
            return x
        return nn.functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added)
        )


class Averaged(Padded):
    """The same with the mean over `stride`^2 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = nn.functional.avg_pool2d(x, self.stride, ceil_mode=True)
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.added)) if self.added else x


class Projection(nn.Sequential):
    """A 1x1 convolution of every `stride`-th pixel, and BN.

    With a stride of the convolution's own, which gives the same numbers, PyTorch's gradient writes
    beyond its memory on CPUs without AVX-512, for fewer than 8 channels in channels-last order
    (seen in PyTorch 2.14, with oneDNN).
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__(nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.stride, :: self.stride])


def projection(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return the 1x1 convolution with BN, or the identity where the shape stays."""
    if stride == 1 and inputs == channels:
        return nn.Identity()
    return Projection(inputs, channels, stride)


class Residual(nn.Module):
    """ReLU(s(x) + f(x))."""

    def __init__(self, inputs: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.f = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.f(x))


class S20(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes).

    Args:
        n: Blocks a stage.
        block: Makes the blocks; counted from 0 over all three stages.
        preactivated: Whether BN and ReLU stand before the head, for blocks that end in a sum,
            rather than behind the first convolution.
    """

    def __init__(
        self, num_classes: int, width: int, n: int, block: Block, preactivated: bool = False
    ) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"`n` must be at least 1 block a stage; got {n}. Use 3 for 20 layers.")
        channels = [max(1, round(c * width / 64)) for c in (16, 32, 64)]
        self.normalize = Normalize()
        first, last = channels[0], channels[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False))
        if not preactivated:
            self.stem.extend([nn.BatchNorm2d(first), nn.ReLU()])
        made: list[nn.Module] = []
        before = first
        for stage, c in enumerate(channels):
            for i in range(n):
                stride = 2 if stage and i == 0 else 1
                made.append(block(before, c, stride, len(made), 3 * n))
                before = c
        self.trunk = nn.Sequential(*made)
        end = [nn.BatchNorm2d(last), nn.ReLU()] if preactivated else []
        self.head = nn.Sequential(
            *end, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(self.stem(self.normalize(images))))

    def blocks(self) -> dict[str, nn.Module]:
        """Return the residual blocks."""
        return {f"trunk.{name}": block for name, block in self.trunk.named_children()}


def padded_block(inputs: int, channels: int, stride: int, index: int, count: int) -> nn.Module:
    """Return a block with a shortcut without weights."""
    return Residual(inputs, channels, stride, Padded(inputs, channels, stride))


def projected_block(inputs: int, channels: int, stride: int, index: int, count: int) -> nn.Module:
    """Return a block with a projection where the shape changes."""
    return Residual(inputs, channels, stride, projection(inputs, channels, stride))


@MODELS.register
@card("baseline", "x <- ReLU(x + f(x))", (HE_2016,))
def resnet20(num_classes: int = 10, width: int = 64, projections: bool = False) -> nn.Module:
    """He's network of 20 layers.

    Args:
        projections: 1x1 convolutions in place of shortcuts without weights.
    """
    return S20(num_classes, width, 3, projected_block if projections else padded_block)


@MODELS.register
@card("baseline", "x <- ReLU(x + f(x))", (HE_2016,))
def resnet32(num_classes: int = 10, width: int = 64, projections: bool = False) -> nn.Module:
    """He's network of 32 layers."""
    return S20(num_classes, width, 5, projected_block if projections else padded_block)


@MODELS.register
@card("baseline", "x <- ReLU(x + f(x))", (HE_2016,))
def resnet110(num_classes: int = 10, width: int = 64, projections: bool = False) -> nn.Module:
    """He's network of 110 layers."""
    return S20(num_classes, width, 18, projected_block if projections else padded_block)
