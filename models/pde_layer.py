"""ResNet-18 with a layer that diffuses its feature maps, and the nulls of that layer.

    pde_layer             u_t = kappa_c Laplacian(u),   each channel c on its own
    pde_layer_aniso       u_t = div(g(|grad u| / kappa_c) grad u),   g(s) = 1 / (1 + s^2)
    pde_layer_frozen      the same as at the start: nothing is learned
    gaussian_blur_layer   u <- Gaussian of standard deviation sigma_c * u
    depthwise_heat_layer  u <- 9x9 convolution of each channel, started as `pde_layer` starts
    depthwise_conv_layer  u <- 3x3 convolution of each channel, started at the identity

The layer stands behind stage 3, on maps of 8 pixels for images of 32. `pde_layer` takes 4 explicit
steps of lam_c = kappa_c dt = sigmoid(a_c) / 4, a_c = 0 at the start: stable by construction, since
lam <= 1/4, and within the range of the map. No flux through the border, so every channel keeps its
mean; hence behind stage 4, before global pooling, the layer would change nothing, and is refused.
On an unbounded map the steps spread a point by sigma = sqrt(2 n lam), 1 pixel at the start; that is
what the Gaussian starts with. The impulse response of the 4 steps is a kernel of 9x9 pixels, which
`depthwise_heat_layer` starts with: the same map, border included, with 81 weights for one. With
method="dct" the flow is solved exactly in the cosine basis, kappa_c t = 0.5 exp(a_c), and stable
for every value. `pde_layer_aniso` takes 4 steps of 1/8 and learns kappa_c, 1 at the start; for
kappa to infinity it is `pde_layer` at lam = 1/8.

Reference: When Physics Teaches Vision (DiffusifyNet), 2026, https://diffusify.in; P. Perona and
J. Malik, Scale-space and edge detection using anisotropic diffusion, IEEE TPAMI 12(7), 1990.
Deviations: the page gives no step, number of steps, border or start; they are ours. Weight decay
pulls a_c, like every weight, to 0, hence to the diffusion of the start.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from harness.models.cards import MODELS, card
from harness.models.layers import widen
from harness.models.ops import heat, perona_malik
from harness.models.papers import DIFFUSIFYNET, PERONA_MALIK
from harness.models.resnet import SmallImageResNet
from harness.models.slots import check_stage, insert

STEPS = 4
START = 0.125  # lam, half the stability limit: the fastest mode still keeps its sign
LIMIT = 0.25
METHODS = ("explicit", "dct")


class PDELayer(nn.Module):
    """Heat flow of each channel for a learned time; (N, C, H, W) to the same.

    Explicit Euler, order 1, `steps` steps of lam_c < 1/4, or exact in the cosine basis.
    """

    def __init__(
        self,
        channels: int,
        steps: int = STEPS,
        method: str = "explicit",
        learned: bool = True,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(
                f"`method` must be one of {', '.join(METHODS)}; got {method!r}. "
                "Leave it out for 'explicit'."
            )
        if steps < 0:
            raise ValueError(f"`steps` must be >= 0; got {steps}. Diffusion cannot run backwards.")
        self.steps, self.method = steps, method
        if learned:
            self.a = nn.Parameter(torch.zeros(channels))
        else:
            self.register_buffer("a", torch.zeros(channels), persistent=False)

    @property
    def lam(self) -> Tensor:
        """Diffusivity times step size, one per channel: kappa_c dt for dt = t / steps."""
        return START * self.a.exp() if self.method == "dct" else LIMIT * self.a.sigmoid()

    def step_ratio(self) -> Tensor:
        """Step sizes over their stability limit, (C,); the exact flow has none, and gives 0."""
        return torch.zeros_like(self.a) if self.method == "dct" else self.lam / LIMIT

    def forward(self, u: Tensor) -> Tensor:
        if self.method == "dct":
            return heat(u, t=float(self.steps), diffusivity=self.lam, scheme="exact")
        return heat(u, dt=1.0, num_steps=self.steps, diffusivity=self.lam)


class AnisotropicLayer(nn.Module):
    """Perona-Malik flow of each channel with a learned edge scale; (N, C, H, W) to the same.

    Explicit Euler, order 1, `steps` steps of 1/8, half the limit. The flow is homogeneous: that of
    u with kappa is kappa times that of u / kappa with 1.
    """

    def __init__(self, channels: int, steps: int = STEPS) -> None:
        super().__init__()
        self.steps = steps
        self.a = nn.Parameter(torch.zeros(channels))

    @property
    def kappa(self) -> Tensor:
        """Edge scale of each channel, in the units of its features."""
        return self.a.exp()

    def step_ratio(self) -> Tensor:
        """Step size over its stability limit, (C,)."""
        return torch.full_like(self.a, START / LIMIT)

    def forward(self, u: Tensor) -> Tensor:
        kappa = self.kappa[:, None, None]
        scaled = widen(u) / kappa
        return (
            kappa * perona_malik(scaled, dt=START, num_steps=self.steps, kappa=1.0, coupled=False)
        ).to(u.dtype)


def mirror(u: Tensor, r: int) -> Tensor:
    """Return maps (N, C, H, W) with r pixels more on each side, mirrored at the border's edge.

    That is no flux through the border: of a symmetric map a symmetric kernel makes another.
    """
    for axis in (2, 3):
        n = u.shape[axis]
        place = torch.arange(-r, n + r, device=u.device) % (2 * n)
        u = u.index_select(axis, torch.where(place < n, place, 2 * n - 1 - place))
    return u


class GaussianBlurLayer(nn.Module):
    """Gaussian blur of each channel, mirrored at the border; (N, C, H, W) to the same.

    Args:
        sigma: Standard deviation in pixels, > 0, at the start.
        learned: Whether each channel learns its own; the kernel keeps the radius of the start.
    """

    def __init__(self, channels: int, sigma: float, learned: bool) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"`sigma` must be > 0 pixels; got {sigma}. Give for example 1.0.")
        self.start, self.radius = sigma, math.ceil(4 * sigma)
        if learned:
            self.a = nn.Parameter(torch.zeros(channels))
        else:
            self.register_buffer("a", torch.zeros(channels), persistent=False)

    @property
    def sigma(self) -> Tensor:
        return self.start * self.a.exp()

    def forward(self, u: Tensor) -> Tensor:
        x = torch.arange(-self.radius, self.radius + 1, device=u.device)
        taps = torch.exp(-0.5 * (x / self.sigma[:, None]) ** 2)  # (C, 2 r + 1)
        taps = (taps / taps.sum(1, keepdim=True))[:, None]  # (C, 1, 2 r + 1)
        r, channels = self.radius, u.shape[1]
        padded = mirror(widen(u), r)
        with torch.autocast(u.device.type, enabled=False):
            rows = conv2d(padded, taps[:, :, None, :], groups=channels)
            return conv2d(rows, taps[:, :, :, None], groups=channels).to(u.dtype)


class DepthwiseHeatLayer(nn.Conv2d):
    """Convolution of each channel, mirrored at the border, that starts as `PDELayer` starts."""

    def __init__(self, channels: int, steps: int = STEPS) -> None:
        super().__init__(channels, channels, 2 * steps + 1, groups=channels, bias=False)
        impulse = torch.zeros(1, 1, 4 * steps + 1, 4 * steps + 1)
        impulse[..., 2 * steps, 2 * steps] = 1
        spread = heat(impulse, dt=1.0, num_steps=steps, diffusivity=START)
        inside = slice(steps, 3 * steps + 1)
        with torch.no_grad():
            self.weight.copy_(spread[..., inside, inside])
        self.radius = steps

    def forward(self, u: Tensor) -> Tensor:
        return super().forward(mirror(u, self.radius))


class DepthwiseConvLayer(nn.Conv2d):
    """3x3 convolution of each channel, the identity at the start; 9 weights a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels,
            channels,
            kernel_size=3,
            padding=1,
            padding_mode="replicate",
            groups=channels,
            bias=False,
        )
        nn.init.dirac_(self.weight, groups=channels)


def channels_of(stage: int, width: int) -> int:
    """Return the channels behind a stage, 1 to 4, of ResNet-18."""
    check_stage(stage)
    return width * 2 ** (stage - 1)


@MODELS.register
@card(
    "touchpoint",
    "u_t = kappa_c Laplacian(u) on features",
    (DIFFUSIFYNET,),
    (
        *("pde_layer_frozen", "gaussian_blur_layer", "depthwise_heat_layer"),
        *("depthwise_conv_layer", "resnet18"),
    ),
)
def pde_layer(
    num_classes: int = 10,
    width: int = 64,
    steps: int = STEPS,
    method: str = "explicit",
    stage: int = 3,
) -> nn.Module:
    """ResNet-18 with a learned diffusion layer behind stage 3.

    Args:
        steps: Steps of the explicit scheme; with "dct" the time, in units of the start's step.
        method: "explicit", or "dct" for the exact flow.
        stage: 1, 2 or 3.
    """
    layer = PDELayer(channels_of(stage, width), steps, method)
    return insert(SmallImageResNet(num_classes, width), stage, layer)


@MODELS.register
@card(
    "touchpoint",
    "u_t = div(g(|grad u| / kappa_c) grad u) on features",
    (DIFFUSIFYNET, PERONA_MALIK),
    ("pde_layer", "gaussian_blur_layer", "depthwise_conv_layer", "resnet18"),
)
def pde_layer_aniso(num_classes: int = 10, width: int = 64, stage: int = 3) -> nn.Module:
    """ResNet-18 with a learned Perona-Malik layer behind stage 3."""
    layer = AnisotropicLayer(channels_of(stage, width))
    return insert(SmallImageResNet(num_classes, width), stage, layer)


@MODELS.register
@card("null", "u_t = Laplacian(u) on features, not learned", matched=("start", "border"))
def pde_layer_frozen(num_classes: int = 10, width: int = 64, stage: int = 3) -> nn.Module:
    """Null model of `pde_layer`: the diffusion that it starts with, and keeps."""
    layer = PDELayer(channels_of(stage, width), learned=False)
    return insert(SmallImageResNet(num_classes, width), stage, layer)


@MODELS.register
@card("null", "u <- Gaussian(sigma_c) * u on features", matched=("variance at the start", "border"))
def gaussian_blur_layer(
    num_classes: int = 10,
    width: int = 64,
    sigma: float = math.sqrt(2 * STEPS * START),
    learned: bool = True,
    stage: int = 3,
) -> nn.Module:
    """Null model of `pde_layer`: a Gaussian of the same spread, learned as it is.

    Args:
        sigma: Standard deviation in pixels; by default that of the diffusion at the start.
        learned: Whether each channel learns its own.
        stage: 1, 2 or 3.
    """
    layer = GaussianBlurLayer(channels_of(stage, width), sigma, learned)
    return insert(SmallImageResNet(num_classes, width), stage, layer)


@MODELS.register
@card("null", "u <- 9x9 convolution of each channel", matched=("start", "support", "border"))
def depthwise_heat_layer(num_classes: int = 10, width: int = 64, stage: int = 3) -> nn.Module:
    """Null model of `pde_layer`: any 9x9 stencil, learned from the diffusion of its start."""
    layer = DepthwiseHeatLayer(channels_of(stage, width))
    return insert(SmallImageResNet(num_classes, width), stage, layer)


@MODELS.register
@card("null", "u <- 3x3 convolution of each channel")
def depthwise_conv_layer(num_classes: int = 10, width: int = 64, stage: int = 3) -> nn.Module:
    """Null model of `pde_layer`: any 3x3 stencil, learned; an upper bound with 9 weights for 1."""
    layer = DepthwiseConvLayer(channels_of(stage, width))
    return insert(SmallImageResNet(num_classes, width), stage, layer)
