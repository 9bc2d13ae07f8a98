"""Convolutional networks that are discretized partial differential equations.

    parabolic      Y' = F(Y)                Y <- Y + dt F(Y)
    hamiltonian    Y' = F1(Z), Z' = -F2(Y)  Y <- Y + dt F1(Z),  Z <- Z - dt F2(Y)
    second_order   Y'' = F(Y)               Y <- 2 Y - Y_old + dt^2 F(Y),  Y_old(0) = Y(0)
    rh_resnet      Y' = K2 relu(N(K1 Y))    Y <- Y + dt K2 relu(N(K1 Y))
    rh_revnet      as hamiltonian, with F1 and F2 of rh_resnet

F(Y) = -K^T relu(N(K Y)), see `harness.models.symmetric`: with K^T the same convolution transposed,
the parabolic flow contracts. Three steps of dt = 1 a block, with weights of their own, between an
opening 3x3 convolution and 1x1 connectors with average pooling. dt = 1 is above the limits that
hold without the norm N, and is borne because N bounds the layers; norm=False cuts the step.

The steps of a block start with equal weights, as in the authors' code. Training adds a1 sum
phi(th_{j+1} - th_j), phi(x) = sqrt(x^2 + tau) - sqrt(tau), over the steps of a block, 0 at the
start, and a2 / 2 of all squared weights in place of weight decay; after each update K is cut to
[-1, 1].

Reference: L. Ruthotto, E. Haber, Deep Neural Networks Motivated by Partial Differential Equations,
J. Math. Imaging and Vision 2019, https://arxiv.org/abs/1804.04272; Verlet: B. Chang et al.,
Reversible Architectures for Arbitrarily Deep Residual Neural Networks, AAAI 2018,
https://arxiv.org/abs/1709.03698. Its own recipe: SGD with momentum 0.9, batches of 125, 60, 20 and
20 epochs at 0.1, 0.02 and 0.004, crops of images padded by 1/16 of their side. Deviations: tau =
1e-3 is ours, the paper gives none; He's start; the recipe of this project unless said otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.layers import Normalize
from harness.models.papers import CHANG_2018, RUTHOTTO_2019
from harness.models.registry import unknown
from harness.models.reversible import Chain
from harness.models.symmetric import Parabolic, SecondOrder, SymmetricLayer, UntiedLayer, verlet

TAU, STEPS = 1e-3, 3


@dataclass(frozen=True)
class Skeleton:
    """Widths of the blocks, then of the last connector, at width 64; weights of the penalty."""

    widths: tuple[int, ...]
    a1: float
    a2: float

    def scale(self, width: float) -> tuple[int, ...]:
        """Return the widths for another scale; even, since the Hamiltonian halves them."""
        return tuple(max(2, 2 * round(w * width / 128)) for w in self.widths)


SKELETONS = {
    "cifar10": Skeleton((32, 64, 112, 112), 2e-4, 2e-4),
    "cifar100": Skeleton((32, 64, 128, 256), 2e-4, 2e-4),
    "stl10": Skeleton((16, 32, 64, 128, 128), 4e-4, 1e-4),
}


class PDENet(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes).

    Args:
        block: Makes a block, (N, c, H, W) to the same, from its number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        widths: tuple[int, ...],
        block: Callable[[int], nn.Module],
        a1: float,
        a2: float,
    ) -> None:
        super().__init__()
        self.a1, self.a2 = a1, a2
        self.normalize = Normalize()
        self.opening = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stages = nn.ModuleList(block(w) for w in widths[:-1])
        self.connectors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], num_classes)
        for stage in self.stages:  # all steps alike, as in the authors' code
            first, *others = steps_of(stage)
            for other in others:
                other.load_state_dict(first.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        y = self.opening(self.normalize(images))
        last = len(self.stages) - 1
        for i, (block, connector) in enumerate(zip(self.stages, self.connectors, strict=True)):
            y = connector(block(y))
            y = y.mean((2, 3)) if i == last else nn.functional.avg_pool2d(y, 2)
        return self.head(y)

    def blocks(self) -> dict[str, nn.Module]:
        """Return the blocks of steps."""
        return {f"stages.{name}": block for name, block in self.stages.named_children()}

    def regularization(self) -> Tensor:
        """Return a1 TV in time + a2 / 2 of all squared weights."""
        squares = torch.stack([p.square().sum() for p in self.parameters()]).sum()
        return self.a1 * self.variation() + 0.5 * self.a2 * squares

    def variation(self) -> Tensor:
        """Return the smoothed total variation in time of the weights of the steps."""
        total = self.head.weight.new_zeros(())
        for block in self.stages:
            for before, after in pairwise(steps_of(block)):
                for p, q in zip(before.parameters(), after.parameters(), strict=True):
                    total = total + ((q - p).square() + TAU).sqrt().sub(math.sqrt(TAU)).sum()
        return total

    @torch.no_grad()
    def constrain_(self) -> None:
        """Project the convolutions of the steps on [-1, 1]."""
        for p in self.stages.parameters():
            if p.ndim == 4:
                p.clamp_(-1, 1)


def steps_of(block: Any) -> nn.ModuleList:
    """Return the steps of a block, in their order."""
    return block.couplings if isinstance(block, Chain) else block.layers


def network(
    num_classes: int, width: float, skeleton: str, block: Callable[[int], nn.Module]
) -> PDENet:
    """Return the network of a skeleton's name with these blocks."""
    if skeleton not in SKELETONS:
        raise unknown("skeleton", skeleton, SKELETONS)
    s = SKELETONS[skeleton]
    return PDENet(num_classes, s.scale(width), block, s.a1, s.a2)


def check(steps: int, dt: float, sign: int) -> None:
    if steps < 1 or not dt > 0 or sign not in (-1, 1):
        raise ValueError(
            f"`steps` must be >= 1, `dt` > 0 and `sign` -1 or 1; got {steps}, {dt} and {sign}. "
            "Leave them out for 3 steps of 1."
        )


@MODELS.register
@card(
    "partial differential equation",
    "Y <- Y - dt K^T relu(N(K Y))",
    (RUTHOTTO_2019,),
    ("rh_resnet_narrow", "rh_resnet"),
)
def parabolic(
    num_classes: int = 10,
    width: int = 64,
    skeleton: str = "cifar10",
    steps: int = STEPS,
    dt: float = 1.0,
    sign: int = -1,
    norm: bool = True,
) -> nn.Module:
    """Parabolic network; `rh_resnet` has about twice its weights, the narrow one as many.

    Args:
        skeleton: "cifar10", "cifar100" or "stl10", the paper's.
        steps: A block.
        dt: Step size.
        sign: 1 turns diffusion into its opposite.
        norm: False takes N away, and cuts dt to its limit.
    """
    check(steps, dt, sign)

    def block(channels: int) -> nn.Module:
        return Parabolic(channels, lambda c: SymmetricLayer(c, sign, norm), steps, dt)

    return network(num_classes, width, skeleton, block)


@MODELS.register
@card(
    "partial differential equation",
    "Y <- Y + dt F1(Z), Z <- Z - dt F2(Y), F = -K^T relu(N(K .))",
    (RUTHOTTO_2019, CHANG_2018),
    ("rh_revnet", "rh_resnet"),
)
def hamiltonian(
    num_classes: int = 10,
    width: int = 64,
    skeleton: str = "cifar10",
    steps: int = STEPS,
    dt: float = 1.0,
    store_activations: bool = True,
) -> nn.Module:
    """Hamiltonian network; its nulls have more weights, since symmetry halves them.

    Args:
        skeleton: "cifar10", "cifar100" or "stl10", the paper's.
        steps: A block.
        dt: Step size.
        store_activations: False trains by going back through the steps.
    """
    check(steps, dt, -1)

    def block(channels: int) -> nn.Module:
        return verlet(channels, SymmetricLayer, steps, dt, -1, store_activations)

    return network(num_classes, width, skeleton, block)


@MODELS.register
@card(
    "partial differential equation",
    "Y <- 2 Y - Y_old - dt^2 K^T relu(N(K Y))",
    (RUTHOTTO_2019,),
    ("parabolic", "rh_resnet_narrow"),
)
def second_order(
    num_classes: int = 10,
    width: int = 64,
    skeleton: str = "cifar10",
    steps: int = STEPS,
    dt: float = 1.0,
    sign: int = -1,
    norm: bool = True,
) -> nn.Module:
    """Second-order (hyperbolic) network; arguments as of `parabolic`."""
    check(steps, dt, sign)

    def block(channels: int) -> nn.Module:
        return SecondOrder(channels, lambda c: SymmetricLayer(c, sign, norm), steps, dt)

    return network(num_classes, width, skeleton, block)


@MODELS.register
@card("null", "Y <- Y + dt K2 relu(N(K1 Y))", (RUTHOTTO_2019,), matched=("multiply-adds",))
def rh_resnet(
    num_classes: int = 10, width: int = 64, skeleton: str = "cifar10", steps: int = STEPS
) -> nn.Module:
    """Null model of the three: the same skeleton without symmetry, about twice the weights."""
    return network(num_classes, width, skeleton, lambda c: Parabolic(c, UntiedLayer, steps, dt=1.0))


@MODELS.register
@card("null", "Y <- Y + dt K2 relu(N(K1 Y)), narrower", (RUTHOTTO_2019,), matched=("parameters",))
def rh_resnet_narrow(
    num_classes: int = 10, width: int = 64, skeleton: str = "cifar10", steps: int = STEPS
) -> nn.Module:
    """Null model of `parabolic` and `second_order`: no symmetry, about the same weights."""
    if skeleton not in SKELETONS:
        raise unknown("skeleton", skeleton, SKELETONS)
    s = SKELETONS[skeleton]
    wanted = weights(s.scale(width), num_classes, steps, lambda c: 9 * c * c + 2 * c)

    def off(widths: tuple[int, ...]) -> int:
        return abs(weights(widths, num_classes, steps, lambda c: 18 * c * c + 2 * c) - wanted)

    widths = min((s.scale(width * k / 256) for k in range(128, 257)), key=off)
    return PDENet(
        num_classes, widths, lambda c: Parabolic(c, UntiedLayer, steps, dt=1.0), s.a1, s.a2
    )


@MODELS.register
@card(
    "null",
    "Y <- Y + dt F1(Z), Z <- Z - dt F2(Y), F = K2 relu(N(K1 .))",
    (RUTHOTTO_2019,),
    matched=("multiply-adds",),
)
def rh_revnet(
    num_classes: int = 10, width: int = 64, skeleton: str = "cifar10", steps: int = STEPS
) -> nn.Module:
    """Null model of `hamiltonian`: the same coupling without symmetry, more weights."""
    return network(
        num_classes,
        width,
        skeleton,
        lambda c: verlet(c, UntiedLayer, steps, 1.0, -1, True),
    )


def weights(
    widths: tuple[int, ...], num_classes: int, steps: int, of_step: Callable[[int], int]
) -> int:
    """Return the number of weights of a skeleton, `of_step` of them a step of c channels."""
    total = 27 * widths[0] + 2 * widths[0] + widths[-1] * num_classes + num_classes
    for a, b in pairwise(widths):
        total += steps * of_step(a) + a * b + 2 * b
    return total
