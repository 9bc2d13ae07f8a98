"""What a corruption promises: its arguments, their checks, and how a batch is worked through.

A corruption is a function `(images, indices, seed, severity, constants="cifar10_c", exact=False)`,
uint8 (N, 3, H, W) in and out, on any device. Row i of the result depends on `images[i]` and
`indices[i]` alone beside the arguments that all rows share, so a batch may be split anywhere. It is
split, into blocks that fit a core's cache.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from harness.models.ops import loops
from harness.models.registry import unknown
from harness.suites.corruptions.layouts import whole_number

Corruption = Callable[..., Tensor]
Body = Callable[[Tensor, Tensor, int, int, str, bool], Tensor]
T = TypeVar("T")

CONSTANTS = ("cifar10_c", "imagenet_c")  # the sets of severity constants
SMALL = 64  # pixels, the largest image that gets the constants of CIFAR-10-C by default
MIN_SIZE = 32  # pixels; below it the blurs of imagenet_c are wider than the image
CACHED = 64 << 10  # pixels in a block of work on the CPU
RESIDENT = 1 << 21  # the same on other devices


def corruption(body: Body, by_image: bool = False) -> Corruption:
    """Put the checks and the blocks in front of `body`, under its name.

    Args:
        by_image: Whether `body` takes images that are not small one by one, so that large blocks
            cost no time on a CPU either.
    """

    @functools.wraps(body)
    def corrupted(
        images: Tensor,
        indices: Tensor,
        seed: int,
        severity: int,
        constants: str = "cifar10_c",
        exact: bool = False,
    ) -> Tensor:
        severity = whole_number(severity)
        check(images, indices, severity, constants)
        if images.device.type == "mps":  # it has no float64
            cpu = corrupted(images.cpu(), indices.cpu(), seed, severity, constants, exact)
            return cpu.to(images.device)
        images, indices = images.contiguous(), indices.to(images.device)
        on_cpu = images.device.type == "cpu"
        if on_cpu:
            keep_large_blocks()
        one_by_one = by_image and min(images.shape[2:]) > SMALL
        pixels = CACHED if on_cpu and not one_by_one else RESIDENT
        rows = max(1, pixels // (images.shape[2] * images.shape[3]))
        out = torch.empty_like(images)
        with torch.no_grad():
            for start in range(0, len(images), rows):
                block = slice(start, start + rows)
                out[block] = body(images[block], indices[block], seed, severity, constants, exact)
        return out

    return corrupted


def users_corruption(function: Callable[..., Tensor], name: str) -> Corruption:
    """Return a user's function (images, indices, seed, severity) as a corruption, with checks.

    Args:
        function: Function that may take `constants` and `exact` too.

    Raises:
        ValueError: It takes other arguments, gives no images, or a row depends on other rows.
    """
    takes = inspect.signature(function).parameters
    missing = [k for k in ("images", "indices", "seed", "severity") if k not in takes]
    if missing:
        raise ValueError(
            f"The corruption `{name}` takes no `{missing[0]}`. "
            "Define it as (images, indices, seed, severity)."
        )

    def corrupted(
        images: Tensor,
        indices: Tensor,
        seed: int,
        severity: int,
        constants: str = "cifar10_c",
        exact: bool = False,
    ) -> Tensor:
        severity = whole_number(severity)
        check(images, indices, severity, constants)
        given = {"images": images, "indices": indices, "seed": seed, "severity": severity}
        options = {"constants": constants, "exact": exact}
        with torch.no_grad():
            out = function(**given, **{k: v for k, v in options.items() if k in takes})
        if not isinstance(out, Tensor) or (out.dtype, out.shape) != (torch.uint8, images.shape):
            got = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out)
            raise ValueError(
                f"The corruption `{name}` must return uint8 images {tuple(images.shape)}, as it "
                f"gets them; got {got}."
            )
        return out

    corrupted.__name__, corrupted.__doc__ = name, function.__doc__
    corrupted.function = function  # type: ignore[attr-defined]
    indices, k = torch.arange(3), torch.arange(3).view(3, 1, 1, 1)
    pixels = (torch.arange(3 * 3 * 32 * 32) * 2654435761 % 251).view(3, 3, 32, 32)
    images = (pixels // (3 - k) + 3 * (k == 1)).byte()  # each of a range of its own
    together, alone = corrupted(images, indices, 0, 1), corrupted(images[1:2], indices[1:2], 0, 1)
    if not torch.equal(alone, together[1:2]):
        raise ValueError(
            f"The corruption `{name}` changes an image otherwise when it is alone. Row i may "
            "depend on images[i], indices[i], seed and severity alone; the draws of "
            "`harness.models.ops.philox` do."
        )
    return corrupted


@functools.cache
def keep_large_blocks() -> None:
    """Let the allocator keep its memory between blocks of work, for this process; costs nothing.

    The C library of Linux hands a block back to the system if it is larger than every block that
    was freed before, and gets it back zeroed, page by page: half of the time of a corruption. One
    block freed at its limit of 32 MiB, never touched, ends that.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def check(images: Tensor, indices: Tensor, severity: int, constants: str) -> None:
    """Refuse what no corruption can work on.

    Raises:
        ValueError: Says what is wrong, and the cure.
        LookupError: There is no such set of constants.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"`images` must have shape (N, 3, H, W); got {tuple(images.shape)}. "
            "Put the channels first; expand gray images to three equal channels."
        )
    if images.dtype != torch.uint8:
        raise ValueError(
            f"`images` must be uint8 in 0..255; got {images.dtype}. "
            "Give images in [0, 1] as (255 * images).round().to(torch.uint8)."
        )
    if min(images.shape[2:]) < MIN_SIZE:
        raise ValueError(
            f"`images` must be at least {MIN_SIZE} pixels high and wide; got "
            f"{images.shape[2]} x {images.shape[3]}. Enlarge them first."
        )
    if indices.shape != images.shape[:1] or indices.dtype != torch.int64:
        raise ValueError(
            f"`indices` must be int64 of shape ({len(images)},); got {indices.dtype} of shape "
            f"{tuple(indices.shape)}. Give each image's position in its data set."
        )
    if type(severity) is not int or severity not in (1, 2, 3, 4, 5):
        raise ValueError(
            f"`severity` must be 1, 2, 3, 4 or 5; got {severity!r}. Clean is no level."
        )
    if constants not in CONSTANTS:
        raise unknown("set of severity constants", constants, CONSTANTS)


def has_loops(images: Tensor) -> bool:
    """Return whether compiled loops take images (..., H, W): on a CPU, if they are not small."""
    return images.device.type == "cpu" and min(images.shape[-2:]) > SMALL and loops.has_loops()


def usual_constants(side: int) -> str:
    """Return the set of constants of images of `side` pixels, where none is asked for."""
    return "cifar10_c" if side <= SMALL else "imagenet_c"


def pick(constants: str, severity: int, cifar10_c: tuple[T, ...], imagenet_c: tuple[T, ...]) -> T:
    """Return the constant of a severity, 1 to 5, from the set of that name."""
    return (cifar10_c if constants == "cifar10_c" else imagenet_c)[severity - 1]


def intensities(images: Tensor) -> Tensor:
    """Return images / 255 as float64, equal on every device."""
    # Division by a Python number is multiplication by its inverse on CUDA, an ulp away.
    divisor = torch.full((), 255.0, dtype=torch.float64, device=images.device)
    return images.to(torch.float64) / divisor


def product_type(device: torch.device) -> torch.dtype:
    """Return the type for products of matrices: float32 on a CPU, where it is twice as fast.

    Elsewhere float32 may be TF32 by somebody's setting, far too coarse; float64 never is.
    """
    return torch.float32 if device.type == "cpu" else torch.float64


def quantize(z: Tensor) -> Tensor:
    """Return trunc(255 clip(z, 0, 1)) as uint8; `z` is overwritten."""
    return z.clamp_(0, 1).mul_(255).to(torch.uint8)
