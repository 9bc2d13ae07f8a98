"""A folder of images to tensors: every picture in one frame, decoded once, until a file changes."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.models.base import MIN_SIZE
from harness.models.preprocessing import Framing
from harness.suites.image_files import (
    Header,
    Unreadable,
    for_each,
    read_extremes,
    read_framed,
    read_header,
)
from harness.suites.image_folders import ImageFolder, Signature, list_images, list_unlabeled
from harness.suites.stored_images import LARGE, Images, StoredImages, blocks, take

LOG = logging.getLogger(__name__)
MAX_SIZE = 224  # pixels; a folder of larger images is read at this size
MANY = 2000  # pictures, which take seconds to read
NAMED = 3  # damaged files in a sentence

Samples = Sequence[tuple[Path, int]]


class Task(Protocol):
    """What a person is shown of a long reading."""

    def advance(self, amount: int) -> None:
        """Add a number of pictures to those that are read."""
        ...


Watch = Callable[[int], AbstractContextManager[Task]]  # a number of pictures to a task of that many


@dataclass(frozen=True)
class Reading:
    """How a folder of images is read.

    Args:
        framing: Of every picture; None takes the smallest side found, at most 224, of all of it.
        skip_damaged: Whether files that cannot be read are left out, rather than refused.
        whole: Whether all images are test images where there are no halves, since nothing is
            trained on them.
        labeled: Whether classes count; else pictures need no folders of classes.
    """

    framing: Framing | None = None
    skip_damaged: bool = False
    whole: bool = False
    labeled: bool = True


USUAL = Reading()


@dataclass(frozen=True)
class Half:
    """One half of a folder of images.

    Args:
        images: uint8 (N, 3, size, size).
        labels: int64 (N,).
        files: Where each image lies.
        framing: How each was framed.
        mark: What tells its images from those that are framed as usual, "" for these.
        damaged: Files that were left out.
    """

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    framing: Framing
    mark: str
    damaged: tuple[Path, ...]

    def read_framed_file(self, path: Path) -> np.ndarray:
        """Return a picture that was cropped already as one of these, uint8 (size, size, 3).

        Raises:
            Unreadable: It is no image that can be read.
        """
        return read_framed(path, replace(self.framing, crop=1.0))


@dataclass
class _Kept:
    """What was read of a folder in this process."""

    signature: Signature
    found: ImageFolder
    headers: dict[Path, Header]
    damaged: set[Path]
    halves: dict[tuple[bool, Reading], Half] = field(default_factory=dict)


_KEPT: dict[tuple[Path, bool, bool], _Kept] = {}


def read_half(
    folder: Path, train: bool, root: Path, reading: Reading, watch: Watch | None = None
) -> Half:
    """Return the training or test half of a folder of images.

    Args:
        root: Folder for a file of what is too much for the memory.
        watch: Called where many are read.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no folders of images.
        ValueError: A file cannot be read, or the folder holds nothing that can be evaluated.
    """
    found = list_images(folder) if reading.labeled else list_unlabeled(folder)
    place = folder, reading.skip_damaged, reading.labeled
    kept = _KEPT.get(place)
    if kept is None or kept.signature != found.signature:
        kept = _KEPT[place] = _look(found, reading.skip_damaged)
    key = train, replace(reading, whole=reading.whole and not train and not found.halves)
    if key not in kept.halves:
        kept.halves[key] = _read(kept, *key, root, watch)
    return kept.halves[key]


def _look(found: ImageFolder, skip_damaged: bool) -> _Kept:
    """Read all headers.

    Raises:
        ValueError: An image cannot be read, or the range of its values is not known.
    """
    paths = [path for path, _ in found.train + found.test]
    headers, damaged = dict[Path, Header](), set[Path]()

    def keep(i: int, header: Header) -> None:
        headers[paths[i]] = header

    def skip(i: int, error: Unreadable) -> None:
        damaged.add(paths[i])

    for_each(paths, read_header, keep, skip if skip_damaged else None)
    deep: dict[float, list[Path]] = {}
    for path, header in headers.items():
        if header.white is not None:
            deep.setdefault(header.white, []).append(path)
    for white, of_range in deep.items():
        damaged |= _check_range(found.folder, white, of_range, skip_damaged)
    return _Kept(found.signature, found, headers, damaged)


def _check_range(folder: Path, white: float, paths: Sequence[Path], skip: bool) -> set[Path]:
    """Refuse gray values whose white is not known: no image uses the upper half of the range.

    Returns:
        Files that cannot be read, where these are skipped.
    """
    low, high, damaged = math.inf, -math.inf, set[Path]()

    def widen(i: int, extremes: tuple[float, float]) -> None:
        nonlocal low, high
        low, high = min(low, extremes[0]), max(high, extremes[1])

    for_each(paths, read_extremes, widen, (lambda i, e: damaged.add(paths[i])) if skip else None)
    if len(damaged) < len(paths) and (low < 0 or not white / 2 < high <= white):
        raise ValueError(
            f"The {len(paths)} images of more than 8 bits in {folder} have values from {low:g} to "
            f"{high:g}, where 0 to {white:g} are possible: which of them is white is not known. "
            f"Scale them so that black is 0 and white is {white:g}, or save them with 8 bits."
        )
    return damaged


def _read(kept: _Kept, train: bool, reading: Reading, root: Path, watch: Watch | None) -> Half:
    found = kept.found
    samples: Samples = found.train if train else found.test
    if reading.whole:
        samples = found.whole
    if not samples:
        half = "train" if train else "test"
        raise ValueError(
            f"{found.folder} has no {half}ing images: there are none in {found.folder / half}. Put "
            "some there, one folder a class" + ", or give `--weights`." * train
        )
    framing, mark = _framing(kept, reading.framing)
    good = [s for s in samples if s[0] not in kept.damaged]
    damaged = [s[0] for s in samples if s[0] in kept.damaged]
    paths = [path for path, _ in good]
    with watch(len(paths)) if watch and len(paths) > MANY else nullcontext() as task:
        images, broken = _decode(paths, framing, root, reading.skip_damaged, task)
    if broken:
        left = [i for i in range(len(good)) if i not in broken]
        damaged += [good[i][0] for i in sorted(broken)]
        images, good = take(images, torch.tensor(left, dtype=torch.int64)), [good[i] for i in left]
    if damaged:
        _tell(damaged, samples, found.folder)
    if all(int(block.max()) <= 1 for block in blocks(images)):
        raise ValueError(
            f"The images in {found.folder} are black: no value is above 1 of 255. Save them with "
            "values from 0 to 255."
        )
    labels = torch.tensor([label for _, label in good])
    files = tuple(path for path, _ in good)
    return Half(images, labels, found.classes, files, framing, mark, tuple(damaged))


def _framing(kept: _Kept, asked: Framing | None) -> tuple[Framing, str]:
    """How a folder's pictures are framed, and the mark of images that are not framed as usual.

    Pictures that all are squares of the size that is asked for have been cropped already, and are
    taken as they are.

    Raises:
        ValueError: An image is too small.
    """
    headers = {path: h for path, h in kept.headers.items() if path not in kept.damaged}
    if not headers:
        raise ValueError(f"No image in {kept.found.folder} can be read. Replace them.")
    if asked and all((h.width, h.height) == (asked.size, asked.size) for h in headers.values()):
        asked = replace(asked, crop=1.0)
        if asked.size <= MAX_SIZE:
            return asked, ""
    smallest = min(headers, key=lambda path: headers[path].side)
    usual = Framing(min(MAX_SIZE, headers[smallest].side))
    if asked and asked != usual:
        return asked, asked.mark
    if usual.size < MIN_SIZE:
        raise ValueError(
            f"{smallest}, the smallest image in {kept.found.folder}, is {usual.size} pixels; at "
            f"least {MIN_SIZE} are needed. Enlarge it, move it out of the folder, or give "
            f"`--preprocessing size={MIN_SIZE}`."
        )
    return usual, ""


def _decode(
    paths: Sequence[Path], framing: Framing, root: Path, skip_damaged: bool, task: Task | None
) -> tuple[Images, set[int]]:
    """Image files as uint8 (N, 3, size, size), and the places of those that cannot be read."""
    shape, broken = (len(paths), 3, framing.size, framing.size), set[int]()
    images: Images
    put: Callable[[int, np.ndarray], None]
    if math.prod(shape) > LARGE:
        images = stored = StoredImages.create(len(paths), framing.size, root)

        def put(i: int, square: np.ndarray) -> None:
            stored.write(i, square.transpose(2, 0, 1))
    else:
        images = whole = torch.empty(shape, dtype=torch.uint8)

        def put(i: int, square: np.ndarray) -> None:
            whole[i] = torch.from_numpy(square).permute(2, 0, 1)

    def put_and_tell(i: int, square: np.ndarray) -> None:
        put(i, square)
        if task is not None:
            task.advance(1)

    skip = (lambda i, error: broken.add(i)) if skip_damaged else None
    for_each(paths, partial(read_framed, framing=framing), put_and_tell, skip)
    return images, broken


def _tell(damaged: Sequence[Path], samples: Samples, folder: Path) -> None:
    if len(damaged) == len(samples):
        raise ValueError(f"None of the {len(samples)} images can be read: {folder}. Replace them.")
    more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
    names = ", ".join(str(path) for path in damaged[:NAMED])
    LOG.warning(
        "%d of %d images of %s are damaged and left out: %s%s.",
        *(len(damaged), len(samples), folder, names, more),
    )
