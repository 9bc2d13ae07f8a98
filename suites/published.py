"""Published corrupted files of CIFAR: memory-mapped, and believed by their MD5 only.

    NAME.npy     uint8 (50000, 32, 32, 3), severity s in rows (s - 1) 10000 .. s 10000 - 1
    labels.npy   uint8 (50000,), the test labels five times

Each stretch holds the same 10,000 test images in the official order. The eight corruptions that
draw nothing can be made here with equal bytes, and then they are the published files.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261; https://zenodo.org/records/2535967 and
https://zenodo.org/records/3555552, CC-BY-4.0.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from harness.models.registry import unknown
from harness.suites.catalog import CORRUPTIONS
from harness.suites.published_places import is_named, places_of, spelled

SEVERITIES = (1, 2, 3, 4, 5)
ROWS = 10_000  # test images
CIFAR_10_C = {
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "labels": "c439b113295ed5254878798ffe28fd54",
}
CIFAR_100_C = {
    "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
    "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
    "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
    "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
    "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
    "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
    "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    "snow": "0237be164583af146b7b144e73b43465",
    "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
    "brightness": "f22d7195aecd6abb541e27fca230c171",
    "contrast": "322bb385f1d05154ee197ca16535f71e",
    "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
    "pixelate": "96c00c60f144539e14cffb02ddbd0640",
    "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
    "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
    "spatter": "12ccf41d62564d36e1f6a6ada5022728",
    "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
    "labels": "bb4026e9ce52996b95f439544568cdb2",
}
# Those that draw nothing, so that their files can be made again.
REPEATABLE = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)
TABLES = {"CIFAR-10-C": CIFAR_10_C, "CIFAR-100-C": CIFAR_100_C}
OF_DATASET = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
SOURCES = {
    "CIFAR-10-C": "https://zenodo.org/records/2535967",
    "CIFAR-100-C": "https://zenodo.org/records/3555552",
}

Table = Mapping[str, str]


@dataclass(frozen=True)
class Published:
    """A folder of published files.

    Args:
        folder: Folder that holds them, or a folder of the data set's name that does, as in its tar.
        table: MD5 of each file, by its name without ".npy". A name without an entry is not part of
            the data set.
        name: Name of the data set, for errors.
        rows: Images of each severity.
        others: Folders that may hold files that are not there.
        expected: Labels of the test set that is evaluated, None where it is not known.
    """

    folder: Path
    table: Table
    name: str = "CIFAR-10-C"
    rows: int = ROWS
    others: tuple[Path, ...] = ()
    expected: Tensor | None = field(default=None, compare=False)

    def verify(self, names: Sequence[str]) -> None:
        """Refuse the folder unless the files of these corruptions, and the labels, are right.

        Every file is hashed every time, 0.2 s each: size, time and inode can be had by other bytes.

        Raises:
            LookupError: There is no such corruption.
            FileNotFoundError: Files are missing; says which are there.
            ValueError: A file is not the published one, or the test set is another one.
        """
        for name in names:
            if name not in self.table:
                raise unknown("published corruption", name, self.table)
        wanted = list(dict.fromkeys((*names, "labels")))
        missing = [name for name in wanted if not self.path(name).is_file()]
        if missing:
            raise FileNotFoundError(self._without(missing))
        for name in wanted:
            found = _md5(self.path(name))
            if found != self.table[name]:
                raise ValueError(
                    f"{self.path(name)} has MD5 {found}, not the published {self.table[name]}: it "
                    f"is damaged, or not of {self.name}. Unpack it again from {self.name}.tar of "
                    f"{SOURCES[self.name]}."
                )
        if self.expected is not None:
            self.check_labels(self.expected)

    def _without(self, missing: Sequence[str]) -> str:
        """What is said where files are missing."""
        there = [name for name in self.table if name != "labels" and self.path(name).is_file()]
        made = [name for name in ("labels", *REPEATABLE) if name in missing]
        lost = ", ".join(f"{name}.npy" for name in missing)
        place = self.folder
        if spelled(place.name) == spelled(self.name):
            place = place.parent
        fact = f"{self.folder} lacks {lost} of {self.name}"
        if not there and "labels" in missing:
            fact = f"There is no file of {self.name} in {place}"
        text = f"{fact}. Unpack {self.name}.tar of {SOURCES[self.name]} in {place}"
        if there and missing != ["labels"]:
            text += ", or ask for those that are there, "
            text += f"`{' '.join(f'--corruption {name}' for name in there)}`"
        if made and (made != ["labels"] or missing == made):
            text += f"; `harness data {self.name.lower().replace('-c', '_c').replace('-', '')} "
            text += f"--regenerate` makes {', '.join(made)} from the test set"
        return f"{text}."

    def images(self, name: str, severity: int, indices: Tensor) -> Tensor:
        """Return uint8 (N, 3, 32, 32) of the test images at `indices`, from the mapped file.

        Raises:
            LookupError: There is no such corruption.
            ValueError: There is no such severity or test image.
        """
        if name not in self.table or name == "labels":
            raise unknown("published corruption", name, [n for n in self.table if n != "labels"])
        if severity not in SEVERITIES:
            raise ValueError(f"`severity` must be 1, 2, 3, 4 or 5; got {severity!r}.")
        rows = indices.cpu().numpy()
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.rows):
            raise ValueError(
                f"{self.name} has test images 0..{self.rows - 1}; got indices {rows.min()}.."
                f"{rows.max()}. Evaluate it on the test set that it was made from."
            )
        data = np.load(self.path(name), mmap_mode="r")
        picked = np.ascontiguousarray(data[rows + (severity - 1) * self.rows])
        return torch.from_numpy(picked).permute(0, 3, 1, 2).contiguous().to(indices.device)

    @cached_property
    def labels(self) -> Tensor:
        """The labels of the test images, int64, once."""
        return torch.from_numpy(np.load(self.path("labels"))[: self.rows].astype(np.int64))

    def check_labels(self, labels: Tensor) -> None:
        """Refuse a test set whose labels, in their order, are not those of the files.

        Raises:
            ValueError: The test set is another one, or in another order.
        """
        if not torch.equal(labels.cpu(), self.labels[: len(labels)]):
            raise ValueError(
                f"The {len(labels)} labels are not those of {self.path('labels')}, in its order. "
                "Evaluate these files on the official test set."
            )

    def path(self, name: str) -> Path:
        """Return where the file of a corruption, or of the labels, lies, or should."""
        places = (self.folder, self.folder / self.name, *self.others)
        paths = [place / f"{name}.npy" for place in places]
        return next((path for path in paths if path.is_file()), paths[0])


def files_in(name: str, root: Path, expected: Tensor | None = None) -> Published:
    """Return the published files of "CIFAR-10-C" or "CIFAR-100-C" in a data folder, not yet
    verified: in root/NAME in any spelling, a level deeper, in `root` itself or in others in it.

    Args:
        expected: Labels of the test set that is evaluated.

    Raises:
        LookupError: There is no such data set.
    """
    files = files_of(name, root / name)
    of_others = {spelled(title) for title in TABLES if title != name}
    places = places_of(name, root, lambda folder: spelled(folder) not in of_others)
    kinds = [f"{kind}.npy" for kind in files.table if kind != "labels"]
    holding = [p for p in places if any((p / kind).is_file() for kind in kinds)]
    folder = holding[0] if holding else files.folder
    others = (*holding, *(p for p in places if is_named(name, p, root)), root)
    return replace(files, folder=folder, others=others, expected=expected)


def files_of(name: str, folder: Path) -> Published:
    """Return the published files of "CIFAR-10-C" or "CIFAR-100-C" in a folder, not yet verified.

    Raises:
        LookupError: There is no such data set.
    """
    if name not in TABLES:
        raise unknown("published data set", name, TABLES)
    return Published(folder, TABLES[name], name)


def regenerate(
    folder: Path,
    images: Tensor,
    labels: Tensor,
    names: Sequence[str] = REPEATABLE,
    table: Table = CIFAR_10_C,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write published files that draw nothing, and labels.npy, from the clean test set.

    A file that is there and right is left alone. A file gets its name only after its MD5 is seen to
    be the published one.

    Args:
        images: uint8 (10000, 3, 32, 32) of CIFAR-10 or CIFAR-100, in the official order.
        table: The MD5s that must come out: `CIFAR_10_C` or `CIFAR_100_C`.
        labels: (10000,).
        tell: Function that is called with each file's name as it is written.

    Returns:
        The files, labels first.

    Raises:
        LookupError: A corruption is not known.
        ValueError: A corruption draws, or the result is not the published file.
    """
    for name in names:
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, REPEATABLE)
        if name not in REPEATABLE:
            raise ValueError(
                f"`{name}` was published without its random draws, so its file cannot be made "
                f"again. Download it; these can be made: {', '.join(REPEATABLE)}."
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ("labels", *names):
        path = folder / f"{name}.npy"
        written.append(path)
        if path.is_file() and _md5(path) == table[name]:
            continue
        tell(path.name)

        def fill(file: BinaryIO, name: str = name) -> None:
            if name == "labels":
                np.save(file, np.tile(labels.cpu().numpy().astype(np.uint8), len(SEVERITIES)))
                return
            shape = (len(SEVERITIES) * len(images), *images.shape[2:], 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            indices = torch.arange(len(images))
            for severity in SEVERITIES:
                y = CORRUPTIONS[name](images.cpu(), indices, 0, severity, "cifar10_c", True)
                file.write(y.permute(0, 2, 3, 1).contiguous().numpy().tobytes())

        _write(path, fill, expected=table[name])
    return written


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _write(path: Path, fill: Callable, expected: str) -> None:
    """Write a file whole or not at all; `expected` is the MD5 that it must have."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        if (found := _md5(temporary)) != expected:
            raise ValueError(
                f"{path.name} came out with MD5 {found}, not the published {expected}. "
                "Give the official test images and labels in their order."
            )
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
