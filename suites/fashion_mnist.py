"""The files of Fashion-MNIST, verified as they are read: torchvision believes them by their names.

They lie in FashionMNIST/raw, where torchvision puts them, or in fashion-mnist, where the package
dataset-fashion-mnist of Debian does; unpacked or as archives, which are read as they are.

H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms, 2017, https://arxiv.org/abs/1708.07747;
https://github.com/zalandoresearch/fashion-mnist, MIT.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import download_and_extract_archive

# MD5 of the unpacked files; torchvision has those of the archives.
FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CLASSES = tuple(FashionMNIST.classes)
OURS, DEBIANS = "FashionMNIST", "fashion-mnist"  # folders
LARGEST = 60_000 * 28 * 28 + 16  # bytes of the largest file


class Half:
    """The training or the test half, in the form of torchvision's data sets.

    Args:
        folder: Folder that holds FashionMNIST/raw, or fashion-mnist.

    Attributes:
        data: uint8 (N, 28, 28).
        targets: uint8 (N,).

    Raises:
        FileNotFoundError: A file is missing.
        RuntimeError: A file is not the published one.
    """

    def __init__(self, folder: Path, train: bool) -> None:
        half = "train" if train else "t10k"
        self.data = _read(folder, f"{half}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
        self.targets = _read(folder, f"{half}-labels-idx1-ubyte", 8)


def folder_in(root: Path) -> str:
    """Return which of the two folders lies in, or is, a data folder; torchvision's for neither."""

    def there(name: str) -> bool:
        return root.name == name or (root / name).is_dir()

    return DEBIANS if there(DEBIANS) and not there(OURS) else OURS


def fetch(root: Path) -> None:
    """Download and unpack the verified archives of files that are not there, or not right."""
    holding = root.parent if root.name in (OURS, DEBIANS) else root
    for archive, md5 in FashionMNIST.resources:
        try:
            _read(holding, archive.removesuffix(".gz"), 0)
        except (FileNotFoundError, RuntimeError):
            address = f"{FashionMNIST.mirrors[0]}{archive}"
            place = str(root / OURS / "raw")
            download_and_extract_archive(address, place, filename=archive, md5=md5)


def _read(folder: Path, name: str, header: int) -> np.ndarray:
    """The content of a file behind its header."""
    content = _content(folder, name)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != FILES[name]:
        raise RuntimeError(f"{name} is not the published file")
    return np.frombuffer(content, np.uint8, offset=header).copy()


def _content(folder: Path, name: str) -> bytes:
    """What is in a file, or in its archive, of which no more is unpacked than it should hold."""
    for place in (folder / OURS / "raw", folder / DEBIANS):
        if (place / name).is_file():
            return (place / name).read_bytes()
        if (place / f"{name}.gz").is_file():
            try:
                with gzip.open(place / f"{name}.gz") as archive:
                    return archive.read(LARGEST + 1)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise RuntimeError(f"{name}.gz is damaged") from error
    raise FileNotFoundError(f"There is no {name}")
