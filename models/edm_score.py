"""A diffusion model by denoising, with the preconditioning of Karras et al.

    dx/ds = (x - D(x; s)) / s,   D(x; s) = c_skip(s) x + c_out(s) F(c_in(s) x; log(s) / 4, class),
    c_skip = d^2 / (s^2 + d^2),  c_out = s d / sqrt(s^2 + d^2),  c_in = 1 / sqrt(s^2 + d^2),

with d = 0.5, the standard deviation of images in [-1, 1]. Training minimizes, over log s ~ N(-1.2,
1.2^2), E (s^2 + d^2) / (s d)^2 (D(x + s n; s) - x)^2, which is E (F - T)^2 with a target T of unit
variance, T = (x - c_skip (x + s n)) / c_out. F is a small U-Net. Calling the model classifies by
Bayes' rule.

Reference: T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models,
NeurIPS 2022, https://arxiv.org/abs/2206.00364, table 1, column "Ours". Deviations: a small
network; levels from 0.02 in place of 0.002, since a step of 8-bit images is 0.008; no augmentation;
the class is left out of a tenth of the images, so that it knows images of any class as well.
"""

import math

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.denoising import Denoiser, column, mean_square, normal_like, told
from harness.models.papers import CHEN_2024, KARRAS_2022, LI_2023

DATA = 0.5  # d, standard deviation of images in [-1, 1]
SPREAD = 1.2  # standard deviation of log s in training


class EDM(Denoiser):
    """A denoiser of preconditioned input and output.

    Args:
        log_mean: Mean of log s in training; the others as of `Denoiser`.
    """

    def __init__(
        self, num_classes: int, width: int, levels: int, draws: int, log_mean: float
    ) -> None:
        super().__init__(num_classes, width, levels, draws)
        self.log_mean = log_mean

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return D(noisy; sigma); see `base.Denoising`.

        A level beyond the ends is told to the network as the end.
        """
        c_skip, c_out, c_in = coefficients(sigma)
        return c_skip * noisy + c_out * self.residual(c_in * noisy, sigma, labels)

    def residual(self, scaled: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return F of images (N, 3, H, W) of unit variance at levels `sigma` (N,)."""
        level = sigma.clamp(self.sigma_min, self.sigma_max).log() / 4
        return self.net(scaled, level, labels)

    def training_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weighted mean square error; see `base.WithOwnLoss`."""
        x = 2 * images - 1
        sigma = torch.randn(len(x), generator=generator)
        sigma = sigma.mul(SPREAD).add(self.log_mean).exp().to(x)
        noisy = x + column(sigma) * normal_like(x, generator)
        c_skip, c_out, c_in = coefficients(sigma)
        found = self.residual(c_in * noisy, sigma, told(labels, generator))
        return mean_square(found, (x - c_skip * noisy) / c_out)


def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out and c_in, (N, 1, 1, 1), of levels `sigma` (N,)."""
    s = column(sigma)
    total = s.square() + DATA**2
    return DATA**2 / total, s * DATA * total.rsqrt(), total.rsqrt()


@MODELS.register
@card(
    "generative",
    "dx/ds = (x - D(x; s)) / s, D = c_skip x + c_out F(c_in x; s)",
    papers=(KARRAS_2022, LI_2023, CHEN_2024),
    nulls=("gaussian_fit",),
)
def edm_score(
    num_classes: int = 10,
    width: int = 64,
    levels: int = 6,
    draws: int = 1,
    log_mean: float = -1.2,
) -> nn.Module:
    """Diffusion model of Karras et al. by a small U-Net; classifies by Bayes' rule.

    Its null has no trained weights: two moments of the images. `log_mean` is that of the levels of
    noise in training, -1.2 in the paper: right for photographs of 32 pixels. Smooth images keep
    what they show at higher levels: enlarged k times, at those log k above.
    """
    if not math.isfinite(log_mean):
        raise ValueError(f"`log_mean` must be finite; got {log_mean}. The paper has -1.2.")
    return EDM(num_classes, width, levels, draws, log_mean)
