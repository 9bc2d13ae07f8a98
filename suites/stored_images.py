"""Images that are too many for the memory: in a file, read as they are asked for."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

LARGE = 2**29  # bytes, above which images are kept in a file
BLOCK = 2**26  # bytes read at a time


class _Unnamed:
    """An open file without a name, which is gone when nobody needs it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.descriptor = file.fileno()

    def __del__(self) -> None:
        self.file.close()


class StoredImages:
    """uint8 images (N, 3, H, H) in a file, indexed as a tensor is; what is read is one.

    The file has no name, so that nothing is left when the process ends, however it does.

    Args:
        file: Of the images, one after the other.
        shape: (N, 3, H, H).
        device: Where what is read goes.
        order: Positions in the file of those that count, (M,); None for all.
        start: Byte at which the first image begins.
        channels_last: Whether the file has (N, H, H, 3).
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self,
        file: _Unnamed,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        order: Tensor | None = None,
        *,
        start: int = 0,
        channels_last: bool = False,
    ) -> None:
        self._file, self._shape, self._order = file, shape, order
        self._start, self._channels_last = start, channels_last
        self.device = torch.device(device)

    @classmethod
    def create(cls, count: int, size: int, folder: Path) -> "StoredImages":
        """Return images that are to be filled by `write`, in a file in `folder` if that can be.

        Raises:
            OSError: There is no room for it.
        """
        file: BinaryIO | None = None
        with contextlib.suppress(PermissionError, FileNotFoundError, NotADirectoryError):
            folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed with the images
        file = file or tempfile.TemporaryFile()  # noqa: SIM115
        return cls(_Unnamed(file), (count, 3, size, size))

    @classmethod
    def of_map(cls, array: np.memmap) -> "StoredImages":
        """Return the images of a mapped file, (N, 3, H, H) or (N, H, H, 3), as they lie there."""
        last, whole = array.shape[1] != 3, array
        while isinstance(whole.base, np.memmap):  # of a part, `offset` is that of the whole
            whole = whole.base
        start = whole.offset + array.ctypes.data - whole.ctypes.data
        shape = (len(array), 3, *(array.shape[1:3] if last else array.shape[2:]))
        file = _Unnamed(Path(str(array.filename)).open("rb"))  # noqa: SIM115  closed with the images
        return cls(file, shape, start=start, channels_last=last)

    def write(self, first: int, images: np.ndarray) -> None:
        """Write images (M, 3, H, H) from the position `first` on."""
        content = memoryview(np.ascontiguousarray(images, np.uint8)).cast("B")  # type: ignore[arg-type]
        done, place = 0, first * self._bytes
        while done < len(content):
            done += os.pwrite(self._file.descriptor, content[done:], place + done)

    @property
    def _bytes(self) -> int:
        """Of one image."""
        return int(np.prod(self._shape[1:]))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self._shape[1:]))

    def __len__(self) -> int:
        return self._shape[0] if self._order is None else len(self._order)

    def __getitem__(self, which: int | slice | Tensor) -> Tensor:
        """Read one image (3, H, H), or several (M, 3, H, H)."""
        if not isinstance(which, slice | Tensor):
            return self[torch.tensor([int(which)])][0]
        places = torch.arange(len(self))[which.cpu() if isinstance(which, Tensor) else which]
        if self._order is not None:
            places = self._order[places]
        last = self._channels_last
        one = (*self._shape[2:], 3) if last else self._shape[1:]
        found = np.empty((len(places), *one), np.uint8)
        for first, end, place in _runs(places.numpy()):
            view = memoryview(found[first:end]).cast("B")  # type: ignore[arg-type]
            self._fill(view, self._start + place * self._bytes)
        images = torch.from_numpy(found)
        return (images.permute(0, 3, 1, 2).contiguous() if last else images).to(self.device)

    def _fill(self, view: memoryview, place: int) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(self._file.descriptor, [view[done:]], place + done)
            if count == 0:
                raise OSError(f"The file of images ends at byte {place + done}.")
            done += count

    def blocks(self) -> Iterator[Tensor]:
        """Read all images, some at a time."""
        step = max(1, BLOCK // self._bytes)
        for first in range(0, len(self), step):
            yield self[first : first + step]

    def __iter__(self) -> Iterator[Tensor]:
        for block in self.blocks():
            yield from block

    def to(self, device: torch.device | str) -> "StoredImages":
        """Return the same images, which go to another device when they are read."""
        return self._with(device, self._order)

    def subset(self, which: Tensor) -> "StoredImages":
        """Return some of the images, not read yet."""
        order = which.cpu() if self._order is None else self._order[which.cpu()]
        return self._with(self.device, order)

    def _with(self, device: torch.device | str, order: Tensor | None) -> "StoredImages":
        return StoredImages(
            self._file,
            self._shape,
            device,
            order,
            start=self._start,
            channels_last=self._channels_last,
        )


Images = Tensor | StoredImages


def take(images: Images, which: Tensor) -> Images:
    """Return some of the images; those in a file stay there."""
    return images.subset(which) if isinstance(images, StoredImages) else images[which]


def blocks(images: Images) -> Iterator[Tensor]:
    """Return all images, some at a time where they are in a file."""
    return images.blocks() if isinstance(images, StoredImages) else iter((images,))


def keep(array: Any, folder: Path) -> Images:
    """Return a user's images as uint8 (N, 3, H, H) where they are too many for the memory.

    A mapped file is read where it lies; what would have to be copied is written to a file in
    `folder` if that can be.

    Args:
        array: Of NumPy or torch: (N, 3, H, W), (N, H, W, 3), or gray (N, H, W).
    """
    plain = np.asarray(array)
    size = plain.nbytes * (3 if plain.ndim == 3 else 1)
    if size <= LARGE or plain.dtype != np.uint8 or plain.ndim not in (3, 4):
        return as_images(plain)
    colors, whole = plain.ndim == 4 and 3 in plain.shape[1::2], plain.flags.c_contiguous
    if isinstance(array, np.memmap) and array.filename and colors and whole:
        return StoredImages.of_map(array)
    if colors and whole and plain.shape[1] == 3:
        return as_images(plain)
    step = max(1, BLOCK * len(plain) // size)
    first = as_images(plain[:step])
    stored = StoredImages.create(len(plain), first.shape[-1], folder)
    for i in range(0, len(plain), step):
        stored.write(i, as_images(plain[i : i + step]).numpy())
    return stored


def as_images(array: Any) -> Tensor:
    """Return images (N, 3, H, W) of an array (N, 3, H, W), (N, H, W, 3), or gray (N, H, W)."""
    plain = np.asarray(array)
    images = torch.as_tensor(plain if plain.flags.writeable else plain.copy())
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    if images.ndim == 3:
        images = images[:, None].expand(-1, 3, -1, -1)
    return images.contiguous()


def _runs(places: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Stretches of consecutive places: from and to in the answer, and the first place."""
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    for part in np.split(np.arange(len(places)), ends) if len(places) else ():
        yield int(part[0]), int(part[-1]) + 1, int(places[part[0]])
