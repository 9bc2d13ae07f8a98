import math
from collections.abc import Callable
from importlib import resources
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import color
from torch import Tensor

from harness.models.ops import philox
from harness.suites.corruptions import textures, weather

SEVERITIES = range(1, 6)
SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, 0),
    (0.65, 0.1, 0.8, 0.7, 0.5, 0),
    (0.65, 0.3, 1, 0.69, 0.5, 0),
    (0.65, 0.1, 0.7, 0.69, 0.6, 1),
    (0.65, 0.1, 0.5, 0.68, 0.6, 1),
)


def per_image(images: Tensor, function: Callable[[np.ndarray, int], np.ndarray]) -> Tensor:
    """Apply `function(x, i)`, x float64 (H, W, 3) in [0, 1], and truncate as published."""
    out = [function(u.permute(1, 2, 0).numpy() / 255.0, i) for i, u in enumerate(images)]
    levels = (255 * np.clip(np.stack(out), 0, 1)).astype(np.uint8)
    return torch.from_numpy(levels).permute(0, 3, 1, 2)


def levels_apart(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


def corrupted(kind: Any, images: Tensor, severity: int, **options: Any) -> Tensor:
    return kind(images, torch.arange(len(images)), 0, severity, **options)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_is_scikit_images_bit_for_bit(severity: int, pictures: Tensor) -> None:
    for constants, table in (
        ("cifar10_c", (0.05, 0.1, 0.15, 0.2, 0.3)),
        ("imagenet_c", (0.1, 0.2, 0.3, 0.4, 0.5)),
    ):

        def reference(x: np.ndarray, i: int) -> np.ndarray:
            hsv = color.rgb2hsv(x)
            hsv[..., 2] = np.clip(hsv[..., 2] + table[severity - 1], 0, 1)  # noqa: B023
            return color.hsv2rgb(hsv)

        answer = corrupted(weather.brightness, pictures, severity, constants=constants)
        assert torch.equal(answer, per_image(pictures, reference))


def blown(layer: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    out = np.zeros(layer.shape)
    for i, weight in enumerate(weights / weights.sum()):
        dy = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        dx = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        rows = np.clip(np.arange(32) + dy, 0, 31)
        out += weight * layer[rows][:, np.clip(np.arange(32) + dx, 0, 31)]
    return out


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_from_given_draws(
    severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean, sd, z, threshold, radius, sigma, k = SNOW[severity - 1]
    n = len(pictures)
    field = torch.randn((n, 1, 32, 32), generator=torch.Generator().manual_seed(severity))
    turn = torch.linspace(0, 0.999, n)
    monkeypatch.setattr(philox, "normal", lambda *args, **kwargs: field.clone())
    monkeypatch.setattr(philox, "uniform", lambda *args, **kwargs: turn)

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        layer = mean + sd * field[i, 0].double().numpy()
        crop = math.ceil(32 / z)
        top = (32 - crop) // 2
        layer = ndimage.zoom(layer[top : top + crop, top : top + crop], z, order=1)
        trim = (len(layer) - 32) // 2
        layer = layer[trim : trim + 32, trim : trim + 32]
        layer[layer < threshold] = 0
        layer = np.uint8(255 * np.clip(layer, 0, 1)).astype(float)
        layer = np.floor(blown(layer, radius, sigma, float(turn[i] * 90 - 135)) + 1e-9)[..., None]
        layer /= 255
        gray = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
        x = k * x + (1 - k) * np.maximum(x, gray * 1.5 + 0.5)
        return x + layer + np.rot90(layer, k=2)

    answer = corrupted(weather.snow, pictures, severity)
    # A layer that is a whole number but for float32 round-off may be cut off a level lower, twice.
    assert levels_apart(answer, per_image(pictures, reference)) <= 2
    share = (answer != per_image(pictures, reference)).double().mean()
    assert share < 0.02


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_from_given_draws(
    severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, q = FROST[severity - 1]
    word = torch.randint(0, 2**32, (len(pictures), 3), generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(philox, "words", lambda *args, **kwargs: word)

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        name = list(textures.FILES)[int(word[i, 0]) * 5 >> 32]
        with resources.as_file(resources.files("imagecorruptions") / "frost" / name) as path:
            texture = cv2.resize(cv2.imread(str(path)), (0, 0), fx=0.2, fy=0.2)
        top = int(word[i, 1]) * (texture.shape[0] - 32) >> 32
        left = int(word[i, 2]) * (texture.shape[1] - 32) >> 32
        crop = texture[top : top + 32, left : left + 32, [2, 1, 0]]
        return np.clip(p * np.round(255 * x) + q * crop, 0, 255) / 255

    answer = corrupted(weather.frost, pictures, severity)
    assert levels_apart(answer, per_image(pictures, reference)) <= 1


def reference_plasma(u: np.ndarray, side: int, decay: float) -> np.ndarray:
    a = np.zeros((side, side))
    draws = iter(u)
    step, w = side, 100.0
    while step >= 2:
        h = step // 2
        corners = [(0, 0), (0, step), (step, 0), (step, step)]
        ends = {"across": [(0, 0), (0, step), (-h, h), (h, h)]}
        ends["upright"] = [(0, 0), (step, 0), (h, -h), (h, h)]
        for shift, near in (
            ((h, h), corners),
            ((0, h), ends["across"]),
            ((h, 0), ends["upright"]),
        ):
            for y in range(0, side, step):
                for x in range(0, side, step):
                    mean = sum(a[(y + dy) % side, (x + dx) % side] for dy, dx in near) / 4
                    kick = w * w * (2 * next(draws) - 1)
                    a[y + shift[0], x + shift[1]] = mean + kick
        step, w = h, w / decay
    return (a - a.min()) / (a.max() - a.min())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_from_given_draws(
    severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, decay = FOG[severity - 1]
    pictures = pictures[[0, 4, 9, 10]]
    u = torch.rand((4, 1023), generator=torch.Generator().manual_seed(severity))
    monkeypatch.setattr(philox, "uniform", lambda *args, **kwargs: u.clone())

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        plasma = reference_plasma(u[i].double().numpy(), 32, decay)
        return (x + c * plasma[..., None]) * x.max() / (x.max() + c)

    answer = corrupted(weather.fog, pictures, severity)
    assert levels_apart(answer, per_image(pictures, reference)) <= 1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_is_opencvs(
    severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean, sd, sigma, threshold, k, mud = SPATTER[severity - 1]
    field = torch.randn((12, 32, 32), generator=torch.Generator().manual_seed(severity))
    monkeypatch.setattr(philox, "normal", lambda *args, **kwargs: field.clone())

    def reference(x: np.ndarray, i: int) -> np.ndarray:
        layer = mean + sd * field[i].double().numpy()
        layer = ndimage.gaussian_filter(layer, sigma, mode="nearest", truncate=4)
        if mud:
            m = ndimage.gaussian_filter(1.0 * (layer > threshold), k, mode="nearest", truncate=4)
            m = np.where(m < 0.8, 0, m)[..., None]
            return x * (1 - m) + m * np.array([63, 42, 20]) / 255
        layer[layer < threshold] = 0
        layer = (layer * 255).astype(np.uint8)
        distance = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
        distance = np.minimum(distance, 20)
        distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
        kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        distance = cv2.blur(cv2.filter2D(distance, cv2.CV_8U, kernel), (3, 3)).astype(np.float32)
        m = layer * distance
        m = k * m / max(m.max(), 1)
        return x + m[..., None] * np.array([175, 238, 238]) / 255

    answer = corrupted(weather.spatter, pictures, severity)
    assert levels_apart(answer, per_image(pictures, reference)) <= 1


def test_the_textures_are_five_and_as_published() -> None:
    flat, table = textures.frost(32, 32, "cifar10_c", torch.device("cpu"))
    sizes = [(120, 180), (63, 112), (63, 112), (70, 105), (99, 132)]
    assert [(int(h), int(w)) for _, h, w in table] == sizes
    assert flat.shape == (3, sum(h * w for h, w in sizes))


def test_enlarged_textures_are_opencvs() -> None:
    for name in ("frost4.jpg", "frost2.png"):
        with resources.as_file(resources.files("imagecorruptions") / "frost" / name) as path:
            texture = cv2.imread(str(path))[..., ::-1].copy()
        h, w = texture.shape[:2]
        size = (math.ceil(w * 1.1), math.ceil(h * 1.1))
        expected = cv2.resize(texture, size, interpolation=cv2.INTER_CUBIC)
        answer = textures._enlarge(textures._decode(name), 32, 32)
        apart = np.abs(answer.astype(int) - expected)
        assert apart.max() <= 1 and (apart > 0).mean() < 0.06


def test_a_texture_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    textures._decode.cache_clear()
    monkeypatch.setitem(textures.FILES, "frost1.png", "0" * 32)
    with pytest.raises(ValueError, match="frost1.png.* has MD5 6ead.*Run `pip install"):
        textures._decode("frost1.png")
    monkeypatch.setitem(textures.FILES, "frost7.png", "0" * 32)
    with pytest.raises(FileNotFoundError, match="frost7.png` is missing.*Run `pip install"):
        textures._decode("frost7.png")
