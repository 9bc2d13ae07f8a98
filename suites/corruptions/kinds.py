"""A corruption by its name, or from a user's file."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from harness.models.user_code import adopt
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions.contract import Corruption, users_corruption, usual_constants
from harness.suites.corruptions.layouts import as_batch, as_indices, content_keys, whole_number

Images = TypeVar("Images", Tensor, np.ndarray)


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
    images: Images,
    name: str,
    severity: int,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    constants: str = "auto",
    exact: bool = False,
) -> Images:
    """Return corrupted images, of the same kind and shape as those given.

    Args:
        images: Tensor or NumPy array, uint8, (N, 3, H, W) or (N, H, W, 3), or one image without N;
            H and W at least 32, on any device.
        name: One of the names in `CORRUPTIONS`, or path/to/file.py:NAME.
        severity: 1 to 5.
        seed: Seed of all random draws.
        indices: (N,) whole numbers that key the random draws: an image is corrupted the same way
            under the same index, in any batch. `harness run` takes the images' positions in their
            data set. None takes a hash of each image's pixels: equal images get equal draws.
        constants: "cifar10_c" or "imagenet_c", the set of severity constants; "auto" takes the
            first where the smaller side is at most 64 pixels, as `harness run` does.
        exact: Follow the reference in every rounding, at any cost, where nothing is drawn.

    Raises:
        LookupError: There is no such corruption or set of constants.
        ValueError: The images, the indices, the severity or the seed are no such thing.
    """
    kind, seed = corruption_of(name), whole_number(seed)
    if type(seed) is not int:
        raise ValueError(f"`seed` must be a whole number; got {seed!r}.")
    batch, restore = as_batch(images)
    keys = content_keys(batch) if indices is None else as_indices(indices)
    if constants == "auto":
        constants = usual_constants(min(batch.shape[2:]))
    return restore(kind(batch, keys, seed, severity, constants, exact))
