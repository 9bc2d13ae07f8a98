import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from harness.models.augmix import (
    OPERATIONS,
    augmix,
    autocontrast,
    equalize,
    posterize,
    rotate,
    shear_x,
    solarize,
    translate_x,
    translate_y,
)


def pictures(n: int = 6) -> torch.Tensor:
    """Smooth images with 256 levels, (n, 3, 32, 32)."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 6, 6, generator=g)
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def back(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255


@pytest.mark.parametrize(
    "operation, theirs, level",
    [
        (equalize, ImageOps.equalize, 0.2),
        (autocontrast, ImageOps.autocontrast, 0.2),
        (posterize, lambda i: ImageOps.posterize(i, 4 - int(4 * 0.3)), 0.3),
        (solarize, lambda i: ImageOps.solarize(i, 256 - int(256 * 0.3)), 0.3),
    ],
)
def test_colors_change_as_pillow_changes_them(operation: Any, theirs: Any, level: float) -> None:
    images = pictures()
    ours = operation(images, torch.full((6,), level), torch.ones(6))
    expected = torch.stack([back(theirs(pil(image))) for image in images])
    # Pillow truncates autocontrast to whole levels.
    assert (ours - expected).abs().max() <= 1.001 / 255


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rotation_is_by_whole_degrees_about_the_center(sign: float) -> None:
    images, level = pictures(), torch.full((6,), 0.25)
    ours = rotate(images, level, torch.full((6,), sign))
    expected = torch.stack(
        [back(pil(i).rotate(sign * int(30 * 0.25), Image.Resampling.BILINEAR)) for i in images]
    )
    inside = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    close = min((ours[inside] - e[inside]).abs().max() for e in (expected,))
    assert close < 2 / 255


def test_translations_are_by_whole_pixels() -> None:
    images, level = pictures(), torch.full((6,), 0.3)  # int(32 / 3 * 0.3) = 3 pixels
    right = translate_x(images, level, torch.full((6,), -1.0))
    torch.testing.assert_close(right[..., 3:], images[..., :-3], rtol=0, atol=1e-5)
    assert not right[..., :3].any()
    up = translate_y(images, level, torch.ones(6))
    torch.testing.assert_close(up[..., :-3, :], images[..., 3:, :], rtol=0, atol=1e-5)


def test_a_shear_keeps_the_middle_row() -> None:
    images = pictures()
    sheared = shear_x(images, torch.full((6,), 0.3), torch.ones(6))
    # The center lies between two rows, which move by 0.045 pixels in opposite directions.
    middle = sheared[..., 15:17, 1:-1].mean(-2) - images[..., 15:17, 1:-1].mean(-2)
    assert middle.abs().mean() < 2e-3
    assert (sheared[..., 0, :] - images[..., 0, :]).abs().mean() > 1e-2


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_operations_keep_the_range(operation: Any) -> None:
    images = torch.rand(20, 3, 32, 32)
    level = torch.linspace(0.01, 0.3, 20)
    out = operation(images, level, torch.ones(20))
    assert out.shape == images.shape and out.min() >= 0 and out.max() <= 1 + 1e-6


def test_chains_have_one_to_three_operations_drawn_with_replacement() -> None:
    # At the center of a white image only posterize and solarize, 2 of 9, change anything.
    images = torch.ones(4000, 3, 32, 32)
    mixed = augmix(images, torch.Generator().manual_seed(0))[:, 0, 16, 16]
    untouched = (sum((7 / 9) ** depth for depth in (1, 2, 3)) / 3) ** 3
    share = (mixed > 1 - 1e-6).double().mean()
    assert abs(share - untouched) < 4 * math.sqrt(untouched * (1 - untouched) / 4000)


def test_each_image_has_draws_of_its_own() -> None:
    images = pictures(1).expand(50, -1, -1, -1)
    mixed = augmix(images, torch.Generator().manual_seed(1))
    assert len({round(float(v), 5) for v in mixed.mean((1, 2, 3))}) > 45
    change = (mixed - images).abs().mean((1, 2, 3))
    assert 0.005 < change.mean() < 0.3 and math.isfinite(change.max())
