"""Residual networks whose blocks are left out at random in training, and their nulls.

    huang   training: x <- x + b f(x), b ~ Bernoulli(p_l), one draw a batch;  test: x + p_l f(x)
            p_l = 1 - (l / L) (1 - p_L),  l = 1..L
    timm    training: x <- x + b f(x) / p_l, one draw an image;               test: x + f(x)
            p_l = 1 - (l / (L - 1)) (1 - p_L),  l = 0..L-1

Read as a stochastic differential equation: dX = p f dt + sqrt(p (1 - p)) f dB. The first null has
its drift without its noise; the second has noise of equal mean and variance in every element, but
independent ones; the third is p f(x) with Gaussian noise of the same variance in the mean over an
image. Slots start as the identity, without any noise. In slot form L = 4; the preset has 110
layers, L = 54, with ReLU behind each sum.

Reference: G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, Deep Networks with Stochastic Depth,
ECCV 2016, https://arxiv.org/abs/1603.09382. Deviations: no ReLU behind the sum in the slots.
"""

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.equal_variance import MATCHED, feature_noise, mean_square
from harness.models.papers import HUANG_2016, LIU_2025
from harness.models.s20 import S20, Averaged, Residual
from harness.models.slots import STAGES, ResidualFunction, with_slots

STYLES = ("huang", "timm", "mean", "dropout", "feature_noise")


def keep_probability(index: int, count: int, last: float, style: str = "huang") -> float:
    """Return p_l of block `index`, counted from 0, of `count`."""
    if style == "timm":
        return 1 - (1 - last) * index / max(1, count - 1)
    return 1 - (1 - last) * (index + 1) / count


class Kept(nn.Module):
    """f(x) to b f(x): what is left of a branch.

    Args:
        keep: Probability p.
        style: "huang", "timm", "mean" for p f(x) always, "dropout" for a b in every element,
            "feature_noise" for p f(x) with noise of the variance of b f(x).
    """

    def __init__(self, keep: float, style: str = "huang") -> None:
        super().__init__()
        if style not in STYLES:
            raise ValueError(f"`style` must be one of {', '.join(STYLES)}; got {style!r}.")
        if not 0 < keep <= 1:
            raise ValueError(f"A probability to keep lies in (0, 1]; got {keep}. Use 0.5.")
        self.keep, self.style = keep, style

    def forward(self, y: Tensor) -> Tensor:
        if not self.training or self.style == "mean":
            return y if self.style == "timm" else self.keep * y
        if self.style == "feature_noise":
            variance = self.keep * (1 - self.keep) * mean_square(y)
            return feature_noise(self.keep * y, variance, torch.randn_like(y))
        shape = {
            "huang": (1,) * y.ndim,
            "timm": (len(y),) + (1,) * (y.ndim - 1),
            "dropout": y.shape,
        }[self.style]
        b = (torch.rand(shape, device=y.device) < self.keep).to(y.dtype)
        return b * y / self.keep if self.style == "timm" else b * y


class StochasticSlot(nn.Module):
    """x + b f(x)."""

    def __init__(self, channels: int, keep: float, style: str) -> None:
        super().__init__()
        self.f, self.kept = ResidualFunction(channels), Kept(keep, style)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.kept(self.f(x))


def slots(num_classes: int, width: int, last: float, style: str) -> nn.Module:
    keeps = iter(keep_probability(i, len(STAGES), last, style) for i in range(len(STAGES)))
    return with_slots(num_classes, width, STAGES, lambda c: StochasticSlot(c, next(keeps), style))


@MODELS.register
@card(
    "review",
    "x <- x + b f(x), b ~ Bernoulli(p_l)",
    (HUANG_2016, LIU_2025),
    (
        "stochastic_depth_mean",
        "stochastic_depth_dropout",
        "stochastic_depth_feature_noise",
        "resnet18_slot",
    ),
)
def stochastic_depth(
    num_classes: int = 10, width: int = 64, last: float = 0.5, style: str = "huang"
) -> nn.Module:
    """ResNet-18 with slots left out at random.

    Args:
        last: Probability p_L that the last slot is kept.
        style: "huang" or "timm".
    """
    return slots(num_classes, width, last, style)


@MODELS.register
@card("null", "x <- x + p_l f(x)", matched=("mean", "evaluations", "parameters"))
def stochastic_depth_mean(num_classes: int = 10, width: int = 64, last: float = 0.5) -> nn.Module:
    """Null model of `stochastic_depth`: its mean, without noise."""
    return slots(num_classes, width, last, "mean")


@MODELS.register
@card("null", "x <- x + b f(x), b ~ Bernoulli(p_l) in every element", matched=MATCHED)
def stochastic_depth_dropout(
    num_classes: int = 10, width: int = 64, last: float = 0.5
) -> nn.Module:
    """Null model of `stochastic_depth`: dropout of the same mean and variance."""
    return slots(num_classes, width, last, "dropout")


@MODELS.register
@card("null", "x <- x + p_l f(x) + s xi, s^2 = p_l (1 - p_l) mean(f(x)^2)", matched=MATCHED)
def stochastic_depth_feature_noise(
    num_classes: int = 10, width: int = 64, last: float = 0.5
) -> nn.Module:
    """Null model of `stochastic_depth`: Gaussian noise of the same variance, image by image."""
    return slots(num_classes, width, last, "feature_noise")


@MODELS.register
@card("review", "x <- ReLU(x + b f(x)), b ~ Bernoulli(p_l)", (HUANG_2016,), ("resnet110",))
def stochastic_depth110(num_classes: int = 10, width: int = 64, last: float = 0.5) -> nn.Module:
    """The network of 110 layers of the paper.

    Args:
        last: Probability p_L that the last block is kept.
    """

    def block(inputs: int, channels: int, stride: int, index: int, count: int) -> nn.Module:
        made = Residual(inputs, channels, stride, Averaged(inputs, channels, stride))
        made.f.append(Kept(keep_probability(index, count, last)))
        return made

    return S20(num_classes, width, 18, block)
