"""A diffusion model by the velocity of straight paths from images to noise.

    dx_t/dt = v(x_t; t),   x_t = (1 - t) x + t n,   t in [0, 1],

where v minimizes E (v(x_t; t) - (n - x))^2, n standard normal, t uniform: v = E[n - x | x_t]. It is
a denoiser as well: with y = x_t / (1 - t) = x + s n, s = t / (1 - t), the mean of clean images is
D(y; s) = x_t - t v(x_t; t), and in s the equation is dy/ds = (y - D(y; s)) / s. v is a small U-Net.
Calling the model classifies by Bayes' rule.

Reference: Y. Lipman et al., Flow Matching for Generative Modeling, ICLR 2023,
https://arxiv.org/abs/2210.02747, the optimal transport path (section 4.1, example II). Deviations:
time runs from images to noise, and the path ends in the image itself (their sigma_min is 0); a
small network; the class is left out of a tenth of the images, so that the model knows images of any
class as well.
"""

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.denoising import Denoiser, column, mean_square, normal_like, told
from harness.models.papers import CHEN_2024, LI_2023, LIPMAN_2023


class Flow(Denoiser):
    """A denoiser by a velocity."""

    def velocity(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Return v, (N, 3, H, W), at points x of paths and times t, (N,), in [0, 1]."""
        return self.net(x, t, labels)

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return D(noisy; sigma) for any sigma >= 0; see `base.Denoising`."""
        t = sigma / (1 + sigma)
        x = noisy / column(1 + sigma)  # 1 - t = 1 / (1 + sigma)
        return x - column(t) * self.velocity(x, t, labels)

    def training_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean square error of the velocity; see `base.WithOwnLoss`."""
        x = 2 * images - 1
        t = torch.rand(len(x), generator=generator).to(x)
        n = normal_like(x, generator)
        found = self.velocity(x.lerp(n, column(t)), t, told(labels, generator))
        return mean_square(found, n - x)


@MODELS.register
@card(
    "generative",
    "dx/dt = v(x; t), x_t = (1 - t) x + t n",
    papers=(LIPMAN_2023, LI_2023, CHEN_2024),
    nulls=("gaussian_fit",),
)
def flow_matching(
    num_classes: int = 10, width: int = 64, levels: int = 6, draws: int = 1
) -> nn.Module:
    """Straight paths from images to noise by a small U-Net; classifies by Bayes' rule.

    Its null has no trained weights: two moments of the images.
    """
    return Flow(num_classes, width, levels, draws)
