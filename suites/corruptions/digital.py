"""Digital: contrast, elastic_transform, pixelate, jpeg_compression, and saturate for validation.

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

from harness.models.ops import loops, philox
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions import color, jpeg, linear
from harness.suites.corruptions.contract import (
    corruption,
    intensities,
    pick,
    product_type,
    quantize,
)

# What made the published files, and what the package runs on today's Pillow.
CODECS = {"cifar10_c": "libjpeg", "imagenet_c": "libjpeg-turbo"}
TIE = (
    2.0**-19
)  # of 1, half of 1 / 1024 level: what `warped` gives are multiples of that, to round-off
BITS = 22  # of the weights in Pillow's resampling


@CORRUPTIONS.register
@corruption
def contrast(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """(x - mean) c + mean, mean per image and channel. Nothing is drawn."""
    c = pick(constants, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    x = intensities(images)
    # One value after the other, as the published files want it. Elsewhere than on a CPU a scan is
    # sequential over the first dimension only.
    flat = x.flatten(2)
    on_cpu = x.device.type == "cpu"
    total = flat.cumsum(2)[:, :, -1] if on_cpu else flat.permute(2, 0, 1).cumsum(0)[-1]
    mean = total.div(torch.full_like(total[:1, :1], x[0, 0].numel()))[:, :, None, None]
    return quantize(x.sub_(mean).mul_(c).add_(mean))


@CORRUPTIONS.register
@corruption
def elastic_transform(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """A random affine map (cifar10_c only), then a smooth random displacement of every pixel.

    Three points are moved by uniform jitter; the displacements are alpha times a blurred field
    uniform in [-1, 1] (imagenet_c: [-H / 200, H / 200]). Both sample linearly.
    """
    if constants != "cifar10_c":
        alpha = (12.5, 16.25, 21.25, 25.0, 30.0)[severity - 1]
        height, width = images.shape[2:]
        sigmas = (0.01 * height, 0.01 * width)
        return _displace(
            intensities(images), indices, seed, severity, alpha * 0.005 * height, sigmas
        )
    alpha, sigma, jitter = (
        (0, 0, 2.56),
        (1.6, 6.4, 2.24),
        (2.56, 1.92, 1.92),
        (3.2, 1.28, 1.6),
        (3.2, 0.96, 0.96),
    )[severity - 1]
    u = philox.uniform((len(images), 3, 2), seed, "elastic_transform", severity, indices)
    x = warp(intensities(images), u.double().mul_(2).sub_(1).mul_(jitter))
    if not alpha:
        return quantize(x.add_(TIE))
    return _displace(x, indices, seed, severity, alpha, (sigma, sigma))


@CORRUPTIONS.register
@functools.partial(corruption, by_image=True)
def pixelate(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """Shrunk to a share of its side by means of whole pixels, enlarged by repeating them.

    Integer arithmetic, equal to Pillow's. Nothing is drawn.
    """
    share = pick(constants, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    if images.device.type == "cpu" and loops.has_loops():
        from harness.suites.corruptions import integers

        down, across = (_boxes(side, int(side * share), constants) for side in images.shape[2:])
        out = torch.empty_like(images)
        integers.boxes(images.flatten(0, 1).numpy(), across, down, BITS, out.flatten(0, 1).numpy())
        return out
    x = images.to(torch.float32)  # exact: sums are below 2^24
    for dim in (3, 2):
        size = images.shape[dim]
        sums, weights = _box_sums(size, int(size * share), constants, images.device)
        if dim == 3:
            x = (x.reshape(-1, size) @ sums.T).view(*x.shape[:3], size)
        else:
            weights = weights[:, None]
            x = torch.bmm(sums.expand(x.shape[0] * 3, size, size), x.flatten(0, 1)).view(x.shape)
        x = x.to(torch.int32).mul_(weights).add_(1 << BITS - 1).bitwise_right_shift_(BITS)
        x = x.to(torch.float32 if dim == 3 else torch.uint8)
    return x


@CORRUPTIONS.register
@functools.partial(corruption, by_image=True)
def jpeg_compression(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """JPEG of a quality, in the arithmetic of a codec, see `codec`. Nothing is drawn."""
    quality = pick(constants, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
    return jpeg.roundtrip(images, quality, CODECS[constants])


def codec(constants: str = "cifar10_c") -> str:
    """Return which codec's arithmetic `jpeg_compression` follows, for a result's provenance."""
    return {"libjpeg": "IJG libjpeg 9", "libjpeg-turbo": "libjpeg-turbo 3"}[CODECS[constants]]


jpeg_compression.codec = codec


@CORRUPTIONS.register
@corruption
def saturate(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """a S + b for the saturation, hue and value kept; gray turns red. Nothing is drawn."""
    a, b = pick(
        constants,
        severity,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    )
    return color.recolor(images, float(a), float(b))


def warp(x: Tensor, moves: Tensor) -> Tensor:
    """Return images (N, 3, H, W) under the affine maps that move three points, border mirror.

    The points (x, y) are center + (s, s), center + (s, -s), center - (s, s) with s a third of the
    side. Sources are rounded to 1/32 pixel, as OpenCV before 5 does:

        (rint(1024 a x) + rint(1024 (b y + c)) + 16 >> 5) / 32.

    Args:
        moves: (N, 3, 2) float64, what is added to each point.
    """
    height, width = x.shape[2:]
    s = min(height, width) // 3
    origin = torch.tensor([height // 2 - s, height // 2 - s], device=x.device).double()
    m0, m1, m2 = moves.unbind(1)
    # Forward: p to (1 + J) (p - origin) + origin + m2, the columns of J divided differences.
    (xx, yx), (xy, yy) = ((m1 - m2) / (2 * s)).unbind(1), ((m0 - m1) / (2 * s)).unbind(1)
    xx, yy = xx + 1, yy + 1
    determinant = xx * yy - xy * yx
    inverse = torch.stack([yy, -xy, -yx, xx], 1).view(-1, 2, 2) / determinant[:, None, None]
    shift = origin - (inverse @ (origin + m2)[:, :, None])[:, :, 0]
    rows = torch.arange(height, device=x.device).double()
    columns = torch.arange(width, device=x.device).double()
    grid = torch.empty(
        (*x.shape[:1], height, width, 2), dtype=product_type(x.device), device=x.device
    )
    for axis, size in enumerate((width, height)):
        a, b = inverse[:, axis].unbind(1)
        along = (1024 * a[:, None] * columns).round_()
        down = (1024 * (b[:, None] * rows + shift[:, axis, None])).round_().add_(16)
        source = (along[:, None] + down[:, :, None]).mul_(1 / 32).floor_()
        grid[..., axis] = source.mul_(2 / (32 * (size - 1))).sub_(1)
    return F.grid_sample(x.to(grid.dtype), grid, "bilinear", "reflection", align_corners=True)


def _displace(
    x: Tensor,
    indices: Tensor,
    seed: int,
    severity: int,
    alpha: float,
    sigmas: tuple[float, float],
) -> Tensor:
    """Return the quantized images, each value read at a displaced place, border reflect."""
    n, _, height, width = x.shape
    shape = (n, 2, height, width)
    u = philox.uniform(shape, seed, "elastic_transform", severity, indices, draw=1)
    x = x.to(product_type(x.device))
    smooth = _smooth(*sigmas, height, width, x.dtype, x.device)
    places = linear.two_sided(u.to(x.dtype).mul_(2).sub_(1).mul_(alpha), smooth)
    dx, dy = places.unbind(1)
    h = torch.arange(height, device=x.device)[:, None] + 0.5
    w = torch.arange(width, device=x.device) + 0.5
    dx.add_(w).mul_(2 / width).sub_(1)
    dy.add_(h).mul_(2 / height).sub_(1)
    sampled = F.grid_sample(
        x, places.permute(0, 2, 3, 1), "bilinear", "reflection", align_corners=False
    )
    return quantize(sampled.add_(TIE))


@functools.cache
def _smooth(
    sigma_rows: float,
    sigma_columns: float,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> linear.Products:
    matrices = [
        linear.correlation_matrix(linear.gauss_weights(sigma, 3), size, "reflect")
        for sigma, size in ((sigma_rows, height), (sigma_columns, width))
    ]
    return linear.stack(matrices[:1], matrices[1:], dtype, device)


@functools.cache
def _box_sums(
    size: int, points: int, constants: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return which pixels each output sums, (size, size) of 0 and 1, and their weights (size,)."""
    first, after, weights, place = _boxes(size, points, constants)
    pixels = np.arange(size)
    sums = ((pixels >= first[place, None]) & (pixels < after[place, None])).astype(np.float32)
    of_outputs = torch.from_numpy(weights[place])
    return torch.from_numpy(sums).to(device), of_outputs.to(device)


@functools.cache
def _boxes(size: int, points: int, constants: str) -> tuple[np.ndarray, ...]:
    """Return each mean's first pixel, the one after its last and its weight; then outputs' means.

    Point i of `points` is the mean of the pixels whose centers lie within half a step of
    (i + 1/2) size / points; output j repeats point floor((j + 1/2) points / size). The published
    files are enlarged by averages too, which is the same; the package picks the nearest point with
    Pillow's running sum, whose round-off shows where that is an integer.

    Returns:
        uint64, uint64 and int32 (points,), a weight being 2^BITS over the number of pixels; uint64
        (size,).
    """
    step = size / points
    place = (np.arange(size) + 0.5) * (points / size)
    if constants != "cifar10_c":
        place = np.cumsum(np.r_[0.5 * (points / size), np.full(size - 1, points / size)])
    centers = (np.arange(points) + 0.5) * step
    away = (np.arange(size) - centers[:, None] + 0.5) * (1 / step)
    inside = (away > -0.5) & (away <= 0.5)
    count = inside.sum(1)
    first = inside.argmax(1)
    weights = np.floor(0.5 + (1 << BITS) / count).astype(np.int32)
    first, after, place = (k.astype(np.uint64) for k in (first, first + count, np.floor(place)))
    return first, after, weights, place
