"""Residual networks of two branches that are mixed at random, and their null.

    training: x <- x + a f1(x) + (1 - a) f2(x),   a ~ U(0, 1);   test: a = 1/2

The backward pass has a fresh b in place of a ("shake"), a itself ("keep") or 1/2 ("even"); draws
are made for each image, or for the batch. Read as a stochastic differential equation:
dX = (f1 + f2) / 2 dt + (1 / sqrt(12)) (f1 - f2) dB, of forward shake. The first null is even in
both directions; the others add to it dropout of (f1 + f2) / 2, or Gaussian noise, of the variance
mean((f1 - f2)^2) / 12 of forward shake, image by image, and have ordinary gradients. The preset is
"26 2x32d": three stages of four blocks of 32, 64 and 128 channels, branches ReLU - conv3x3 - BN -
ReLU - conv3x3 - BN; where the shape changes the shortcut is ReLU and two 1x1 convolutions, one of
every second pixel, one of those shifted by a pixel, side by side.

Reference: X. Gastaldi, Shake-Shake regularization, https://arxiv.org/abs/1705.07485. Deviations: in
slot form the branches are those of the plain slot.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.equal_variance import MATCHED, by_name, mean_square
from harness.models.layers import Normalize
from harness.models.papers import GASTALDI_2017, LIU_2025
from harness.models.slots import STAGES, ResidualFunction, with_slots

FORWARDS = ("shake", "even", "dropout", "feature_noise")
BACKWARDS = ("shake", "keep", "even")


class Mix(torch.autograd.Function):
    """a y1 + (1 - a) y2, whose gradients are b and 1 - b times what comes back."""

    @staticmethod
    def forward(ctx: Any, y1: Tensor, y2: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(b)
        return a * y1 + (1 - a) * y2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (b,) = ctx.saved_tensors
        return b * grad, (1 - b) * grad, None, None


class Shake(nn.Module):
    """(y1, y2) to their mixture.

    Args:
        forwards: "shake" or "even"; "dropout" or "feature_noise" for "even" with noise of the
            variance of "shake".
        backwards: "shake", "keep" or "even".
        per_image: Whether each image has draws of its own.
    """

    def __init__(
        self, forwards: str = "shake", backwards: str = "shake", per_image: bool = True
    ) -> None:
        super().__init__()
        for name, mode, known in (
            ("forwards", forwards, FORWARDS),
            ("backwards", backwards, BACKWARDS),
        ):
            if mode not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {mode!r}.")
        self.forwards, self.backwards, self.per_image = forwards, backwards, per_image

    def draw(self, y: Tensor, mode: str) -> Tensor:
        shape = (len(y) if self.per_image else 1, 1, 1, 1)
        if mode == "even":
            return torch.full(shape, 0.5, dtype=y.dtype, device=y.device)
        return torch.rand(shape, device=y.device).to(y.dtype)

    def forward(self, y1: Tensor, y2: Tensor) -> Tensor:
        if not self.training:
            return 0.5 * (y1 + y2)
        if self.forwards in ("dropout", "feature_noise"):
            return by_name(self.forwards)(0.5 * (y1 + y2), mean_square(y1 - y2) / 12)
        a = self.draw(y1, self.forwards)
        b = a if self.backwards == "keep" else self.draw(y1, self.backwards)
        return Mix.apply(y1, y2, a, b)


class ShakeBlock(nn.Module):
    """s(x) + a f1(x) + (1 - a) f2(x)."""

    def __init__(self, f1: nn.Module, f2: nn.Module, shake: Shake, shortcut: nn.Module) -> None:
        super().__init__()
        self.f1, self.f2, self.shake, self.shortcut = f1, f2, shake, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.shake(self.f1(x), self.f2(x))


class TwoPaths(nn.Module):
    """ReLU, then two halves of the channels from pixels a shift apart, side by side; BN."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.here = nn.Conv2d(inputs, channels // 2, 1, bias=False)
        self.there = nn.Conv2d(inputs, channels - channels // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        shifted = nn.functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        paths = [
            conv(y[:, :, :: self.stride, :: self.stride])
            for conv, y in ((self.here, x), (self.there, shifted))
        ]
        return self.norm(torch.cat(paths, dim=1))


def branch(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return ReLU - conv3x3 - BN - ReLU - conv3x3 - BN."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )


class ShakeShake26(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""

    def __init__(self, num_classes: int, base: int, shake: Shake) -> None:
        super().__init__()
        first = max(1, base // 2)
        self.normalize = Normalize()
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)
        )
        blocks, inputs = [], first
        for stage in range(3):
            channels = base * 2**stage
            for i in range(4):
                stride = 2 if stage and i == 0 else 1
                same = inputs == channels and stride == 1
                shortcut = nn.Identity() if same else TwoPaths(inputs, channels, stride)
                f1, f2 = (branch(inputs, channels, stride) for _ in range(2))
                blocks.append(ShakeBlock(f1, f2, shake, shortcut))
                inputs = channels
        self.trunk = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(self.stem(self.normalize(images))))

    def blocks(self) -> dict[str, nn.Module]:
        """Return the twelve blocks."""
        return {f"trunk.{name}": block for name, block in self.trunk.named_children()}


def slots(num_classes: int, width: int, shake: Shake) -> nn.Module:
    def slot(channels: int) -> nn.Module:
        f1, f2 = (ResidualFunction(channels) for _ in range(2))
        return ShakeBlock(f1, f2, shake, nn.Identity())

    return with_slots(num_classes, width, STAGES, slot)


@MODELS.register
@card(
    "review",
    "x <- x + a f1(x) + (1 - a) f2(x), a ~ U(0, 1)",
    (GASTALDI_2017, LIU_2025),
    ("shake_shake_even", "shake_shake_dropout", "shake_shake_feature_noise", "resnet18_slot"),
)
def shake_shake(
    num_classes: int = 10,
    width: int = 64,
    forwards: str = "shake",
    backwards: str = "shake",
    per_image: bool = True,
) -> nn.Module:
    """ResNet-18 with two shaken branches in each slot, twice the weights of a plain one.

    Args:
        forwards: "shake" or "even".
        backwards: "shake", "keep" or "even".
        per_image: Whether each image has draws of its own.
    """
    return slots(num_classes, width, Shake(forwards, backwards, per_image))


@MODELS.register
@card("null", "x <- x + (f1(x) + f2(x)) / 2", matched=("mean", "evaluations", "parameters"))
def shake_shake_even(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `shake_shake`: the same branches, evenly mixed."""
    return slots(num_classes, width, Shake("even", "even"))


@MODELS.register
@card("null", "x <- x + dropout((f1(x) + f2(x)) / 2)", matched=MATCHED)
def shake_shake_dropout(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `shake_shake`: dropout of the even mixture, of equal variance."""
    return slots(num_classes, width, Shake("dropout", "even"))


@MODELS.register
@card("null", "x <- x + (f1 + f2) / 2 + s xi, s^2 = mean((f1 - f2)^2) / 12", matched=MATCHED)
def shake_shake_feature_noise(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `shake_shake`: Gaussian noise on the even mixture, of equal variance."""
    return slots(num_classes, width, Shake("feature_noise", "even"))


@MODELS.register
@card(
    "review",
    "x <- s(x) + a f1(x) + (1 - a) f2(x), a ~ U(0, 1)",
    (GASTALDI_2017,),
    ("shake_shake26_even",),
)
def shake_shake26(
    num_classes: int = 10,
    width: int = 64,
    forwards: str = "shake",
    backwards: str = "shake",
    per_image: bool = True,
) -> nn.Module:
    """Shake-Shake 26 2x32d of the paper; 26 2x96d at width 192. Arguments of `shake_shake`."""
    return ShakeShake26(num_classes, width // 2, Shake(forwards, backwards, per_image))


@MODELS.register
@card("null", "x <- s(x) + (f1(x) + f2(x)) / 2", (GASTALDI_2017,))
def shake_shake26_even(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `shake_shake26`: even-even."""
    return ShakeShake26(num_classes, width // 2, Shake("even", "even"))
