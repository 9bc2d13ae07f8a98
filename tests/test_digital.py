import io
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, features
from scipy import ndimage
from skimage import color
from torch import Tensor

from harness.models.ops import philox
from harness.suites.corruptions import digital, jpeg

SEVERITIES = range(1, 6)
SHARES = {"cifar10_c": (0.95, 0.9, 0.85, 0.75, 0.65), "imagenet_c": (0.6, 0.5, 0.4, 0.3, 0.25)}
ELASTIC = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))


def per_image(images: Tensor, function: Callable[[np.ndarray, int], np.ndarray]) -> Tensor:
    """Apply `function(x, i)`, x float64 (H, W, 3) in [0, 1], and truncate as published."""
    out = [function(u.permute(1, 2, 0).numpy() / 255.0, i) for i, u in enumerate(images)]
    levels = (255 * np.clip(np.stack(out), 0, 1)).astype(np.uint8)
    return torch.from_numpy(levels).permute(0, 3, 1, 2)


def by_pillow(images: Tensor, function: Callable[[Image.Image], Image.Image]) -> Tensor:
    out = [function(Image.fromarray(u.permute(1, 2, 0).numpy())) for u in images]
    return torch.from_numpy(np.stack([np.asarray(u) for u in out])).permute(0, 3, 1, 2)


def levels_apart(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


def corrupted(kind: Any, images: Tensor, severity: int, **options: Any) -> Tensor:
    return kind(images, torch.arange(len(images)), 0, severity, **options)


def grained(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_keeps_the_mean_and_shrinks_the_rest(severity: int, pictures: Tensor) -> None:
    for constants, table in (
        ("cifar10_c", (0.75, 0.5, 0.4, 0.3, 0.15)),
        ("imagenet_c", (0.4, 0.3, 0.2, 0.1, 0.05)),
    ):
        c = table[severity - 1]

        def reference(x: np.ndarray, i: int) -> np.ndarray:
            mean = np.cumsum(x.reshape(-1, 3), 0)[-1] / 1024  # one value after the other
            return (x - mean) * c + mean  # noqa: B023

        answer = corrupted(digital.contrast, pictures, severity, constants=constants)
        assert torch.equal(answer, per_image(pictures, reference))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_is_scikit_images_bit_for_bit(severity: int, pictures: Tensor) -> None:
    for constants, table in (
        ("cifar10_c", ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
        ("imagenet_c", ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    ):
        a, b = table[severity - 1]

        def reference(x: np.ndarray, i: int) -> np.ndarray:
            hsv = color.rgb2hsv(x)
            hsv[..., 1] = np.clip(hsv[..., 1] * a + b, 0, 1)  # noqa: B023
            return color.hsv2rgb(hsv)

        answer = corrupted(digital.saturate, pictures, severity, constants=constants)
        assert torch.equal(answer, per_image(pictures, reference))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 64), (224, 224)])
@pytest.mark.parametrize("constants", SHARES)
def test_pixelate_is_pillows(constants: str, size: tuple[int, int]) -> None:
    images = grained(*size)
    for severity in SEVERITIES:
        share = SHARES[constants][severity - 1]

        def reference(image: Image.Image) -> Image.Image:
            small = (int(image.width * share), int(image.height * share))  # noqa: B023
            shrunk = image.resize(small, Image.Resampling.BOX)
            box, nearest = Image.Resampling.BOX, Image.Resampling.NEAREST
            return shrunk.resize(image.size, box if constants == "cifar10_c" else nearest)

        answer = corrupted(digital.pixelate, images, severity, constants=constants)
        assert torch.equal(answer, by_pillow(images, reference))


def there_and_back(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.skipif(not features.check("libjpeg_turbo"), reason="Pillow has another codec")
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 56), (39, 55), (224, 224)])
def test_the_integers_of_libjpeg_turbo_are_pillows_bytes(size: tuple[int, int]) -> None:
    images = grained(*size)
    for quality in (7, 15, 25, 50, 80, 100):
        expected = by_pillow(images, lambda image: there_and_back(image, quality))  # noqa: B023
        assert torch.equal(jpeg.roundtrip(images, quality, "libjpeg-turbo"), expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 64), (224, 41)])
@pytest.mark.parametrize("codec", ["libjpeg", "libjpeg-turbo"])
def test_loops_and_products_of_matrices_give_the_same_bytes(
    codec: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    extreme = 255 * torch.randint(0, 2, (2, 3, *size), generator=generator).byte()
    images = torch.cat([grained(*size), extreme])
    by_loops = [jpeg.roundtrip(images, quality, codec) for quality in (1, 7, 58, 100)]
    pixels = [corrupted(digital.pixelate, images, k, constants="imagenet_c") for k in SEVERITIES]
    monkeypatch.setenv("HARNESS_OPS", "reference")
    for quality, found in zip((1, 7, 58, 100), by_loops, strict=True):
        assert torch.equal(found, jpeg.roundtrip(images, quality, codec))
    for k, found in zip(SEVERITIES, pixels, strict=True):
        assert torch.equal(found, corrupted(digital.pixelate, images, k, constants="imagenet_c"))


def test_the_transforms_are_cosines() -> None:
    for size, matrices in (
        (8, jpeg._dct8()),
        (16, jpeg._dct16()),
    ):
        k, j = torch.arange(8.0)[:, None], torch.arange(float(size))
        cosines = math.sqrt(2) * torch.cos(k * (2 * j + 1) * math.pi / (2 * size))
        cosines[0] = 1
        for matrix in (matrices[0], matrices[1].T):
            torch.testing.assert_close(torch.from_numpy(matrix) / 2**13, cosines, rtol=0, atol=2e-4)


def test_the_two_codecs_differ_in_their_chroma_alone(pictures: Tensor) -> None:
    a, b = (jpeg.roundtrip(pictures, 58, codec) for codec in ("libjpeg", "libjpeg-turbo"))
    assert (a != b).double().mean() > 0.1
    gray = pictures[:, :1].expand(-1, 3, -1, -1).contiguous()  # no chroma, no difference
    same = [jpeg.roundtrip(gray, 58, codec) for codec in ("libjpeg", "libjpeg-turbo")]
    assert torch.equal(*same)
    assert digital.codec("cifar10_c") == "IJG libjpeg 9"


def bilinear(x: np.ndarray, row: np.ndarray, column: np.ndarray, mode: str) -> np.ndarray:
    return np.stack(
        [
            ndimage.map_coordinates(x[..., c], [row, column], order=1, mode=mode)
            for c in range(x.shape[2])
        ],
        -1,
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_from_given_draws(
    severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, sigma, jitter = ELASTIC[severity - 1]
    n = len(pictures)
    generator = torch.Generator().manual_seed(severity)
    moves = torch.rand((n, 3, 2), generator=generator)
    fields = torch.rand((n, 2, 32, 32), generator=generator)

    def uniform(shape: Any, *args: Any, draw: int = 0) -> Tensor:
        return (fields if draw else moves).clone()

    monkeypatch.setattr(philox, "uniform", uniform)
    rows, columns = np.mgrid[:32, :32]

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        before = np.array([[26, 26], [26, 6], [6, 6]], np.float32)
        after = before + np.float32(jitter * (2 * moves[i].numpy() - 1))
        matrix = cv2.invertAffineTransform(cv2.getAffineTransform(before, after))
        source = [
            (
                np.rint(1024 * a * columns).astype(int)
                + np.rint(1024 * (b * rows + c)).astype(int)
                + 16
                >> 5
            )
            / 32
            for a, b, c in matrix
        ]
        x = bilinear(x.astype(np.float32), source[1], source[0], "mirror")
        if not alpha:
            return x
        dx, dy = (
            alpha
            * ndimage.gaussian_filter(
                2 * field.double().numpy() - 1, sigma, mode="reflect", truncate=3
            )
            for field in fields[i]
        )
        return bilinear(x, rows + dy, columns + dx, "reflect")

    answer = corrupted(digital.elastic_transform, pictures, severity).int()
    apart = (answer - per_image(pictures, reference).int()).abs()
    # A source at a tie of its 1/32 pixel may go either way.
    assert (apart > 1).double().mean() < 1e-3 and (apart[:9] > 0).double().mean() < 0.01
