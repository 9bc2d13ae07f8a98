"""The files of Fashion-MNIST, verified as they are read: torchvision believes them by their names.

H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms, 2017, https://arxiv.org/abs/1708.07747;
https://github.com/zalandoresearch/fashion-mnist, MIT.
"""

import hashlib
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

# MD5 of the unpacked files; torchvision has those of the archives.
FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CLASSES = tuple(FashionMNIST.classes)


class Half:
    """The training or the test half, in the form of torchvision's data sets.

    Args:
        folder: Folder that holds FashionMNIST/raw.

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


def fetch(root: Path) -> None:
    """Download and unpack the verified archives of files that are not there, or not right."""
    for archive, md5 in FashionMNIST.resources:
        path = _path(root, archive.removesuffix(".gz"))
        if not check_integrity(path, FILES[path.name]):
            address = f"{FashionMNIST.mirrors[0]}{archive}"
            download_and_extract_archive(address, str(path.parent), filename=archive, md5=md5)


def _read(folder: Path, name: str, header: int) -> np.ndarray:
    content = _path(folder, name).read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != FILES[name]:
        raise RuntimeError(f"{name} is not the published file")
    return np.frombuffer(content, np.uint8, offset=header).copy()


def _path(folder: Path, name: str) -> Path:
    return folder / "FashionMNIST" / "raw" / name
