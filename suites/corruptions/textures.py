"""Photographs of frost, from the installed package imagecorruptions-imaug (Apache-2.0).

The published generator chooses among five of its six files; so does this. They are decoded once.
"""

import functools
import hashlib
import importlib.resources
import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FILES = {  # name to MD5 of the bytes
    "frost1.png": "6ead634ace1f366d77e87078b465863c",
    "frost2.png": "98f0d2b1d74a048d3bc9c7ecfd886939",
    "frost3.png": "b3ed8eb147824261888e730f916c0d8b",
    "frost4.jpg": "d70b9d6aa0b1fe7bd8133b113787e078",
    "frost5.jpg": "50984ae2c871b7df2c28f1d71ca460a0",
}
PACKAGE = "imagecorruptions"


@functools.cache
def frost(height: int, width: int, constants: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return all textures, flat, uint8 (3, sum of areas), and (5, 3) int64 offset, height, width.

    cifar10_c: shrunk to a fifth, by taking every fifth pixel. imagenet_c, and where a fifth would
    not hold a crop of the image's size: enlarged by 1.1 or more, cubic, as the package does.
    """
    textures = [_decode(name) for name in FILES]
    if constants == "cifar10_c":
        fifths = [t[2::5, 2::5][: round(len(t) / 5), : round(t.shape[1] / 5)] for t in textures]
    if constants == "cifar10_c" and all(
        h > height and w > width for h, w, _ in map(np.shape, fifths)
    ):
        textures = fifths
    else:
        textures = [_enlarge(t, height, width) for t in textures]
    offset, table = 0, []
    for t in textures:
        table.append((offset, *t.shape[:2]))
        offset += t.shape[0] * t.shape[1]
    flat = np.concatenate([t.reshape(-1, 3) for t in textures]).T
    return (
        torch.tensor(np.ascontiguousarray(flat), device=device),
        torch.tensor(table, device=device),
    )


@functools.cache
def _decode(name: str) -> np.ndarray:
    source = importlib.resources.files(PACKAGE) / "frost" / name
    try:
        data = source.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The texture `{name}` is missing from the package {PACKAGE}. "
            "Run `pip install --force-reinstall imagecorruptions-imaug`."
        ) from error
    found = hashlib.md5(data).hexdigest()
    if found != FILES[name]:
        raise ValueError(
            f"The texture `{name}` of the package {PACKAGE} has MD5 {found}, not {FILES[name]}. "
            "Run `pip install --force-reinstall imagecorruptions-imaug`."
        )
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _enlarge(texture: np.ndarray, height: int, width: int) -> np.ndarray:
    h, w = texture.shape[:2]
    factor = 1.1 * max(1, height / h, width / w)
    rows, columns = _cubic(h, math.ceil(h * factor)), _cubic(w, math.ceil(w * factor))
    channels = [rows @ texture[..., c].astype(np.float64) @ columns.T for c in range(3)]
    return np.clip(np.floor(np.stack(channels, -1) / 2**22 + 0.5), 0, 255).astype(np.uint8)


def _cubic(size: int, points: int) -> np.ndarray:
    """Return a resampling matrix (points, size) of integers, 2^11 times the weights.

    Keys's cubic with a = -3/4 at (i + 1/2) size / points - 1/2, the border repeated: OpenCV's.
    """
    a = -0.75
    at = (np.arange(points) + 0.5) * (size / points) - 0.5
    low = np.floor(at)
    t = at - low
    weights = [
        ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
    ]
    weights.append(1 - sum(weights))
    out = np.zeros((points, size))
    for k, weight in enumerate(weights):
        column = np.clip(low + k - 1, 0, size - 1).astype(int)
        np.add.at(out, (np.arange(points), column), np.rint(2048 * weight))
    return out
