"""Pillow's own code on a batch on the CPU, image by image.

It makes the same bytes as our batched integer arithmetic, which other devices and other codecs
need, and is faster on images that are not small.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.suites.corruptions.contract import SMALL


def is_faster(images: Tensor) -> bool:
    """Return whether Pillow is faster than batched arithmetic on images (N, 3, H, W)."""
    return images.device.type == "cpu" and min(images.shape[2:]) > SMALL


def joined(planes: np.ndarray) -> Image.Image:
    """Return uint8 planes (3, H, W) as an image.

    Pillow joins and cuts bands in a fraction of the time in which NumPy turns the axes.
    """
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


def shrunk(images: Tensor, height: int, width: int) -> np.ndarray:
    """Return images (N, 3, H, W) as means of whole pixels, uint8 (N, 3, height, width)."""
    out = np.empty((len(images), 3, height, width), np.uint8)
    for planes, result in zip(images.numpy(), out, strict=True):
        split(joined(planes).resize((width, height), Image.Resampling.BOX), result)
    return out


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Return images (N, 3, H, W) as they come back from JPEG files."""
    out = np.empty(images.shape, np.uint8)
    for planes, result in zip(images.numpy(), out, strict=True):
        file = io.BytesIO()
        joined(planes).save(file, "JPEG", quality=quality)
        split(Image.open(file, formats=["JPEG"]), result)
    return torch.from_numpy(out)


def split(image: Image.Image, planes: np.ndarray) -> None:
    """Write an image into uint8 planes (3, H, W)."""
    for band, plane in zip(image.split(), planes, strict=True):
        plane[...] = band
