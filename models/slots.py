"""Skeletons for one block at a time: the second block of each stage of ResNet-18, and its null.

    x <- x + f(x),   f = GN - ReLU - conv3x3 - GN - ReLU - conv3x3

A *slot* is the second block of a stage, which keeps the shape. There is no ReLU behind the sum, so
the plain slot is a forward Euler step of u' = f(u); a system of one family replaces its update.
Group norm, since some systems call f more than once and batch statistics would mix the calls; the
last convolution starts at zero, so that every slot starts as the identity. Group norm and ReLU also
stand before the global pooling, as in any network of pre-activation blocks: without them nothing
bounds what the last slot adds, and training by the recipe lets the loss grow beyond 800.

Reference: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR
2016, https://arxiv.org/abs/1512.03385. Deviations: pre-activation with group norm in the slots.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.papers import HE_2016
from harness.models.resnet import SmallImageResNet

STAGES = (1, 2, 3, 4)
Slot = Callable[[int], nn.Module]  # channels c to a module (N, c, H, W) to (N, c, H, W)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with at most 32 groups."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


class ResidualFunction(nn.Sequential):
    """f = GN - ReLU - conv3x3 - GN - ReLU - conv3x3 on `channels`; 18 c^2 + 4 c weights."""

    def __init__(self, channels: int) -> None:
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        super().__init__(
            group_norm(channels), nn.ReLU(), first, group_norm(channels), nn.ReLU(), second
        )
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(second.weight)


class EulerSlot(nn.Module):
    """x + f(x): one forward Euler step of u' = f(u) with dt = 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = ResidualFunction(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def with_slots(
    num_classes: int,
    width: int,
    stages: int | Sequence[int],
    slot: Slot,
    skeleton: type[SmallImageResNet] = SmallImageResNet,
) -> SmallImageResNet:
    """Return ResNet-18 with other blocks in the slots of some stages.

    Args:
        stages: 1 to 4, one or several.
        slot: Makes a slot from the number of channels.
        skeleton: Class that it is built as, for those that can do more.
    """
    model = skeleton(num_classes, width)
    for stage in (stages,) if isinstance(stages, int) else stages:
        if stage not in STAGES:
            raise ValueError(f"There are slots in the stages 1, 2, 3 and 4; got {stage}.")
        layer = getattr(model.net, f"layer{stage}")
        layer[1] = slot(width * 2 ** (stage - 1))
    bound(model, width)
    return model


def bound(model: SmallImageResNet, width: int) -> None:
    """Put group norm and ReLU before the global pooling of a model with slots."""
    net: Any = model.net
    net.global_pool = nn.Sequential(group_norm(8 * width), nn.ReLU(), net.global_pool)


def check_stage(stage: int) -> None:
    """Refuse a stage behind which no layer can stand that keeps the mean of every channel.

    Raises:
        ValueError: It is 4: global average pooling follows it directly, and sees the means alone.
    """
    if stage not in STAGES[:-1]:
        raise ValueError(
            f"A layer stands behind stage 1, 2 or 3; got {stage}. Behind stage 4 only the mean of "
            "each channel is left of it, which diffusion keeps."
        )


def insert(model: SmallImageResNet, stage: int, layer: nn.Module) -> SmallImageResNet:
    """Put `layer`, (N, c, H, W) to the same shape, behind the last block of a stage of `model`."""
    check_stage(stage)
    getattr(model.net, f"layer{stage}").append(layer)
    return model


@MODELS.register
@card("null", "x <- x + f(x)", (HE_2016,))
def resnet18_slot(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of the systems with four slots: ResNet-18 with plain residual slots."""
    return with_slots(num_classes, width, STAGES, EulerSlot)


@MODELS.register
@card("null", "x <- x + f(x) in stage 4", (HE_2016,))
def resnet18_slot4(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of the systems with one slot: ResNet-18 with a plain residual slot in stage 4."""
    return with_slots(num_classes, width, 4, EulerSlot)
