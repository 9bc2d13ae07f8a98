"""Classifiers trained on images diffused by random amounts, and the filters of their null models.

    pde_aug            u_t = div(g(|grad u|) grad u),  g(s) = 1 / (1 + s^2 / kappa^2),  u(0) = image
    gaussian_blur_aug  u_t = Laplacian(u):  the same without g, hence a Gaussian of variance 2 t

In training, each image is replaced with probability 1/2 by u(t), t = num_steps dt with dt = 0.2 and
num_steps uniform in 1..20; kappa is log-uniform in 0.02..0.2, in units of intensity on [0, 1]. In
evaluation nothing is done to the images. The null models take the same draws, so that they smooth
the same images: `gaussian_blur_aug` for the same time, those of `harness.models.matched_aug` until
an image is changed as much, by blur, by the median over a square as wide as that Gaussian, or by
the mean over it times exp(-|difference|^2 / (2 kappa^2)). Explicit Euler with no flux through the
border, one g from the gradient norm over all channels: stable, since dt <= 1/4 and g <= 1, and
within the range of the image.

Reference: P. Perona and J. Malik, Scale-space and edge detection using anisotropic diffusion, IEEE
TPAMI 12(7), 1990; as augmentation: S. Mishra et al., Learning visual representations for transfer
learning by suppressing texture, https://arxiv.org/abs/2011.01901. Deviations: probability, steps
and kappa are ours, neither source gives them.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.models.augmented import Augmented
from harness.models.cards import MODELS, card
from harness.models.ops import heat, perona_malik
from harness.models.papers import DIFFUSIFYNET, MISHRA_2020, PERONA_MALIK
from harness.models.resnet import resnet18

DT = 0.2  # pixel^2 a step; the explicit scheme is stable up to 1/4


@dataclass(frozen=True)
class Draws:
    """Which images of a batch are diffused, and how; on the CPU.

    `indices` (M,), sorted by falling number of steps; `num_steps` and `kappa` (M,) beside it.
    """

    indices: Tensor
    num_steps: list[int]
    kappa: Tensor


def draw(
    count: int,
    generator: torch.Generator,
    *,
    probability: float,
    max_steps: int,
    kappa: tuple[float, float],
) -> Draws:
    """Draw the diffusion of `count` images; the same three numbers for each, used or not."""
    chosen = torch.rand(count, generator=generator) < probability
    num_steps = torch.randint(1, max_steps + 1, (count,), generator=generator)
    low, high = (math.log(k) for k in kappa)
    scale = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    order = num_steps.argsort(descending=True, stable=True)
    indices = order[chosen[order]]
    return Draws(indices, num_steps[indices].tolist(), scale[indices])


Filter = Callable[[Tensor, list[int], Tensor], Tensor]  # images, num_steps, kappa to images


@dataclass(frozen=True)
class Smoothed:
    """A random half of the images smoothed by `filter`, as strongly as drawn.

    Args:
        filter: `(u, num_steps, kappa)` to the smoothed images; u (M, 3, H, W) sorted by falling
            num_steps, kappa (M,) on its device. It may change u.
    """

    filter: Filter
    probability: float = 0.5
    max_steps: int = 20
    kappa: tuple[float, float] = (0.02, 0.2)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draws = draw(
            len(images),
            generator,
            probability=self.probability,
            max_steps=self.max_steps,
            kappa=self.kappa,
        )
        indices = draws.indices.to(images.device, non_blocking=True)
        kappa = draws.kappa.to(images.device, images.dtype, non_blocking=True)
        smoothed = self.filter(images[indices].contiguous(), draws.num_steps, kappa)
        augmented = images.clone()
        augmented[indices] = smoothed.clamp(0, 1)  # round-off may leave [0, 1] by one unit
        return augmented


def diffuse(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
    """March each image by Perona-Malik steps, the more of them the earlier it stands."""
    for left, steps in marches(num_steps):
        u[:left] = perona_malik(u[:left], dt=DT, num_steps=steps, kappa=kappa[:left])
    return u


def blur(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
    """March each image by steps of the heat equation."""
    for left, steps in marches(num_steps):
        u[:left] = heat(u[:left], dt=DT, num_steps=steps)
    return u


def marches(num_steps: list[int]) -> list[tuple[int, int]]:
    """Split marches of falling length into (how many images, how many steps) for a prefix each."""
    found, done = [], 0
    for steps in sorted(set(num_steps)):
        found.append((sum(n >= steps for n in num_steps), steps - done))
        done = steps
    return found


def radius(num_steps: int) -> int:
    """Return the half-width in pixels, at least 1, of a square as wide as u(t)'s Gaussian.

    A Gaussian and a uniform square have equal variance for sigma^2 = r (r + 1) / 3.
    """
    variance = 2 * DT * num_steps
    return max(1, round((math.sqrt(1 + 12 * variance) - 1) / 2))


def neighbors(u: Tensor, r: int) -> Tensor:
    """Return the pixels of the square of half-width r about each, (M, C, (2 r + 1)^2, H, W)."""
    n, c, h, w = u.shape
    padded = nn.functional.pad(u, (r, r, r, r), mode="replicate")
    side = 2 * r + 1
    return padded.unfold(2, side, 1).unfold(3, side, 1).reshape(n, c, h, w, -1).movedim(-1, 2)


def by_radius(num_steps: list[int]) -> list[tuple[slice, int]]:
    """Return the runs of images of equal radius."""
    radii = [radius(n) for n in num_steps]
    starts = [i for i, r in enumerate(radii) if i == 0 or r != radii[i - 1]]
    ends = [*starts[1:], len(radii)]
    return [(slice(i, j), radii[i]) for i, j in zip(starts, ends, strict=True)]


def median(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
    """Take the median of each channel over a square."""
    with warnings.catch_warnings():  # on CUDA which of equal values it is varies, not the value
        warnings.filterwarnings("ignore", message=".*median CUDA with indices output")
        for run, r in by_radius(num_steps):
            u[run] = neighbors(u[run], r).median(dim=2).values
    return u


def bilateral(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
    """Take the mean over a Gaussian, of pixels like the one at the center in all channels."""
    variance = 2 * DT * torch.tensor(num_steps, dtype=u.dtype, device=u.device)
    for run, r in by_radius(num_steps):
        around = neighbors(u[run], r)  # (M, C, K, H, W)
        offsets = torch.arange(-r, r + 1, device=u.device, dtype=u.dtype) ** 2
        squared = (offsets[:, None] + offsets).flatten()  # (K,), distances on the grid
        apart = (around - u[run][:, :, None]).square().sum(1)  # (M, K, H, W)
        near = squared / (2 * variance[run, None])
        alike = apart / (2 * kappa[run, None, None, None] ** 2)
        weights = torch.exp(-near[:, :, None, None] - alike)
        u[run] = (around * weights[:, None]).sum(2) / weights.sum(1)[:, None]
    return u


@MODELS.register
@card(
    "touchpoint",
    "u_t = div(g(|grad u|) grad u) on training images",
    (DIFFUSIFYNET, PERONA_MALIK, MISHRA_2020),
    (
        *("matched_blur_aug", "matched_median_aug", "matched_bilateral_aug", "gaussian_blur_aug"),
        *("augmix_like_aug", "resnet18"),
    ),
)
def pde_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """ResNet-18 trained with Perona-Malik diffusion of its images."""
    return Augmented(resnet18(num_classes, width), Smoothed(diffuse))


@MODELS.register
@card("null", "u_t = Laplacian(u) on training images", matched=("time",))
def gaussian_blur_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with isotropic blur for an equal time."""
    return Augmented(resnet18(num_classes, width), Smoothed(blur))
