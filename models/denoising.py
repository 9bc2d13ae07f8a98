"""What learned denoisers share: a network, its training draws, and a classifier by Bayes' rule.

    log p(x | c) = -integral of E |D(x + s n; s, c) - x|^2 / s^2 d(log s) + what no class changes,

with x in [-1, 1], n standard normal and D the denoiser. `forward` returns these as logits, the
integral over levels s in equal steps of log s and the mean over draws of n, less what makes their
exponentials sum to one. One set of noise serves every image and class, so that classes are compared
in pairs and an answer depends on its image alone.

Reference: A. C. Li et al., Your Diffusion Model is Secretly a Zero-Shot Classifier, ICCV 2023,
https://arxiv.org/abs/2303.16203; H. Chen et al., Robust Classification via a Single Diffusion
Model, ICML 2024, https://arxiv.org/abs/2305.15241; the integral, D. Guo, S. Shamai and S. Verdu,
Mutual Information and Minimum Mean-Square Error in Gaussian Channels, 2005,
https://arxiv.org/abs/cs/0412108. Deviations: few levels, which are fixed; the noise is that of 32
pixels, repeated over larger images; no correction of adversarial images before it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.base import MIN_SIZE
from harness.models.unet import UNet

SMALLEST, LARGEST = 0.02, 80.0  # levels of noise of a sample, of images in [-1, 1]
FROM, TO = 0.5, 32.0  # levels that tell classes apart: below, all give the image; above, the mean
DROPPED = 0.1  # share of training images whose class is not told
EMA = 0.999
KEY = 1_903_001  # of the noise of the classifier
ROWS = 512  # images that go through the network at a time; more, where one level has more


class Denoiser(nn.Module):
    """A learned denoiser, and the classifier that it is: images in [0, 1] to logits.

    Args:
        num_classes: Number of classes.
        width: Of the network; see `UNet`.
        levels: Number of levels of noise that images are classified at.
        draws: Draws of noise at each of them.
    """

    sigma_min, sigma_max, ema = SMALLEST, LARGEST, EMA
    levels: Tensor
    noise: Tensor

    def __init__(self, num_classes: int, width: int, levels: int, draws: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.net = UNet(num_classes, width)
        step = math.log(TO / FROM) / levels
        self.weight = step / draws
        places = torch.arange(levels).repeat_interleave(draws) + 0.5
        self.register_buffer("levels", FROM * torch.exp(step * places), persistent=False)
        generator = torch.Generator().manual_seed(KEY)
        shape = (levels * draws, 3, MIN_SIZE, MIN_SIZE)
        self.register_buffer("noise", torch.randn(shape, generator=generator), persistent=False)

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean of clean images; see `base.Denoising`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        x = 2 * images - 1
        size = x.shape[-1]
        many = -(-size // MIN_SIZE)
        noise = self.noise.to(x.dtype).repeat(1, 1, many, many)[..., :size, :size]
        logits = x.new_zeros(len(x), self.num_classes)
        together = max(1, ROWS // max(1, logits.numel()))
        for sigma, n in zip(self.levels.split(together), noise.split(together), strict=True):
            logits = logits - self.weight * self.errors(x, sigma, n)
        return logits.log_softmax(dim=1)

    def errors(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Return the sum of |D - x|^2 / sigma^2 over levels, (N, classes), less what classes share.

        Args:
            x: (N, 3, H, W), in [-1, 1].
            sigma: (L,), levels of noise.
            noise: (L, 3, H, W), standard normal.
        """
        many = len(x), len(sigma), self.num_classes
        noisy = x[:, None] + column(sigma) * noise  # (N, L, 3, H, W)
        noisy = noisy[:, :, None].expand(*many, *x.shape[1:]).flatten(0, 2)
        labels = torch.arange(self.num_classes, device=x.device).expand(many).flatten()
        levels = sigma[:, None].expand(many).flatten()
        found = self.denoise(noisy, levels, labels).view(*many, *x.shape[1:])
        mean = found.mean(dim=2, keepdim=True)
        # |D - x|^2 less |mean - x|^2, without the difference of two large numbers.
        apart = ((found - mean) * (found + mean - 2 * x[:, None, None])).flatten(3).sum(3)
        return (apart / sigma[:, None].square()).sum(1)


def told(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return labels (N,), some of them replaced by -1, which may be any class."""
    drawn = torch.rand(len(labels), generator=generator).to(labels.device)
    return labels.where(drawn >= DROPPED, -1)


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers of the shape of `x`, drawn on the CPU."""
    return torch.randn(x.shape, generator=generator).to(x)


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of (a - b)^2 over all, in float32."""
    return functional.mse_loss(a.float(), b.float())


def column(values: Tensor) -> Tensor:
    """Return (N,) as (N, 1, 1, 1)."""
    return values[:, None, None, None]
