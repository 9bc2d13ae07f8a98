"""Blur: defocus_blur, glass_blur, motion_blur, zoom_blur, and gaussian_blur for validation.

Constants: hendrycks/robustness, make_cifar_c.py (cifar10_c); bethgelab/imagecorruptions
(imagenet_c). x = u / 255; lengths are in pixels.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.ops import philox
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions import linear, zooms
from harness.suites.corruptions.contract import (
    corruption,
    has_loops,
    intensities,
    pick,
    product_type,
    quantize,
)
from harness.suites.corruptions.motion import motion

DIRECT = 5  # side of the largest kernel that is cheaper tap by tap than as products of matrices
TIE = 2.0**-13  # levels; a product of matrices that close below an integer counts as the integer
TAPS_TIE = 2.0**-11  # the same for a sum of up to 41 taps


@CORRUPTIONS.register
@corruption
def defocus_blur(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Correlation with an antialiased disk, border mirror. Nothing is drawn."""
    radius, sd = pick(
        constants,
        severity,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    )
    kernel = linear.disk(radius, sd)
    if exact or len(kernel) <= DIRECT:
        return quantize(linear.correlate(intensities(images), kernel))
    if has_loops(images):
        return _levels(_correlate_disk(images, kernel))
    x = images.to(product_type(images.device))
    return _levels(linear.two_sided(x, _disk_matrices(radius, sd, *_side(x), x.dtype, x.device)))


@CORRUPTIONS.register
@corruption
def glass_blur(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Pixels copied from nearby, between two Gaussian blurs.

    From the lower right corner upwards, u[h, w] = u[h + dy, w + dx] with dx and dy uniform in
    -d..d-1, `passes` times. The published code meant to swap and copies; so does this.
    """
    sigma, d, passes = pick(
        constants,
        severity,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    )
    height, width = _side(images)
    shape = (len(images), passes, height - 2 * d, width - 2 * d)
    word = philox.words(shape, seed, "glass_blur", severity, indices)
    u = _gauss(images, sigma)
    if has_loops(images):
        from harness.suites.corruptions import loops

        loops.copy_nearby(u.numpy(), word.numpy(), d)
        return _gauss(u, sigma)
    # One word holds both offsets plus d, as the leading two digits of a fraction in base 2d.
    word *= 2 * d
    down, right = word >> 32, word.bitwise_and_(philox.MASK).mul_(2 * d).bitwise_right_shift_(32)
    u = u.flatten(2)
    for dy, dx in zip(down.unbind(1), right.unbind(1), strict=True):
        source = copies(dy, dx, d, height, width)
        u = u.gather(2, source[:, None].expand_as(u))
    return _gauss(u.view_as(images), sigma)


@CORRUPTIONS.register
@corruption
def motion_blur(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Mean along a line from each pixel, at an angle uniform in [-45, 45] degrees for each image.

    The weights fall off like one half of a Gaussian; see `motion`.
    """
    radius, sigma = pick(
        constants,
        severity,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    )
    angle = philox.uniform((len(images),), seed, "motion_blur", severity, indices)
    stops = constants != "cifar10_c"
    blurred = motion(images.float(), radius, sigma, angle * 90 - 45, 0, 2 * radius, stops)
    return _levels(blurred, TAPS_TIE)


@CORRUPTIONS.register
@corruption
def zoom_blur(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """(x + sum over factors of Zoom(x, z)) / (number of factors + 1), in float32.

    Factor 1 is among the factors, so the clean image enters twice. Nothing is drawn. The exact form
    rounds as SciPy does, whose float32 round-off is in the published files.
    """
    stop, step = pick(
        constants,
        severity,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    )
    factors = tuple(np.arange(1, stop, step).tolist())  # includes the stop where it rounds that way
    x, centered = images.to(product_type(images.device)), constants == "cifar10_c"
    if exact:
        left, right = (
            [linear.trim(linear.zoom_matrix(size, z), centered) for z in factors]
            for size in _side(x)
        )
        return quantize(zooms.zoom_as_published(intensities(images), left, right))
    if has_loops(images):
        return _levels(zooms.sum_of_zooms(images, factors, centered))
    matrices = zooms.zoom_products(factors, centered, *_side(x), x.dtype, x.device)
    return _levels(linear.two_sided(x, matrices))


@CORRUPTIONS.register
@corruption
def gaussian_blur(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Correlation with Gaussian weights, border nearest. Nothing is drawn."""
    sigma = pick(constants, severity, (0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0))
    return _gauss(images, sigma)


def copies(dy: Tensor, dx: Tensor, d: int, height: int, width: int) -> Tensor:
    """Return the flat sources (N, H W) of one pass of glass_blur.

    Pixel (h, w), from (H - d, W - d) down to (d + 1, d + 1) in reading order backwards, takes the
    value that (h + dy - d, w + dx - d) has at that time: a new one if that pixel had its turn, else
    an old one. So each new value points to another value, and chains of pointers end at old values;
    they are resolved by doubling. For d = 1 no pixel that had its turn is read: each chain is one
    link.

    Args:
        dy, dx: (N, H - 2d, W - 2d) int64 in 0..2d-1, d more than the offsets, for rows and columns
            d+1..H-d, d+1..W-d.
    """
    area = height * width
    h = torch.arange(d + 1, height - d + 1, device=dy.device)[:, None]
    w = torch.arange(d + 1, width - d + 1, device=dy.device)
    pixels = torch.arange(area, device=dy.device).expand(len(dy), -1)
    step = dy * width + dx  # beyond the pixel d rows up and d columns to the left
    here = d * width + d
    old = h * width + w - here
    if d == 1:
        source = pixels.clone()
        source.view(-1, height, width)[:, 2:, 2:] = step.add_(old)
        return source
    # Values 0..area-1 are new, those from `area` on old. A new value is read only from what had
    # its turn, later in reading order; what has no turn is as old as new.
    new = (step > here) & (dy <= height - h) & (dx > 2 * d - w) & (dx <= width - w)
    link = step.add_(old + area).add_(new, alpha=-area)
    pointer = (pixels + area).repeat(1, 2)
    links = pointer[:, :area]
    inner = slice(d + 1, height - d + 1), slice(d + 1, width - d + 1)
    links.unflatten(1, (height, width))[:, *inner] = link
    while True:
        further = pointer.gather(1, links)
        if torch.equal(further, links):
            return further.sub_(area)
        links.copy_(further)


def _side(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _levels(values: Tensor, tie: float = TIE) -> Tensor:
    if has_loops(values) and values.dtype == torch.float32:
        from harness.suites.corruptions import filters

        out = torch.empty(values.shape, dtype=torch.uint8)
        filters.to_levels(values.numpy(), tie, out.numpy())
        return out
    return values.add_(tie).clamp_(0, 255).to(torch.uint8)


def _gauss(images: Tensor, sigma: float) -> Tensor:
    """Return uint8 images (N, C, H, W) correlated with Gaussian weights, border nearest."""
    weights = linear.gauss_weights(sigma)
    if not has_loops(images) or len(weights) == 1:
        return quantize(linear.gauss(intensities(images), sigma))
    from harness.suites.corruptions import filters

    out = torch.empty_like(images)
    filters.blur_levels(images.flatten(0, 1).numpy(), weights, out.flatten(0, 1).numpy())
    return out


def _correlate_disk(images: Tensor, kernel: np.ndarray) -> Tensor:
    """Return uint8 images (N, C, H, W) correlated with a disk, border mirror, float32."""
    from harness.suites.corruptions import filters

    radius = len(kernel) // 2
    x = F.pad(images.float().flatten(0, 1), (radius,) * 4, "reflect")
    quadrant = np.ascontiguousarray(kernel[radius:, radius:], np.float32)
    reach = np.array([max(np.flatnonzero(row), default=-1) for row in quadrant])
    out = torch.empty(images.shape)
    filters.correlate_symmetric(x.numpy(), quadrant, reach, out.flatten(0, 1).numpy())
    return out


@functools.cache
def _disk_matrices(
    radius: float, sd: float, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> linear.Products:
    left, right = linear.separate(linear.disk(radius, sd))
    return linear.stack(
        [linear.correlation_matrix(a, height, "mirror") for a in left],
        [linear.correlation_matrix(b, width, "mirror") for b in right],
        dtype,
        device,
    )
