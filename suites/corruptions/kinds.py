"""A corruption by its name, or from a user's file."""

import torch
from torch import Tensor

from harness.models.user_code import adopt
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions.contract import Corruption, users_corruption


def corruption_of(spec: str) -> Corruption:
    """Return the corruption of a name, or the one that `path/to/file.py:NAME` names.

    Raises:
        LookupError: There is no such corruption.
        ValueError: A user's corruption does not keep the contract, or its name is taken.
    """
    name = adopt(spec, CORRUPTIONS)
    kind = CORRUPTIONS[name]
    return users_corruption(kind, name) if CORRUPTIONS.sha256(name) else kind


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
        name: One of the names in `CORRUPTIONS`, or path/to/file.py:NAME.
        severity: 1 to 5.
        seed: Seed of all random draws.
        indices: (N,) int64, the images' positions in their data set, which key the draws; by
            default 0..N-1.
        constants: "cifar10_c" or "imagenet_c", the set of severity constants.
        exact: Follow the reference in every rounding, at any cost, where nothing is drawn.

    Raises:
        LookupError: There is no such corruption or set of constants.
        ValueError: The images, the indices or the severity are no such thing.
    """
    kind = corruption_of(name)
    if indices is None:
        indices = torch.arange(len(images), device=images.device)
    return kind(images, indices, seed, severity, constants, exact)
