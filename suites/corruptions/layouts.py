"""Images as other projects hold them, in and out: one or many, of NumPy or PyTorch."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_batch(images: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Return images as a tensor (N, 3, H, W), and what turns such a tensor into what was given.

    Args:
        images: Array or tensor (N, 3, H, W) or (N, H, W, 3), or one image without N; uint8.

    Raises:
        ValueError: They are no such thing.
    """
    if not isinstance(images, np.ndarray | Tensor):
        raise ValueError(
            f"`images` must be a NumPy array or a PyTorch tensor; got {type(images).__name__}. "
            "Give `np.asarray(image)` of one image, `np.stack(images)` of several."
        )
    if images.dtype not in (np.uint8, torch.uint8):
        raise ValueError(
            f"`images` must be uint8 in 0..255; got {images.dtype}. Give images in [0, 1] as 255 * "
            "images, rounded to uint8."
        )
    shape = tuple(images.shape)
    one = len(shape) == 3
    n, *rest = (1, *shape) if one else shape
    last = len(rest) == 3 and rest[0] != 3 and rest[2] == 3
    if len(rest) != 3 or not (last or rest[0] == 3):
        raise ValueError(
            f"`images` must have shape (N, 3, H, W) or (N, H, W, 3), or that of one image; got "
            f"{shape}. Expand gray images to three equal channels, and leave out transparency."
        )
    batch = images if isinstance(images, Tensor) else torch.from_numpy(images.copy(order="C"))
    batch = batch.reshape(n, *rest)
    batch = batch.permute(0, 3, 1, 2) if last else batch

    def restore(changed: Tensor) -> Any:
        changed = changed.permute(0, 2, 3, 1) if last else changed
        changed = changed.reshape(shape)
        return changed if isinstance(images, Tensor) else changed.numpy()

    return batch.contiguous(), restore


def content_keys(images: Tensor) -> Tensor:
    """Return a number in 0..2^63-1 for each image (N, 3, H, W) uint8, a hash of its pixels."""
    shape = repr(tuple(images.shape[1:])).encode()
    keys = [
        int.from_bytes(hashlib.blake2b(shape + image.tobytes(), digest_size=8).digest(), "little")
        for image in images.cpu().contiguous().numpy()
    ]
    return torch.tensor([key >> 1 for key in keys], dtype=torch.int64, device=images.device)


def as_indices(indices: Any) -> Tensor:
    """Return whole numbers of any kind as int64 (N,); what is something else stays, to be refused.

    A single number is taken for the index of a single image.
    """
    found = torch.as_tensor(indices)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        return found
    return found.to(torch.int64).reshape(-1) if found.ndim == 0 else found.to(torch.int64)


def whole_number(value: Any) -> Any:
    """Return 3 for 3.0, and for a 3 of NumPy or PyTorch; another value as it is, to be refused."""
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain
