"""Data sets: images that are on disk, or inside a package, to tensors.

A data set is a function `(train, root)` that returns its training or its test half. Nothing is
fetched here but by `fetch`, and nothing is unpickled that does not match the MD5 its authors
publish, which torchvision checks.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from harness.models.base import MIN_SIZE
from harness.models.preprocessing import Framing
from harness.models.user_code import load_function
from harness.suites import fashion_mnist as fashion
from harness.suites.catalog import DATASETS
from harness.suites.dataset_names import parse_dataset
from harness.suites.folder_reading import USUAL, Reading, Watch, read_half
from harness.suites.stored_images import Images, as_images, blocks, keep


def as_input(images: Tensor) -> Tensor:
    """Return uint8 images (N, 3, H, H) as models take them: float32 in [0, 1], channels-last."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Split:
    """One half of a data set.

    Args:
        images: uint8 (N, 3, H, H), in memory or, where there are many, in a file.
        labels: int64 (N,), 0 <= label < len(classes).
        classes: The names of the classes.
        flip: Whether a mirrored image is an image of the same class.
        width: Channels that models get by default: 64 is ResNet-18 itself.
        reading: How its pictures were asked for; of a folder of images, as all that follows.
        mark: What tells its images from those of other framing, "" for the usual one.
        framing: How its pictures became squares.
        damaged: Number of pictures that cannot be read, and were left out.
        files: Where its pictures lie.
        read: Function that reads another picture, which was cropped already, as one of these:
            uint8 (H, H, 3).
    """

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    flip: bool
    width: int = 64
    reading: Reading = USUAL
    mark: str = ""
    framing: Framing | None = None
    damaged: int = 0
    files: tuple[Path, ...] = ()
    read: Callable[[Path], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    def to(self, device: torch.device) -> "Split":
        """Return it with images and labels on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the images and labels."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for block in blocks(self.images):
            digest.update(block.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()


def load(
    spec: str, *, train: bool, root: Path, reading: Reading = USUAL, watch: Watch | None = None
) -> Split:
    """Return the training or test half of a data set.

    Args:
        spec: A name in `DATASETS`, or what `harness.suites.dataset_names` lists.
        train: The training half rather than the test half.
        root: The folder that holds the official files.
        reading: How a folder of images is read.
        watch: Called where many images are read.

    Raises:
        LookupError: There is no such data set.
        FileNotFoundError: Its files are not there.
        ValueError: Its files are damaged, or a user's function gives something else.
    """
    name = adopt_dataset(spec)
    folder = parse_dataset(spec).folder
    if folder is not None:
        return imagefolder(train, folder, root, reading, watch)
    found = DATASETS[name](train, root)
    if not DATASETS.sha256(name):
        return found
    if not isinstance(found, Split):
        found = _users_split(name, found, lambda: DATASETS[name](not train, root), root)
    _check_split(name, found)
    return found


def adopt_dataset(spec: str) -> str:
    """Return the name under which `DATASETS` has a data set; a user's own is added first.

    Raises:
        FileNotFoundError, LookupError, ValueError: As of `load`.
    """
    found = parse_dataset(spec)
    if found.code:
        code = load_function(found.code, DATASETS.kind)
        DATASETS.add(found.name, code.value, code.sha256, spec)
    elif found.folder is not None:
        folder = found.folder

        def images(train: bool, root: Path) -> Split:
            return imagefolder(train, folder, root, USUAL)

        DATASETS.add(found.name, images, "", spec)
    elif spec not in DATASETS and Path(spec).expanduser().is_dir():
        raise LookupError(f"`{spec}` is a folder. Write `--dataset imagefolder:{spec}`.")
    return found.name


def training_fingerprint(spec: str, root: Path, reading: Reading = USUAL) -> str:
    """Return the fingerprint of a data set's training half.

    It is that of the official files where there are some, which are verified whenever they are
    read, and is computed otherwise.

    Raises:
        FileNotFoundError, LookupError, ValueError: As of `load`.
    """
    name = adopt_dataset(spec)
    if name in FETCHED:
        return OFFICIAL.get(name) or _official_fingerprint(name, root)
    return load(spec, train=True, root=root, reading=reading).fingerprint()


@functools.cache
def _official_fingerprint(name: str, root: Path) -> str:
    return load(name, train=True, root=root).fingerprint()


def _users_split(name: str, found: Any, other_half: Callable[[], Any], root: Path) -> Split:
    """A split of (images, labels) or (images, labels, classes), arrays of NumPy or torch."""
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise ValueError(
            f"The data set `{name}` must return a Split, or (images, labels) or (images, labels, "
            f"classes); got {type(found).__name__}."
        )
    labels = torch.as_tensor(np.asarray(found[1])).long()
    if len(found) == 3:
        classes = tuple(str(c) for c in found[2])
    else:  # a half may lack the last class
        both = (labels, torch.as_tensor(np.asarray(other_half()[1])))
        classes = tuple(str(k) for k in range(max(int(y.max()) + 1 for y in both if len(y))))
    return Split(keep(found[0], root), labels, classes, flip=False)


def _check_split(name: str, split: Split) -> None:
    """Refuse a user's split that no model could be trained or evaluated on."""
    images, labels, k = split.images, split.labels, len(split.classes)
    shape = tuple(images.shape)
    good = images.ndim == 4 and shape[1] == 3 and shape[2] == shape[3] >= MIN_SIZE
    if images.dtype != torch.uint8 or not good or not len(images):
        raise ValueError(
            f"The images of `{name}` must be uint8 (N, 3, H, H), H >= {MIN_SIZE}; got "
            f"{images.dtype} {shape}. Resize them, or give images in [0, 1] times 255."
        )
    if labels.shape != images.shape[:1] or not 0 <= int(labels.min()) <= int(labels.max()) < k:
        raise ValueError(
            f"The labels of `{name}` must be {len(images)} numbers from 0 to {k - 1}, one for each "
            f"image; got {tuple(labels.shape)} from {int(labels.min())} to {int(labels.max())}."
        )


def _digits_of_sklearn() -> np.ndarray:
    """Return 64 pixels from 0 to 16 and the label of each digit, (1797, 65), float64.

    They are read from scikit-learn's file: to import it takes most of a second.
    """
    found = find_spec("sklearn")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack((bunch.data, bunch.target))


@DATASETS.register
def digits(train: bool, root: Path) -> Split:
    """scikit-learn's 1,797 handwritten digits, 8x8 resized to 32x32, three equal channels.

    Every fifth image of each class is a test image: 1,442 for training, 355 for testing.
    """
    table = torch.from_numpy(_digits_of_sklearn())
    labels = table[:, 64].long()
    gray = table[:, :64].reshape(-1, 1, 8, 8) * (255 / 16)  # 0..255
    large = torch.nn.functional.interpolate(gray, (32, 32), mode="bilinear").round()
    position = torch.zeros_like(labels)
    for k in range(10):
        of_class = labels == k
        position[of_class] = torch.arange(int(of_class.sum()))
    kept = (position % 5 == 4) != train
    images = large[kept].to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return Split(images, labels[kept], tuple("0123456789"), flip=False, width=16)


@DATASETS.register
def cifar10(train: bool, root: Path) -> Split:
    """60,000 photographs in 10 classes, 32x32 (Krizhevsky 2009), 50,000 for training."""
    return _cifar("cifar10", torchvision.datasets.CIFAR10, "cifar-10-batches-py", train, root)


@DATASETS.register
def cifar100(train: bool, root: Path) -> Split:
    """60,000 photographs in 100 classes, 32x32 (Krizhevsky 2009), 50,000 for training."""
    return _cifar("cifar100", torchvision.datasets.CIFAR100, "cifar-100-python", train, root)


@DATASETS.register
def svhn(train: bool, root: Path) -> Split:
    """99,289 house numbers, 32x32 (Netzer et al. 2011), 73,257 for training."""
    return _read(
        "svhn",
        lambda folder: torchvision.datasets.SVHN(str(folder), "train" if train else "test"),
        "train_32x32.mat" if train else "test_32x32.mat",
        root,
        tuple("0123456789"),
        flip=False,
    )


class _Labelled(torchvision.datasets.STL10):
    """STL-10 without its 100,000 images that have no labels, 2.6 GB that nothing here needs."""

    train_list = torchvision.datasets.STL10.train_list[:2]


@DATASETS.register
def stl10(train: bool, root: Path) -> Split:
    """13,000 photographs in 10 classes, 96x96 (Coates et al. 2011), 5,000 for training."""
    return _read(
        "stl10",
        lambda folder: _Labelled(str(folder), "train" if train else "test"),
        "stl10_binary",
        root,
        ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        flip=True,
    )


@DATASETS.register
def fashion_mnist(train: bool, root: Path) -> Split:
    """70,000 articles of clothing, 28x28 in a black frame of 2 (Xiao et al. 2017)."""
    return _read(
        "fashion_mnist",
        lambda folder: fashion.Half(folder, train),
        fashion.folder_in(root),
        root,
        fashion.CLASSES,
        flip=True,
    )


# Fingerprints of training halves; the files are verified by the MD5s that their authors publish.
OFFICIAL = {
    "cifar10": "f3120a8fa253dbdad16aeebfcbcdbe65951c58226061082bf1b61dde3add92d7",
    "stl10": "0029f43013573dac4b8b6460a207cd3f086fe131b7bde4118727ee8282a764a5",
}

FETCHED: dict[str, Callable[[Path], object]] = {
    "cifar10": lambda root: torchvision.datasets.CIFAR10(str(root), download=True),
    "cifar100": lambda root: torchvision.datasets.CIFAR100(str(root), download=True),
    "svhn": lambda root: [
        torchvision.datasets.SVHN(str(root), split, download=True) for split in ("train", "test")
    ],
    "stl10": lambda root: _Labelled(str(root), download=True),
    "fashion_mnist": fashion.fetch,
}


def fetch(name: str, root: Path) -> None:
    """Download the official files of `name` into `root` and verify them; there, do nothing.

    Raises:
        LookupError: There is no such data set.
        OSError: The files cannot be had from here.
    """
    DATASETS[name]
    if name in FETCHED:
        root.mkdir(parents=True, exist_ok=True)
        FETCHED[name](root)


def imagefolder(
    train: bool, folder: Path, root: Path, reading: Reading, watch: Watch | None = None
) -> Split:
    """A user's own images, one folder a class, as squares of one size.

    The halves are FOLDER/train and FOLDER/test (or val, valid, validation); without them every
    fifth file of each class, by name, is a test image. Every image is cropped to its central square
    and resized to the smallest side found, at most 224, unless `reading` says otherwise.

    Args:
        root: Folder for a file of what is too much for the memory.

    Raises:
        FileNotFoundError, ValueError: As of `read_half`.
    """
    half = read_half(folder, train, root, reading, watch)
    return Split(
        half.images,
        half.labels,
        half.classes,
        flip=True,
        reading=reading,
        mark=half.mark,
        framing=half.framing,
        damaged=len(half.damaged),
        files=half.files,
        read=half.read_framed_file,
    )


def _cifar(name: str, kind: Callable, files: str, train: bool, root: Path) -> Split:
    data: list = []

    def read(folder: Path) -> Any:
        data.append(kind(str(folder), train))
        return data[0]

    split = _read(name, read, files, root, (), flip=True)
    return Split(split.images, split.labels, tuple(data[0].classes), flip=True)


def _read(
    name: str,
    read: Callable[[Path], Any],
    files: str,
    root: Path,
    classes: tuple[str, ...],
    flip: bool,
) -> Split:
    """A torchvision data set to tensors; `files` is what must lie in the data folder."""
    # Also where an archive was unpacked a folder too deep, or its own folder was given.
    places = [root / files, root / name / files, root, root / name]
    places += [root.parent] * (root.name == files)
    folder = next((place for place in places if (place / files).exists()), None)
    if folder is None:
        raise FileNotFoundError(
            f"The files of `{name}` are not at {root}: there is no {files}. Run `harness data "
            f"{name}`, or set `HARNESS_DATA` or `--data` to the folder that holds it."
        )
    try:
        data = read(folder)
    except (RuntimeError, FileNotFoundError) as error:
        raise ValueError(
            f"The files of `{name}` at {folder / files} are incomplete or damaged. Run "
            f"`harness data {name}`, which puts that right."
        ) from error
    images = as_images(data.data)
    if images.shape[-1] == 28:
        images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    labels = torch.as_tensor(np.asarray(getattr(data, "targets", getattr(data, "labels", None))))
    return Split(images, labels.long(), classes, flip)
