"""Null models of `pde_aug` whose smoothing changes each image exactly as much.

    matched_blur_aug       u_t = Laplacian(u), t chosen image by image
    matched_median_aug     u <- u + w (median(u) - u)
    matched_bilateral_aug  u <- u + w (bilateral(u) - u)

Smoothing for an equal time is no equal strength: g < 1 slows Perona-Malik diffusion down, so that
plain blur of the same time (`gaussian_blur_aug`) changes an image more than twice as much. Here the
draws of `pde_aug` are taken, its result is computed, and the image is smoothed by the other filter
until its root mean square change is that of `pde_aug`: for blur by the time t, which the modes of
the Laplacian give in closed form,

    |u(t) - u|^2 = sum_k c_k^2 (1 - exp(lambda_k t))^2;

for the others the filter grows, from the width (and kappa) that was drawn, until it changes enough,
and a weight w <= 1 takes the rest off. The flow has no flux through the border.

Reference: ours; the filters are those of `harness.models.pde_aug`. Deviations: none.
"""

import torch
from torch import Tensor, nn

from harness.models.augmented import Augmented
from harness.models.cards import MODELS, card
from harness.models.ops import heat
from harness.models.ops.spectral import eigenbasis
from harness.models.pde_aug import (
    Filter,
    Smoothed,
    bilateral,
    diffuse,
    median,
)
from harness.models.resnet import resnet18

MATCHED = "RMS change of each image"
BISECTIONS = 40  # of log t over LONGEST / SHORTEST: to 1e-9 of it
SHORTEST, LONGEST = 1e-4, 1e4  # pixel^2
GROWTH = 6  # times that a filter may grow
WIDEST = 80  # steps: a square of 19 pixels


def rms(change: Tensor) -> Tensor:
    """Return the root mean square of each image's entries, (N,), of (N, C, H, W)."""
    return change.flatten(1).square().mean(1).sqrt()


def as_strong(filter: Filter) -> Filter:
    """Return a filter that smooths by `filter` and changes each image as much as `pde_aug` does."""

    def smooth(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
        wanted = rms(diffuse(u.clone(), num_steps, kappa).clamp(0, 1) - u)
        return filter_until(u, wanted, num_steps, kappa, filter)

    return smooth


def filter_until(
    u: Tensor, wanted: Tensor, num_steps: list[int], kappa: Tensor, filter: Filter
) -> Tensor:
    """Return images whose root mean square change is `wanted` (N,), by a filter that grows."""
    done, steps = u.clone(), torch.tensor(num_steps)
    left = torch.arange(len(u))
    for growth in range(GROWTH):
        here = left.to(u.device)
        now = (steps[left] * 2**growth).clamp(max=WIDEST).tolist()
        change = filter(u[here].clone(), now, kappa[here] * 2**growth) - u[here]
        weight = (wanted[here] / rms(change).clamp(min=1e-12)).clamp(max=1)
        done[here] = u[here] + weight[:, None, None, None] * change
        left = left[(weight == 1).cpu()]
        if not len(left):
            break
    return done


def blur_until(u: Tensor, wanted: Tensor) -> Tensor:
    """Return images (N, C, H, W) blurred until their root mean square change is `wanted` (N,)."""
    n, channels, height, width = u.shape
    (rows, lam_rows), (columns, lam_columns) = (
        [torch.tensor(part, device=u.device) for part in eigenbasis(side, "neumann")]
        for side in (height, width)
    )
    modes = rows.T @ u.double() @ columns
    energy = modes.square().mean(1) / (height * width)  # (N, H, W)
    lam = lam_rows[:, None] + lam_columns
    low, high = (
        torch.full((n,), bound, dtype=torch.float64, device=u.device).log()
        for bound in (SHORTEST, LONGEST)
    )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        decay = 1 - torch.exp(lam * middle.exp()[:, None, None])
        short = (energy * decay.square()).sum((1, 2)).sqrt() < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    times = torch.where(wanted > 0, low.exp(), 0).to(u.dtype).repeat_interleave(channels)
    planes = u.reshape(1, n * channels, height, width)
    return heat(planes, t=1.0, diffusivity=times, scheme="exact").view_as(u)


def matched_blur(u: Tensor, num_steps: list[int], kappa: Tensor) -> Tensor:
    """Blur each image as much as Perona-Malik diffusion would change it."""
    return blur_until(u, rms(diffuse(u.clone(), num_steps, kappa).clamp(0, 1) - u))


@MODELS.register
@card("null", "u_t = Laplacian(u) on training images, of equal change", matched=(MATCHED,))
def matched_blur_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with blur that changes each image as much."""
    return Augmented(resnet18(num_classes, width), Smoothed(matched_blur))


@MODELS.register
@card("null", "u <- u + w (median - u) on training images, of equal change", matched=(MATCHED,))
def matched_median_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with medians that change each image as much."""
    return Augmented(resnet18(num_classes, width), Smoothed(as_strong(median)))


@MODELS.register
@card("null", "u <- u + w (bilateral - u) on training images, of equal change", matched=(MATCHED,))
def matched_bilateral_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with bilateral means of equal change."""
    return Augmented(resnet18(num_classes, width), Smoothed(as_strong(bilateral)))
