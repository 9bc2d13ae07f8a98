"""The corruptions by group, in the order used everywhere, and a call by name."""

import torch
from torch import Tensor

from models.registry import unknown
from suites.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from suites.corruptions.contract import Corruption
from suites.corruptions.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
    saturate,
)
from suites.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from suites.corruptions.weather import brightness, fog, frost, snow, spatter

NOISE: tuple[Corruption, ...] = (gaussian_noise, shot_noise, impulse_noise)
BLUR: tuple[Corruption, ...] = (defocus_blur, glass_blur, motion_blur, zoom_blur)
WEATHER: tuple[Corruption, ...] = (snow, frost, fog, brightness)
DIGITAL: tuple[Corruption, ...] = (
    contrast,
    elastic_transform,
    pixelate,
    jpeg_compression,
)
# Never in a headline mean:
VALIDATION: tuple[Corruption, ...] = (speckle_noise, gaussian_blur, spatter, saturate)
COMMON: tuple[Corruption, ...] = NOISE + BLUR + WEATHER + DIGITAL
CORRUPTIONS: tuple[Corruption, ...] = COMMON + VALIDATION


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    seed: int = 0,
    indices: Tensor | None = None,
    constants: str = "cifar10_c",
    exact: bool = False,
) -> Tensor:
    """Return corrupted images, uint8 (N, 3, H, W), for images of the same kind.

    Args:
        images: H and W at least 32, on any device.
        name: One of the names in `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of all draws.
        indices: (N,) int64, the images' positions in their data set, which key the draws; by
            default 0..N-1.
        constants: "cifar10_c" or "imagenet_c", the set of severity constants.
        exact: Follow the reference in every rounding, at any cost, where nothing is drawn.

    Raises:
        LookupError: There is no such corruption or set of constants.
        ValueError: The images, the indices or the severity are no such thing.
    """
    kinds = {kind.__name__: kind for kind in CORRUPTIONS}
    if name not in kinds:
        raise unknown("corruption", name, kinds)
    if indices is None:
        indices = torch.arange(len(images), device=images.device)
    return kinds[name](images, indices, seed, severity, constants, exact)
