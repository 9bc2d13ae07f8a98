"""Weather: snow, frost, fog, brightness, and spatter for validation.

Constants: hendrycks/robustness, make_cifar_c.py (cifar10_c); bethgelab/imagecorruptions
(imagenet_c). x = u / 255; lengths are in pixels.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.
"""

import math

import torch
from torch import Tensor

from harness.models.ops import philox
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions import color, drops, linear, textures, zooms
from harness.suites.corruptions.contract import (
    corruption,
    has_loops,
    intensities,
    pick,
    quantize,
)
from harness.suites.corruptions.motion import motion

GRAY = (0.299, 0.587, 0.114)
MUD = (63, 42, 20)
WATER = (175, 238, 238)


@CORRUPTIONS.register
@corruption
def snow(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """A layer of blown flakes over an image bleached towards white.

    The layer l is a field of normals of mean m and deviation sd, zoomed by z, set to 0 below t, and
    blurred along an angle uniform in [-135, -45] degrees. With gray g:

        k x + (1 - k) max(x, 1.5 g + 0.5) + l + l turned by 180 degrees.
    """
    mean, sd, z, threshold, radius, sigma, k = pick(
        constants,
        severity,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    )
    n, _, height, width = images.shape
    published = constants == "cifar10_c"
    normal = philox.normal((n, 1, height, width), seed, "snow", severity, indices)
    turn = philox.uniform((n,), seed, "snow", severity, indices, draw=1)
    field = normal.double().mul_(sd).add_(mean)
    if z != 1:
        # The package trims the zoomed field only after it was blurred.
        field = zooms.zoomed(field, z, published)
    layer = field.masked_fill_(field < threshold, 0).clamp_(0, 1).mul_(255)
    if published:
        layer = layer.floor_()
    reach = math.ceil(2 * radius * math.sqrt(0.5))
    angle = turn * 90 - 135
    layer = motion(layer.float(), radius, sigma, angle, reach, reach, stops=not published)
    layer = layer[:, :, :height, :width]
    # The layer is 8 bits deep: cut off at them as published, rounded to them in the package.
    layer = layer.add_(2.0**-11).floor_() if published else layer.round_()
    layer = layer.div_(torch.full_like(layer[:1], 255))
    if has_loops(images):
        from harness.suites.corruptions import layers

        out, gray = torch.empty_like(images), torch.tensor(GRAY)
        layers.lay_snow(images.numpy(), layer.numpy(), gray.numpy(), k, out.numpy())
        return out
    x = images.float().div_(torch.full_like(layer[:1], 255))
    red, green, blue = x.unbind(1)
    gray = (red * GRAY[0] + green * GRAY[1]).add_(blue * GRAY[2])[:, None]
    bleached = torch.maximum(x, gray.mul_(1.5).add_(0.5)).mul_(1 - k)
    return quantize(x.mul_(k).add_(bleached).add_(layer).add_(layer.flip(2, 3)))


@CORRUPTIONS.register
@corruption
def frost(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """p u + q F, F a random crop of one of five photographs, on 0..255."""
    p, q = pick(
        constants,
        severity,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    )
    n, _, height, width = images.shape
    flat, table = textures.frost(height, width, constants, images.device)
    # One of five, then a row and a column; each from a word, scaled to its range.
    word = philox.words((n, 3), seed, "frost", severity, indices)
    offset, rows, columns = table[word[:, 0] * len(table) >> 32].unbind(1)
    row = word[:, 1] * (rows - height) >> 32
    column = word[:, 2] * (columns - width) >> 32
    start = offset + row * columns + column
    if has_loops(images):
        from harness.suites.corruptions import layers

        out, of = torch.empty_like(images), (images, flat, start, columns)
        layers.lay_crops(*(tensor.numpy() for tensor in of), p, q, out.numpy())
        return out
    h = torch.arange(height, device=images.device)[:, None]
    w = torch.arange(width, device=images.device)
    at = start[:, None, None] + h * columns[:, None, None] + w
    crop = torch.stack([channel.take(at) for channel in flat], 1)
    return (crop.double().mul_(q) + images.double().mul_(p)).clamp_(0, 255).to(torch.uint8)


@CORRUPTIONS.register
@corruption
def fog(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """(x + c P) M / (M + c), P a plasma fractal, M the largest value of the image."""
    c, decay = pick(
        constants,
        severity,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    )
    height, width = images.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    u = philox.uniform((len(images), side * side - 1), seed, "fog", severity, indices)
    haze = plasma(u, side, decay)
    if has_loops(images):
        from harness.suites.corruptions import layers

        out = torch.empty_like(images)
        layers.add_haze(images.numpy(), haze.numpy(), float(c), out.numpy())
        return out
    haze = haze[:, None, :height, :width].mul_(c)
    largest = intensities(images.amax((1, 2, 3), keepdim=True))
    return quantize(intensities(images).add_(haze).mul_(largest).div_(largest + c))


@CORRUPTIONS.register
@corruption
def brightness(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """V + c for the largest channel, hue and saturation kept. Nothing is drawn."""
    c = pick(constants, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    return color.recolor(images, c=c)


@CORRUPTIONS.register
@corruption
def spatter(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Drops of water, or of mud: where a blurred field L of normals exceeds t.

    Mud, of color C:    x (1 - m) + m C,  m the blur of [L > t], cut off below 0.8.
    Water, of color C:  x + k m C,        m = L D / max(L D); `drops.relief` says what D is.

    An image without any drop stays as it is. The package divides 0 by 0 there and gives a black
    image, for one in sixty at severity 1 of imagenet_c.
    """
    mean, sd, sigma, threshold, k, mud = pick(
        constants,
        severity,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    )
    n, _, height, width = images.shape
    normal = philox.normal((n, height, width), seed, "spatter", severity, indices)
    liquid = linear.gauss(normal.double().mul_(sd).add_(mean), sigma)
    tint = torch.tensor(MUD if mud else WATER, dtype=torch.float64, device=images.device)
    tint = tint.div_(torch.full_like(tint, 255))[:, None, None]
    x = intensities(images)
    if mud:
        mask = linear.gauss((liquid > threshold).double(), k)[:, None]
        mask = mask.masked_fill_(mask < 0.8, 0)
        return quantize((mask * tint).add_(x.mul_(1 - mask)))
    liquid = liquid.masked_fill_(liquid < threshold, 0)
    level = liquid.mul_(255).to(torch.uint8).to(torch.float64)  # beyond 255 it wraps, as published
    mask = level * drops.relief(level)
    mask = mask.div_(mask.amax((1, 2), keepdim=True).clamp_(min=1)).mul_(k)[:, None]
    return quantize((mask * tint).add_(x))


def plasma(u: Tensor, side: int, decay: float) -> Tensor:
    """Return fractal maps (N, side, side) in [0, 1] by diamonds and squares on a torus.

    From a[0, 0] = 0, with steps s = side, side / 2, .. 2 and w = 100, 100 / decay, ..: the center
    of each square of side s becomes the mean of its corners, then the middle of each edge the mean
    of its two ends and the two centers beside it, each plus w times a number uniform in [-w, w].

    Args:
        u: (N, side^2 - 1), uniform in [0, 1), in the order of the steps and the points in them:
            centers, middles of horizontal edges, middles of vertical edges.
    """
    n = len(u)
    a = torch.zeros((n, side, side), dtype=torch.float64, device=u.device)
    if has_loops(a):
        from harness.suites.corruptions import layers

        layers.fractal(u.numpy(), float(decay), a.numpy())
        return _scaled(a)
    noise = u.double().mul_(2).sub_(1)
    used, step, w = 0, side, 100.0
    while step >= 2:
        half, count = step // 2, side // step
        kicks = noise[:, used : used + 3 * count * count].view(n, 3, count, count) * (w * w)
        used += 3 * count * count
        corner = a[:, ::step, ::step]
        down = corner + corner.roll(-1, 1)
        center = (down + down.roll(-1, 2)).mul_(0.25).add_(kicks[:, 0])
        a[:, half::step, half::step] = center
        across = (corner + corner.roll(-1, 2)).add_(center).add_(center.roll(1, 1))
        a[:, ::step, half::step] = across.mul_(0.25).add_(kicks[:, 1])
        upright = down.add_(center).add_(center.roll(1, 2))
        a[:, half::step, ::step] = upright.mul_(0.25).add_(kicks[:, 2])
        step, w = half, w / decay
    return _scaled(a)


def _scaled(a: Tensor) -> Tensor:
    """Return maps (N, H, W) with 0 for their least and 1 for their largest value; overwrites."""
    a -= a.amin((1, 2), keepdim=True)
    return a.div_(a.amax((1, 2), keepdim=True))
