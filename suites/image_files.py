"""One file of an image to a square of 8-bit colors, whatever its mode; or a sentence about it.

Palettes, CMYK and gray become RGB; transparent pixels show white; a photograph is turned as its
EXIF orientation says. Values of more than 8 bits are scaled by the range of the file's type: 16
bits from 0..65535, 12 bits from 0..4095, floating point from 0..1.

Only decoders of `FORMATS` see a file, whatever its name: others start programs, such as Ghostscript
for EPS, read other files, or are hardly ever used and so hardly ever tested.
"""

import contextlib
import functools
import logging
import os
import struct
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from harness.models.preprocessing import Framing
from harness.suites.file_kinds import describe_file

# What a decoder raises over bytes that are no such image.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    AttributeError,
    NotImplementedError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM", "TGA"),
    *("JPEG2000", "ICO", "PCX", "DDS"),
)
CURE = "Replace it by a whole image, such as a PNG or JPEG file, or move it out of the folder."
DEEP = ("I", "F")  # what the modes of more than 8 bits begin with
BITS, LOW_IS_WHITE, NUMBERS = 258, 262, 339  # tags of TIFF
ORIENTATION = 0x0112  # tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FRAMES = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")  # formats of which each frame may be an image
BLOCK = 1 << 20  # pixels
MOST_THREADS, AHEAD = 16, 8  # that read files; files that each reads ahead
NAMED = 3  # files of several that cannot be read

T = TypeVar("T")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # a sentence says it instead


class Unreadable(ValueError):
    """A file that is no image that can be read; says which, what it is, and the cure."""


@dataclass(frozen=True)
class Header:
    """What the header of an image's file says.

    Args:
        width, height: In pixels, before it is turned.
        white: Value of white, None for 8 bits.
    """

    width: int
    height: int
    white: float | None

    @property
    def side(self) -> int:
        """The smaller side."""
        return min(self.width, self.height)


def read_each(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    """Return what `read` returns of each file, or count those that cannot be read.

    Raises:
        Unreadable: Names the first, as `read` does, and how many others there are.
    """
    found: list[T] = []
    for_each(paths, read, lambda i, value: found.append(value))
    return found


def for_each(
    paths: Sequence[Path],
    read: Callable[[Path], T],
    take: Callable[[int, T], None],
    skip: Callable[[int, Unreadable], None] | None = None,
) -> None:
    """Hand what `read` returns of each file to `take`, with its place, in order.

    Files are read by several threads, some ahead of what is taken: decoders let others work.

    Args:
        skip: Called in place of `take` with a file that cannot be read; None refuses such files.

    Raises:
        Unreadable: As of `read_each`.
    """
    broken: list[tuple[Path, Unreadable]] = []
    workers = min(MOST_THREADS, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # of large photographs, and of odd metadata
        ahead = deque[Future[T]]()
        upcoming = iter(paths)
        for i, path in enumerate(paths):
            ahead.extend(
                pool.submit(read, one) for one in islice(upcoming, AHEAD * workers - len(ahead))
            )
            try:
                take(i, ahead.popleft().result())
            except Unreadable as error:
                if skip is not None:
                    skip(i, error)
                else:
                    broken.append((path, error))
    if not broken:
        return
    if len(broken) == 1:
        raise broken[0][1]
    others = ", ".join(str(path) for path, _ in broken[1 : 1 + NAMED])
    more = " and others" if len(broken) > 1 + NAMED else ""
    raise Unreadable(
        f"{broken[0][1]} {len(broken)} of {len(paths)} images cannot be read: also {others}{more}."
    )


def read_header(path: Path) -> Header:
    """Return what an image's header says, without its pixels.

    Raises:
        Unreadable: It is no image that can be read; names the file, what it is, and the cure.
    """
    with _opened(path) as image:
        return Header(*image.size, _white(image, path))


def read_extremes(path: Path) -> tuple[float, float]:
    """Return the least and the largest value of an image of more than 8 bits, but for transparency.

    Raises:
        Unreadable: As `read_header`; or a value is not a number.
    """
    with _opened(path) as image:
        deep = image.mode.startswith(DEEP)
        # Of 16 bits a color Pillow keeps the upper 8.
        values, scale = np.asarray(image if deep else image.convert("RGB")), 1 if deep else 257
    low, high = float(values.min()) * scale, float(values.max()) * scale
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unreadable(f"{path} has values that are not numbers. {CURE}")
    return low, high


def read_framed(path: Path, framing: Framing) -> np.ndarray:
    """Return an image as a square of `framing`, bit for bit as torchvision's transforms of Pillow.

    Returns:
        uint8 (size, size, 3).

    Raises:
        Unreadable: As `read_header`.
    """
    with _opened(path) as image:
        image.load()
        return frame(_in_colors(image, path), framing)


def frame(image: Image.Image, framing: Framing) -> np.ndarray:
    """Return an RGB image as a square, uint8 (size, size, 3)."""
    short = framing.short_side
    if framing.mode == "squash":
        size = [short, short]
    elif framing.mode == "border":
        ratio = max(image.size) / short
        size = [round(image.height / ratio), round(image.width / ratio)]
    else:
        size = [short]
    resized = F.resize(image, size, InterpolationMode(framing.interpolation))
    return np.array(F.center_crop(resized, [framing.size] * 2))


def _in_colors(image: Image.Image, path: Path) -> Image.Image:
    """A loaded image as RGB, upright, white where it is transparent."""
    if image.mode == "LAB":
        raise Unreadable(f"{path} has its colors as LAB. Save it as RGB.")
    white, inverted = _white(image, path), _tag(image, LOW_IS_WHITE, 1) == 0
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    if image.mode.startswith(DEEP):
        assert white is not None
        image = Image.fromarray(_levels(np.asarray(image), white, inverted))
    if turn is not None:
        image = image.transpose(turn)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(values: np.ndarray, white: float, inverted: bool) -> np.ndarray:
    """Gray values as uint8, a block of rows at a time: in float64 a large image takes gigabytes."""
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, BLOCK // max(1, values.shape[1]))
    for i in range(0, len(values), rows):
        part = values[i : i + rows].astype(np.float64) / white
        levels[i : i + rows] = np.rint(255 * (1 - part if inverted else part)).clip(0, 255)
    return levels


def _white(image: Image.Image, path: Path) -> float | None:
    """The value of white by the type of the file, None for 8 bits."""
    kind, bits = image.format or "", _tag(image, BITS, 0)
    if not image.mode.startswith(DEEP):
        deep = bits == 16 if kind == "TIFF" else kind == "PNG" and _png_bits(path) == 16
        return 65535 if deep else None
    if kind in ("PNG", "PPM", "JPEG2000") and image.mode != "F":
        return 65535
    numbers = _tag(image, NUMBERS, 1)
    if kind == "TIFF" and numbers == 1 and bits in (12, 16):
        return 2**bits - 1
    if image.mode == "F" and (kind != "TIFF" or numbers == 3):
        return 1
    whole = "signed" if numbers == 2 else "unsigned"
    what = f"{bits or 32}-bit {whole} numbers" if kind == "TIFF" else f"mode {image.mode}"
    raise Unreadable(
        f"{path} holds gray values as {what}, whose black and white are not known. Save the "
        "images with 8 bits, or with 16 bits from 0 to 65535."
    )


def _png_bits(path: Path) -> int:
    """Bits of a value, from the header of a PNG."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _tag(image: Image.Image, tag: int, default: int) -> int:
    found = getattr(image, "tag_v2", {}).get(tag, default)
    return int(found[0] if isinstance(found, tuple) else found)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image's file, opened; what the decoder raises while it is becomes one sentence."""
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise Unreadable(f"{path} is a pipe, a device or a folder, not an image. {CURE}")
    known = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large photographs, and of odd metadata
            with Image.open(path, formats=_formats()) as image:
                known = True
                _refuse_frames(image, path)
                _refuse_holes(image, path)
                yield image
    except Image.DecompressionBombError:
        raise Unreadable(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, too many to read "
            "safely. Make it smaller, or move it out of the folder."
        ) from None
    except Unreadable:
        raise
    except BROKEN as error:
        what = describe_file(path)
        if not what:
            what = "is cut off or damaged" if known else "is not an image that can be read"
            detail = "" if isinstance(error, UnidentifiedImageError) else str(error)
            what += f": {detail.rstrip('.')}" if detail else ""
        raise Unreadable(f"{path} {what}. {CURE}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _refuse_frames(image: Image.Image, path: Path) -> None:
    if image.format not in FRAMES:
        return
    try:
        image.seek(1)  # and no further: to count them can take minutes
    except EOFError:
        image.seek(0)
        return
    raise Unreadable(
        f"{path} holds several images, where one is expected. Save the one that is meant as a "
        "file of its own."
    )


def _refuse_holes(image: Image.Image, path: Path) -> None:
    """Refuse a TIFF whose strips are those of a smaller image: Pillow shows the rest as black."""
    extents = [tile[1] for tile in getattr(image, "tile", ()) if tile[1]]
    if image.format == "TIFF" and extents:
        width, height = (max(extent[k] for extent in extents) for k in (2, 3))
        if width < image.width or height < image.height:
            raise Unreadable(
                f"{path} is cut off or damaged: it says {image.width} x {image.height} pixels and "
                f"has {width} x {height}. {CURE}"
            )
