"""Networks that take Euler-Maruyama steps of a stochastic differential equation, and their nulls.

    dh = f(h, t) dt + G dB,   h <- h + f dt + G sqrt(dt) xi,   xi ~ N(0, 1)

    additive          G = sigma
    multiplicative    G = sigma h
    jump              h <- h + f dt + sigma h Z J,  Z = +-1,  J ~ Bernoulli(rate dt), every element

and, for nulls, with the output variance of additive noise where f is nothing, as at the start:

    dropout           h <- dropout(h) + f dt,  of variance sigma^2 dt in the mean over an image
    feature_noise     h <- h + sigma xi behind the last step, and none before

On dX = lam X dt + mu X dB the steps are stable in mean square iff |1 + dt lam|^2 + dt mu^2 < 1. In
slot form f is the function of the plain slot, and the second block of each stage takes 4 steps of
1/4 with it. The preset is one such block of 10 steps of 1/10 between stem and head, with f of three
pairs of norm and convolution that see t. In training the noise comes from torch's generator. In
evaluation there is none, but for `neural_sde_noisy`, which is averaged over draws: its noise is a
function of (seed, draw, image, step), so that an image's is the same in every batch. Noise on the
images, `input_noise_aug`, is a rival and no null: at sigma = 0.1 it is gaussian_noise of severity 5
as the test set of 32 pixels has it, so that a gain under that corruption shows training on it.

Reference: X. Liu, T. Xiao, S. Si, Q. Cao, S. Kumar, C.-J. Hsieh, Neural SDE: Stabilizing Neural ODE
Networks with Stochastic Noise, https://arxiv.org/abs/1906.02355. Deviations: the slot form; sigma
= 0.1 and rate = 0.1 are ours; exactly T / dt steps, where the public code takes one more.
"""

import math

import torch
from torch import Tensor, nn

from harness.models.augmented import Augmented
from harness.models.cards import MODELS, card
from harness.models.equal_variance import MATCHED_AT_THE_START, dropout
from harness.models.layers import widen
from harness.models.neural_ode import StemAndHead
from harness.models.ops import philox
from harness.models.ops.solvers import channel
from harness.models.papers import LIU_2019, LIU_2025
from harness.models.resnet import SmallImageResNet, resnet18
from harness.models.slots import STAGES, ResidualFunction, group_norm, with_slots

NOISES = ("additive", "multiplicative", "jump", "dropout", "feature_noise")
STEPS, SIGMA, RATE = 4, 0.1, 0.1


class Noise:
    """What one step of one pass draws.

    Without `indices` it comes from torch's generator; with them it is a function of the seed, the
    draw, the image's position and the place of the step in the network.
    """

    def __init__(self, seed: int = 0, draw: int = 0, indices: Tensor | None = None) -> None:
        self.seed, self.draw, self.indices = seed, draw, indices

    def normal(self, like: Tensor, place: str, step: int) -> Tensor:
        """Return standard normals of the shape of `like` (N, ...)."""
        if self.indices is None:
            return torch.randn_like(like)
        key = (self.seed, f"neural_sde {place}", step, self.indices, self.draw)
        return philox.normal(like.shape, *key).to(like)

    def uniform(self, like: Tensor, place: str, step: int) -> Tensor:
        """Return uniforms on [0, 1) of the shape of `like` (N, ...)."""
        if self.indices is None:
            return torch.rand_like(like)
        key = (self.seed, f"neural_sde jump {place}", step, self.indices, self.draw)
        return philox.uniform(like.shape, *key).to(like)


class SDEBlock(nn.Module):
    """`steps` Euler-Maruyama steps from t = 0 to 1 on states (N, c, H, W).

    Args:
        f: `(t, h)` to the drift.
        kind: "additive", "multiplicative", "jump", "dropout" or "feature_noise".
        sigma: Strength of the noise, >= 0.
        rate: Rate of the jumps, for each element and unit of time.
        place: Distinguishes the noise of this block.
    """

    def __init__(
        self,
        f: nn.Module,
        steps: int,
        kind: str = "additive",
        sigma: float = SIGMA,
        rate: float = RATE,
        place: str = "",
    ) -> None:
        super().__init__()
        if kind not in NOISES:
            raise ValueError(f"`noise` must be one of {', '.join(NOISES)}; got {kind!r}.")
        if steps < 1 or not sigma >= 0 or not 0 <= rate <= steps:
            raise ValueError(
                f"`steps` must be >= 1, `sigma` >= 0 and `rate` in [0, steps]; got {steps}, "
                f"{sigma} and {rate}."
            )
        self.f, self.steps, self.kind = f, steps, kind
        self.sigma, self.rate, self.place = sigma, rate, place
        self.noise: Noise | None = None  # of a pass in evaluation; None for none

    def forward(self, h: Tensor) -> Tensor:
        h, dt = widen(h), 1 / self.steps
        noise = (Noise() if self.training else self.noise) if self.sigma else None
        for step in range(self.steps):
            drift = dt * self.f(step * dt, h)
            h = h + drift + (self.kick(h, dt, noise, step) if noise else 0.0)
        return h

    def kick(self, h: Tensor, dt: float, noise: Noise, step: int) -> Tensor | float:
        """Return G sqrt(dt) xi, or the jumps, of one step."""
        if self.kind == "feature_noise":
            last = step == self.steps - 1
            return self.sigma * noise.normal(h, self.place, step) if last else 0.0
        if self.kind == "dropout":
            return dropout(h, self.sigma**2 * dt, noise.uniform(h, self.place, step)) - h
        if self.kind == "jump":
            u = noise.uniform(h, self.place, step)  # below rate dt a jump, below half of it down
            jump = (u < self.rate * dt).to(h.dtype) - 2 * (u < 0.5 * self.rate * dt).to(h.dtype)
            return self.sigma * h * jump
        xi = self.sigma * math.sqrt(dt) * noise.normal(h, self.place, step)
        return xi * h if self.kind == "multiplicative" else xi


class Autonomous(nn.Module):
    """f of the plain slot, (t, h) to f(h)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = ResidualFunction(channels)

    def forward(self, t: float, h: Tensor) -> Tensor:
        return self.f(h)


class Drift(nn.Module):
    """f = [GN - ReLU - conv3x3([h, t])] x 3 - GN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        norms = [group_norm(channels) for _ in range(4)]
        convs = [nn.Conv2d(channels + 1, channels, 3, padding=1, bias=False) for _ in range(3)]
        self.norms, self.convs = nn.ModuleList(norms), nn.ModuleList(convs)
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(norms[3].weight)

    def forward(self, t: float, h: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=False):
            h = torch.relu(norm(h))
            h = conv(torch.cat((h, channel(t, h)), dim=1))
        return self.norms[3](h)


class NoisyResNet(SmallImageResNet):
    """A ResNet-18 with SDE blocks whose noise stays on in evaluation; averaged over draws."""

    stochastic = True

    def sample(self, images: Tensor, indices: Tensor, seed: int, draw: int) -> Tensor:
        """Return the logits of one draw; see `harness.models.base.Stochastic`."""
        blocks = [b for b in self.modules() if isinstance(b, SDEBlock)]
        noise = Noise(seed, draw, indices.to(images.device))
        try:
            for block in blocks:
                block.noise = noise
            return self(images)
        finally:
            for block in blocks:
                block.noise = None


def sde_slots(
    num_classes: int,
    width: int,
    steps: int,
    noise: str,
    sigma: float,
    rate: float,
    skeleton: type[SmallImageResNet] = SmallImageResNet,
) -> nn.Module:
    def slot(channels: int) -> nn.Module:
        return SDEBlock(Autonomous(channels), steps, noise, sigma, rate, place=str(channels))

    return with_slots(num_classes, width, STAGES, slot, skeleton)


@MODELS.register
@card(
    "review",
    "h <- h + f(h) dt + G sqrt(dt) xi",
    (LIU_2019, LIU_2025),
    ("neural_sde_plain", "neural_sde_dropout", "neural_sde_feature_noise", "resnet18_slot"),
)
def neural_sde(
    num_classes: int = 10,
    width: int = 64,
    noise: str = "additive",
    sigma: float = SIGMA,
    rate: float = RATE,
    steps: int = STEPS,
) -> nn.Module:
    """ResNet-18 with noisy Euler steps in training; 4 evaluations where a plain slot has 1.

    Args:
        noise: "additive", "multiplicative" or "jump".
        sigma: Strength of the noise.
        rate: Rate of the jumps.
        steps: Number of steps of each slot, from 0 to 1.
    """
    return sde_slots(num_classes, width, steps, noise, sigma, rate)


@MODELS.register
@card(
    "review",
    "h <- h + f(h) dt + G sqrt(dt) xi, in evaluation too",
    (LIU_2019,),
    ("neural_sde", "neural_sde_plain", "resnet18_slot"),
)
def neural_sde_noisy(
    num_classes: int = 10,
    width: int = 64,
    noise: str = "additive",
    sigma: float = SIGMA,
    rate: float = RATE,
    steps: int = STEPS,
) -> nn.Module:
    """`neural_sde` averaged over draws in evaluation; 4 evaluations a slot and draw."""
    return sde_slots(num_classes, width, steps, noise, sigma, rate, NoisyResNet)


@MODELS.register
@card("null", "h <- h + f(h) dt", matched=("mean", "evaluations", "parameters"))
def neural_sde_plain(num_classes: int = 10, width: int = 64, steps: int = STEPS) -> nn.Module:
    """Null model of `neural_sde`: the same steps without noise."""
    return sde_slots(num_classes, width, steps, "additive", 0.0, 0.0)


@MODELS.register
@card("null", "h <- dropout(h) + f(h) dt, of variance sigma^2 dt", matched=MATCHED_AT_THE_START)
def neural_sde_dropout(num_classes: int = 10, width: int = 64, sigma: float = SIGMA) -> nn.Module:
    """Null model of `neural_sde`: dropout of the state in every step, of equal variance.

    Args:
        sigma: Strength of the noise that it equals.
    """
    return sde_slots(num_classes, width, STEPS, "dropout", sigma, 0.0)


@MODELS.register
@card("null", "h <- h + f(h) dt, then h <- h + sigma xi", matched=MATCHED_AT_THE_START)
def neural_sde_feature_noise(
    num_classes: int = 10, width: int = 64, sigma: float = SIGMA
) -> nn.Module:
    """Null model of `neural_sde`: all noise at once, on the features that a slot gives.

    Args:
        sigma: Strength of the noise that it equals.
    """
    return sde_slots(num_classes, width, STEPS, "feature_noise", sigma, 0.0)


@MODELS.register
@card("rival", "image <- image + sigma xi")
def input_noise_aug(num_classes: int = 10, width: int = 64, sigma: float = 0.1) -> nn.Module:
    """Rival of `neural_sde`, no null: trained on the noise of the test set, gaussian_noise 5.

    Args:
        sigma: Standard deviation of the noise on [0, 1].
    """

    def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
        xi = torch.randn(images.shape, generator=generator)
        return (images + sigma * xi.to(images)).clamp(0, 1)

    return Augmented(resnet18(num_classes, width), noisy)


@MODELS.register
@card(
    "review",
    "h <- h + f(t, h) dt + G sqrt(dt) xi, between stem and head",
    (LIU_2019,),
    ("neural_sde_net_plain",),
)
def neural_sde_net(
    num_classes: int = 10,
    width: int = 64,
    noise: str = "additive",
    sigma: float = SIGMA,
    rate: float = RATE,
    steps: int = 10,
) -> nn.Module:
    """The network of the paper: one block of ten steps.

    Args:
        noise: "additive", "multiplicative" or "jump".
        sigma: Strength of the noise.
        rate: Rate of the jumps.
        steps: Number of steps from 0 to 1.
    """
    block = SDEBlock(Drift(4 * width), steps, noise, sigma, rate)
    return StemAndHead(num_classes, width, nn.Sequential(block), 0)


@MODELS.register
@card("null", "h <- h + f(t, h) dt, between stem and head", (LIU_2019,))
def neural_sde_net_plain(num_classes: int = 10, width: int = 64, steps: int = 10) -> nn.Module:
    """Null model of `neural_sde_net`: the same steps without noise."""
    block = SDEBlock(Drift(4 * width), steps, sigma=0.0)
    return StemAndHead(num_classes, width, nn.Sequential(block), 0)
