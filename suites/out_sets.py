"""Images of another data set, one in the place of each image of the data set that is evaluated."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.suites.catalog import CORRUPTIONS, FAMILIES
from harness.suites.dataset_names import check_datasets, dataset_name
from harness.suites.datasets import Split, load
from harness.suites.folder_reading import USUAL, Reading
from harness.suites.stored_images import Images, blocks

OPTION = "--out-of-distribution"
TAKEN = ("clean", "common", "noise+blur", *FAMILIES)  # conditions and groups of them


@dataclass(frozen=True, eq=False)
class OutSet:
    """Test images of another data set; its labels and classes do not count.

    There are as many as images that are evaluated, spread evenly; where there are fewer, each
    stands in several places, and counts in the first.

    Args:
        name: Of the data set.
        images: uint8 (M, 3, H', H').
        image_size: Side in pixels to which they are resized.
        place: int64 (N,), the image in the place of each of the data set's.
        counts: bool (N,), whether it counts there.
    """

    name: str
    images: Images
    image_size: int
    place: Tensor
    counts: Tensor

    def prepare(self, images: Tensor, indices: Tensor, seed: int) -> Tensor:
        """Return the images in the places `indices`, uint8 (n, 3, H, H), resized where need be."""
        found = self.images[self.place[indices.cpu()]]
        if found.shape[-1] != self.image_size:
            found = resized(found, self.image_size)
        return found.to(images.device)

    def positions(self, indices: Tensor) -> Tensor:
        """Return the positions (n,) of these images in their data set, -1 for those not counted."""
        return self.place[indices].where(self.counts[indices], torch.tensor(-1))

    @cached_property
    def constants(self) -> dict[str, str]:
        """What determines the images: their fingerprint, and how they are resized."""
        size = self.images.shape[-1]
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for block in blocks(self.images):
            digest.update(block.contiguous().numpy().data)
        found = {"images": digest.hexdigest()}
        if size != self.image_size:
            found["resized"] = f"from {size} to {self.image_size} pixels, bilinear, antialias"
        return found


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 images (N, 3, H, H) as (N, 3, size, size), bilinear with antialiasing."""
    found = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return found.round().clamp(0, 255).to(torch.uint8)


def in_places(name: str, images: Images, size: int, total: int, shown: Tensor) -> OutSet:
    """Return images in the places of those that are evaluated.

    Args:
        size: Side of the data set's images; `total` how many there are.
        shown: int64 (N,), the positions of those that are evaluated, ascending.
    """
    among = torch.arange(len(shown)) * min(len(shown), len(images)) // len(shown)
    place, counts = torch.zeros(total, dtype=torch.int64), torch.zeros(total, dtype=torch.bool)
    place[shown] = among * len(images) // min(len(shown), len(images))
    counts[shown] = among.diff(prepend=torch.tensor([-1])) > 0
    return OutSet(name, images, size, place, counts)


def open_sets(
    specs: Sequence[str],
    dataset: str,
    split: Split,
    shown: Tensor,
    root: Path,
    reading: Reading = USUAL,
) -> tuple[OutSet, ...]:
    """Return the test images of other data sets in the places of those of `split`.

    Args:
        specs: As of `harness.suites.datasets.load`.
        dataset: What was asked for as the data set itself.
        shown: int64 (N,), the positions of its images that are evaluated.
        root: Folder of the official files.
        reading: How pictures in files are read.

    Raises:
        LookupError: There is no such data set.
        FileNotFoundError: Its files are not there.
        ValueError: It is the data set itself, its name is that of a condition, or as of `load`.
    """
    found = []
    try:
        check_datasets([dataset, *specs])
        for spec in dict.fromkeys(specs):
            name = dataset_name(spec)
            if name == dataset_name(dataset):
                raise ValueError(
                    f"`{OPTION} {spec}` names the data set that is evaluated. Name another one."
                )
            if name in TAKEN or name in CORRUPTIONS:
                raise ValueError(
                    f"`{name}` is the name of a condition. Give the data set another one with "
                    f"`{OPTION} NAME=PATH`."
                )
            images = load(spec, train=False, root=root, reading=reading).images
            found.append(in_places(name, images, split.image_size, len(split), shown))
    except (LookupError, FileNotFoundError, ValueError) as error:
        raise type(error)(str(error).replace("--dataset", OPTION)) from error
    return tuple(found)
