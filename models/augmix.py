"""ResNet-18 trained on mixtures of randomly altered images: the strong null of `pde_aug`.

    image <- m image + (1 - m) sum_i w_i chain_i(image),   w ~ Dirichlet(1, 1, 1),  m ~ Beta(1, 1)

Three chains of one to three operations at severity 3, drawn with replacement from autocontrast,
equalize, posterize, rotate, solarize, shear and translate in x and y. None of them overlaps a
corruption of the robustness suite (no noise, blur, contrast, brightness, saturation). In evaluation
nothing is done to the images. Each image has draws of its own, and whole batches are altered at
once: an operation is applied to all images that drew it.

Reference: D. Hendrycks et al., AugMix: A Simple Data Processing Method to Improve Robustness and
Uncertainty, ICLR 2020, https://arxiv.org/abs/1912.02781. Deviations: images are mixed before
normalization; cross-entropy on the mixture alone, without the Jensen-Shannon loss, as every model
here has one loss.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from harness.models.augmented import Augmented
from harness.models.cards import MODELS, card
from harness.models.papers import AUGMIX
from harness.models.resnet import resnet18

SEVERITY = 3
CHAINS = 3
DEPTH = 3

# (images (M, 3, H, W) in [0, 1], level (M,) in (0, 1], sign (M,) of -1 or 1) to images
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def autocontrast(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; one of a single value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / span.clamp(min=1e-12), images)


def equalize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Flatten the histogram of each channel, in 256 levels, as Pillow does."""
    n, c, h, w = images.shape
    values = (images * 255).round().long().reshape(n * c, h * w)
    counts = torch.zeros(n * c, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    last = counts.gather(1, values.amax(1, keepdim=True))  # of the brightest value there is
    step = (h * w - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return (table.gather(1, values).view_as(images) / 255).to(images.dtype)


def posterize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keep the highest 4 - int(4 level) bits of 8."""
    bits = 4 - (4 * level).long()
    unit = 2 ** (8 - bits).to(images.dtype)[:, None, None, None]
    return (images * 255).round().div(unit).floor() * unit / 255


def solarize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Invert what is at or above 256 - int(256 level) of 255."""
    threshold = (256 - (256 * level).long()).to(images.dtype)[:, None, None, None]
    return torch.where((images * 255).round() >= threshold, 1 - images, images)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample at matrices (M, 2, 3) of pixel coordinates about the center; black outside."""
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def matrices(level: Tensor, **entries: Tensor) -> Tensor:
    """Return identities (M, 2, 3) with other `entries`: xx, xy, x, yx, yy, y."""
    m = torch.zeros(len(level), 2, 3, dtype=level.dtype, device=level.device)
    m[:, 0, 0] = m[:, 1, 1] = 1
    for name, value in entries.items():
        m[:, "xy".index(name[0]), 2 if len(name) == 1 else "xy".index(name[1])] = value
    return m


def rotate(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate by up to 30 degrees."""
    angle = sign * (30 * level).floor() * math.pi / 180
    cos, sin = angle.cos(), angle.sin()
    return warp(images, matrices(level, xx=cos, xy=-sin, yx=sin, yy=cos))


def shear_x(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift rows by up to 0.3 of their distance to the center."""
    return warp(images, matrices(level, xy=0.3 * level * sign))


def shear_y(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift columns in the same way."""
    return warp(images, matrices(level, yx=0.3 * level * sign))


def translate_x(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift by whole pixels, up to a third of the side."""
    size = images.shape[-1]
    return warp(images, matrices(level, x=2 * sign * (size / 3 * level).floor() / size))


def translate_y(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift by whole pixels up or down."""
    size = images.shape[-2]
    return warp(images, matrices(level, y=2 * sign * (size / 3 * level).floor() / size))


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    posterize,
    rotate,
    solarize,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)


def augmix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mix `images` (N, 3, H, W) in [0, 1] with altered copies of themselves."""
    n = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    # The weights of Dirichlet(1, ..., 1) are exponentials over their sum.
    weights = -torch.log1p(-uniform(CHAINS))
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    mixing = uniform()
    depth = torch.randint(1, DEPTH + 1, (n, CHAINS), generator=generator)
    which = torch.randint(len(OPERATIONS), (n, CHAINS, DEPTH), generator=generator)
    level = (0.1 + (SEVERITY - 0.1) * uniform(CHAINS, DEPTH)) / 10
    sign = 2.0 * torch.randint(2, (n, CHAINS, DEPTH), generator=generator) - 1

    device, dtype = images.device, images.dtype
    mixture = torch.zeros_like(images)
    for chain in range(CHAINS):
        altered = images.clone()
        for step in range(DEPTH):
            for number, operation in enumerate(OPERATIONS):
                drew = (which[:, chain, step] == number) & (step < depth[:, chain])
                rows = drew.nonzero()[:, 0]
                if len(rows):
                    there = rows.to(device)
                    altered[there] = operation(
                        altered[there],
                        level[rows, chain, step].to(device, dtype),
                        sign[rows, chain, step].to(device, dtype),
                    )
        mixture += weights[:, chain, None, None, None].to(device, dtype) * altered
    m = mixing[:, None, None, None].to(device, dtype)
    return (m * images + (1 - m) * mixture).clamp(0, 1)


@MODELS.register
@card("null", "image <- m image + (1 - m) sum_i w_i chain_i(image)", (AUGMIX,))
def augmix_like_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with AugMix's mixtures."""
    return Augmented(resnet18(num_classes, width), augmix)
