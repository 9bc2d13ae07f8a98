"""Residual networks that take steps of a learned two-step method, and their null.

    x_{n+1} = (1 - k_n) x_n + k_n x_{n-1} + f(x_n),   k_n one learned number a block

The modified equation is (1 + k) u' + (1 - k) (dt / 2) u'' = f(u): a step of effective size
dt / (1 + k) with friction. Zero-stable for -1 < k <= 1; on u' = lambda u stable for real lambda in
[-2 (1 - k), 0], so that k < 0 lengthens the interval. k_n starts uniform in [-0.1, 0]. k = 0 is the
plain network.

In slot form x_{n-1} is the input of the stage, projected where the shape changes, and x_n what its
first block gives. The preset has pre-activation blocks in three stages; where the shape changes
the second step is left out, and x_{n-1} starts again from the shortcut.

Reference: Y. Lu, A. Zhong, Q. Li, B. Dong, Beyond Finite Layer Neural Networks: Bridging Deep
Architectures and Numerical Differential Equations, ICML 2018, https://arxiv.org/abs/1710.10121.
Deviations: the slot form is ours; group norm in the slots.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.papers import LIU_2025, LU_2018
from harness.models.resnet import SmallImageResNet
from harness.models.s20 import S20, projection
from harness.models.slots import STAGES, ResidualFunction, bound


class TwoStep(nn.Module):
    """(x_n, x_{n-1}) to (1 - k) x_n + k x_{n-1} + f(x_n).

    Args:
        k: A number that stays; None learns it.
    """

    k: Tensor

    def __init__(self, f: nn.Module, k: float | None = None) -> None:
        super().__init__()
        self.f = f
        if k is None:
            self.k = nn.Parameter(-0.1 * torch.rand(()))
        else:
            if not -1 < k <= 1:
                raise ValueError(
                    f"`k` must lie in (-1, 1], where the two-step method is zero-stable; got {k}."
                )
            self.register_buffer("k", torch.tensor(k), persistent=False)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return (1 - self.k) * x + self.k * before + self.f(x)


class Stage(nn.Module):
    """The first block of a stage, then a two-step slot."""

    def __init__(self, first: nn.Module, slot: TwoStep) -> None:
        super().__init__()
        self.first, self.slot = first, slot

    def forward(self, x: Tensor) -> Tensor:
        first: Any = self.first
        shortcut = x if first.downsample is None else first.downsample(x)
        return self.slot(first(x), shortcut)


class TwoStepResNet(SmallImageResNet):
    """ResNet-18 with two-step slots."""

    def __init__(self, num_classes: int, width: int, k: float | None) -> None:
        super().__init__(num_classes, width)
        for stage in STAGES:
            first = getattr(self.net, f"layer{stage}")[0]
            slot = TwoStep(ResidualFunction(width * 2 ** (stage - 1)), k)
            setattr(self.net, f"layer{stage}", Stage(first, slot))
        bound(self, width)

    def blocks(self) -> dict[str, nn.Module]:
        """Return the stages: a slot is no map of one state."""
        return {f"layer{stage}": getattr(self.net, f"layer{stage}") for stage in STAGES}


class PreActivation(nn.Module):
    """BN - ReLU - conv3x3 - BN - ReLU - conv3x3, with a two-step update where the shape stays."""

    def __init__(
        self, inputs: int, channels: int, stride: int, two_step: bool, k: float | None
    ) -> None:
        super().__init__()
        f = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.shortcut = projection(inputs, channels, stride)
        self.restarts = stride > 1 or inputs != channels or not two_step
        self.step = TwoStep(f, 0.0 if self.restarts else k)

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        if self.restarts or before is None:
            return self.shortcut(x) + self.step.f(x)
        return self.step(x, before)


class TwoStepS20(S20):
    """He's skeleton with pre-activation blocks and two-step updates."""

    def forward(self, images: Tensor) -> Tensor:
        x, before = self.stem(self.normalize(images)), None
        block: Any
        for block in self.trunk:
            after = block(x, before)
            before = block.shortcut(x) if block.restarts else x
            x = after
        return self.head(x)


@MODELS.register
@card(
    "review",
    "x_{n+1} = (1 - k) x_n + k x_{n-1} + f(x_n)",
    (LU_2018, LIU_2025),
    ("resnet18_slot",),
)
def lm_resnet(num_classes: int = 10, width: int = 64, k: float | None = None) -> nn.Module:
    """ResNet-18 with learned two-step slots.

    Args:
        k: A fixed number in (-1, 1]; None learns one a slot.
    """
    return TwoStepResNet(num_classes, width, k)


def preset(num_classes: int, width: int, n: int, k: float | None) -> nn.Module:
    def block(inputs: int, channels: int, stride: int, index: int, count: int) -> nn.Module:
        return PreActivation(inputs, channels, stride, index > 0, k)

    return TwoStepS20(num_classes, width, n, block, preactivated=True)


@MODELS.register
@card(
    "review",
    "x_{n+1} = (1 - k) x_n + k x_{n-1} + f(x_n)",
    (LU_2018,),
    ("preact_resnet20",),
)
def lm_resnet20(
    num_classes: int = 10, width: int = 64, n: int = 3, k: float | None = None
) -> nn.Module:
    """LM-ResNet-20 of the paper.

    Args:
        n: Blocks a stage: 3, 5, 7 or 9 for 20, 32, 44 or 56 layers.
        k: A fixed number in (-1, 1]; None learns one a block.
    """
    return preset(num_classes, width, n, k)


@MODELS.register
@card("null", "x <- x + f(x), pre-activation", (LU_2018,))
def preact_resnet20(num_classes: int = 10, width: int = 64, n: int = 3) -> nn.Module:
    """Null model of `lm_resnet20`: k = 0, the pre-activation network.

    Args:
        n: Blocks a stage.
    """
    return preset(num_classes, width, n, 0.0)
