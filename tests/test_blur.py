import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from harness.models.ops import philox
from harness.suites.corruptions import blur, linear

SEVERITIES = range(1, 6)
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
WIDE_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
LONG_MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))


def per_image(images: Tensor, function: Callable[[np.ndarray, int], np.ndarray]) -> Tensor:
    """Apply `function(x, i)`, x float64 (H, W, 3) in [0, 1], and truncate as published."""
    out = [function(u.permute(1, 2, 0).numpy() / 255.0, i) for i, u in enumerate(images)]
    levels = (255 * np.clip(np.stack(out), 0, 1)).astype(np.uint8)
    return torch.from_numpy(levels).permute(0, 3, 1, 2)


def different(a: Tensor, b: Tensor) -> tuple[int, float]:
    """Return how many levels a and b are apart at most, and in what share of the values.

    The last three pictures are flat: their sums are integers but for round-off, which truncation
    turns into levels. They do not count in the share.
    """
    apart = (a.int() - b.int()).abs()
    return int(apart.max()), float((apart[:9] > 0).double().mean())


def corrupted(kind: Any, images: Tensor, severity: int, **options: Any) -> Tensor:
    return kind(images, torch.arange(len(images)), 0, severity, **options)


def gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys_bit_for_bit(severity: int, pictures: Tensor) -> None:
    for constants, sigmas in (
        ("cifar10_c", (0.4, 0.6, 0.7, 0.8, 1)),
        ("imagenet_c", (1, 2, 3, 4, 6)),
    ):
        expected = per_image(pictures, lambda x, i: gaussian(x, sigmas[severity - 1]))  # noqa: B023
        assert torch.equal(
            corrupted(blur.gaussian_blur, pictures, severity, constants=constants), expected
        )


def reference_disk(radius: float, sd: float) -> np.ndarray:
    reach, ksize = (8, (3, 3)) if radius <= 8 else (int(radius), (5, 5))
    x, y = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    disk = np.float32(x**2 + y**2 <= radius**2)
    return cv2.GaussianBlur(disk / disk.sum(), ksize=ksize, sigmaX=sd)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "constants, disks",
    [
        ("cifar10_c", ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
        ("imagenet_c", ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    ],
)
def test_defocus_blur_is_opencvs(
    constants: str, disks: Any, exact: bool, severity: int, pictures: Tensor
) -> None:
    kernel = reference_disk(*disks[severity - 1])

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        return np.stack([cv2.filter2D(x[:, :, c].copy(), -1, kernel) for c in range(3)], -1)

    answer = corrupted(blur.defocus_blur, pictures, severity, constants=constants, exact=exact)
    apart, share = different(answer, per_image(pictures, reference))
    assert apart <= 1 and share <= (0 if constants == "cifar10_c" else 0.05)


def test_the_kernels_of_small_disks_are_the_published_weights() -> None:
    for radius, sd, outer in ((0.3, 0.4, 0.040388), (0.4, 0.5, 0.106507), (0.5, 0.6, 0.166379)):
        weights = np.array([outer, 1 - 2 * outer, outer])
        np.testing.assert_allclose(linear.disk(radius, sd), np.outer(weights, weights), atol=2e-6)
    assert linear.disk(8, 0.5).sum() == pytest.approx(1.0130, abs=1e-4)


def reference_glass(x: np.ndarray, sigma: float, d: int, offsets: np.ndarray) -> np.ndarray:
    u = np.uint8(gaussian(x, sigma) * 255)
    height, width = x.shape[:2]
    for offset in offsets:  # (2, H - 2d, W - 2d), rows and columns d+1..H-d
        for h in range(height - d, d, -1):
            for w in range(width - d, d, -1):
                dy, dx = offset[:, h - d - 1, w - d - 1]
                u[h, w] = u[h + dy, w + dx]
    return gaussian(u / 255.0, sigma)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("constants, table", [("cifar10_c", GLASS), ("imagenet_c", WIDE_GLASS)])
def test_glass_blur_copies_as_published(
    constants: str, table: Any, severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sigma, d, passes = table[severity - 1]
    pictures = pictures[2:5]
    side = 32 - 2 * d
    offsets = np.random.default_rng(severity).integers(-d, d, (3, passes, 2, side, side))
    digits = offsets + d  # the leading ones of a fraction in base 2d, cut off at 32 bits
    fraction = digits[:, :, 0] * 2 * d + digits[:, :, 1]
    word = torch.from_numpy(-(-(fraction << 32) // (4 * d * d)))
    monkeypatch.setattr(philox, "words", lambda *args, **kwargs: word)
    expected = per_image(pictures, lambda x, i: reference_glass(x, sigma, d, offsets[i]))
    answer = corrupted(blur.glass_blur, pictures, severity, constants=constants)
    assert different(answer, expected)[0] == 0


def test_a_true_swap_would_be_another_glass_blur(pictures: Tensor) -> None:
    # A swap keeps every pixel; copying loses some.
    dy, dx = torch.randint(0, 2, (2, 1, 30, 30), generator=torch.Generator().manual_seed(0))
    assert len(blur.copies(dy, dx, 1, 32, 32).unique()) < 32 * 32


def reference_motion(
    u: np.ndarray, radius: int, sigma: float, degrees: float, stops: bool
) -> np.ndarray:
    height, width = u.shape[:2]
    k = 2 * radius + 1
    weights = np.exp(-(np.arange(k) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    out = np.zeros(u.shape)
    for i in range(k):
        dy = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        dx = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        if stops and (abs(dy) >= height or abs(dx) >= width):
            break
        rows = np.clip(np.arange(height) + dy, 0, height - 1)
        columns = np.clip(np.arange(width) + dx, 0, width - 1)
        out += weights[i] * u[rows][:, columns]
    return out


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("constants, table", [("cifar10_c", MOTION), ("imagenet_c", LONG_MOTION)])
def test_motion_blur_from_given_angles(
    constants: str, table: Any, severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    radius, sigma = table[severity - 1]
    u = torch.linspace(0, 0.999, len(pictures))
    monkeypatch.setattr(philox, "uniform", lambda *args, **kwargs: u)
    answer = corrupted(blur.motion_blur, pictures, severity, constants=constants)

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        angle = float(u[i] * 90 - 45)
        return reference_motion(x, radius, sigma, angle, constants == "imagenet_c")

    apart, share = different(answer, per_image(pictures, reference))
    assert apart <= 1 and share < 0.01


def reference_zoom(x: np.ndarray, factors: np.ndarray, centered: bool) -> np.ndarray:
    x = x.astype(np.float32)
    out = np.zeros_like(x)
    for z in factors:
        crop = math.ceil(32 / z)
        top = (32 - crop) // 2
        zoomed = ndimage.zoom(x[top : top + crop, top : top + crop], (z, z, 1), order=1)
        trim = (zoomed.shape[0] - 32) // 2 if centered else 0
        out += zoomed[trim : trim + 32, trim : trim + 32]
    return (x + out) / (len(factors) + 1)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "constants, ranges",
    [
        ("cifar10_c", ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))),
        ("imagenet_c", ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    ],
)
def test_zoom_blur_is_the_mean_of_scipys_zooms(
    constants: str, ranges: Any, severity: int, pictures: Tensor
) -> None:
    stop, step = ranges[severity - 1]
    factors = np.arange(1, stop, step)
    centered = constants == "cifar10_c"
    expected = per_image(pictures, lambda x, i: reference_zoom(x, factors, centered))
    exact = corrupted(blur.zoom_blur, pictures, severity, constants=constants, exact=True)
    assert torch.equal(exact, expected)
    apart, share = different(
        corrupted(blur.zoom_blur, pictures, severity, constants=constants), expected
    )
    assert apart <= 1 and share < 0.01


def test_the_number_of_zoom_factors_is_that_of_the_published_files() -> None:
    stops = (1.06, 1.11, 1.16, 1.21, 1.26)
    assert [len(np.arange(1, stop, 0.01)) for stop in stops] == [7, 12, 16, 21, 26]
