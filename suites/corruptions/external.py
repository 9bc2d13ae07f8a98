"""The package imagecorruptions itself, image by image: something to check our own against.

It has the constants of imagenet_c alone, all six textures of frost, and the JPEG codec of the
installed Pillow. It draws from NumPy's global generator, which is seeded anew for each image and
put back afterwards, so a row depends on its index as in ours; the images are others.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
from torch import Tensor

from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions.contract import Corruption, check
from harness.suites.corruptions.layouts import whole_number

DISTRIBUTION = "imagecorruptions-imaug"


def version() -> str:
    """Return the package's name and version, for a result's provenance."""
    return f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}"


def external(kind: Corruption) -> Corruption:
    """Return the package's corruption of the same name, with the arguments of `kind`.

    Two of its functions draw from generators of their own; they are handed a seed, as they offer.
    Any other set of constants than imagenet_c is refused.
    """
    name = kind.__name__
    if name not in CORRUPTIONS or CORRUPTIONS.sha256(name):
        raise ValueError(
            f"The package imagecorruptions has no `{name}`. Leave out `--corruption-source`."
        )

    @functools.wraps(kind)
    def corrupted(
        images: Tensor,
        indices: Tensor,
        seed: int,
        severity: int,
        constants: str = "imagenet_c",
        exact: bool = False,
    ) -> Tensor:
        severity = whole_number(severity)
        check(images, indices, severity, constants)
        if constants != "imagenet_c":
            raise ValueError(
                f"The package imagecorruptions has no constants of `{constants}`. "
                'Choose "imagenet_c", or our own corruptions.'
            )
        corrupt, seeded = _package(name)
        rows = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        out = np.empty_like(rows)
        state = np.random.get_state()  # noqa: NPY002  the package draws from NumPy's own
        try:
            for i, index in enumerate(indices.tolist()):
                text = f"{seed}:{name}:{severity}:{index}".encode()
                own = int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
                np.random.seed(own)  # noqa: NPY002
                options = {"seed": own} if seeded else {}
                out[i] = corrupt(rows[i], severity=severity, corruption_name=name, **options)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().to(images.device)

    return corrupted


@functools.cache
def _package(name: str) -> tuple[Callable[..., np.ndarray], bool]:
    # A second of import (OpenCV, numba, scikit-image) that only this check should pay.
    import imagecorruptions

    function = imagecorruptions.corruption_dict[name]
    return imagecorruptions.corrupt, "seed" in inspect.signature(function).parameters
