"""What a suite is: conditions, what is observed under each, and how that becomes numbers.

A suite never sees a model's name, a path or a device. Observing is the expensive half and gives
arrays with one row an image; measuring is cheap and can be done again from stored arrays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from models.registry import Registry

Arrays = Mapping[str, Tensor]  # per-image arrays, first dimension N
Subject = Callable[[Tensor], Tensor]  # images (N, 3, H, W) in [0, 1] to logits (N, num_classes)
Prepare = Callable[[Tensor, Tensor, int], Tensor]
Calibrate = Callable[[Any, Tensor], Arrays]


@dataclass(frozen=True)
class Setting:
    """What a suite may know before it lists its conditions.

    Args:
        image_size: Side of the images in pixels.
        num_classes: Number of classes.
        corruptions: Names of corruptions, or of lists of them, in place of the suite's own choice;
            empty keeps it.
        seed: Seed of all random draws on images; the same for all models and training seeds.
        constants: "cifar10_c" or "imagenet_c"; "auto" chooses by the size of the images.
        source: Who makes the corruptions: "harness", or "imagecorruptions" for that package.
        can: What the model can do beyond logits, of "solver", "attention" and "blocks".
        published: Opens the published corrupted files of the data set, whose labels it has
            compared; None where nothing is published.
    """

    image_size: int
    num_classes: int
    corruptions: tuple[str, ...] = ()
    seed: int = 0
    constants: str = "auto"
    source: str = "harness"
    can: frozenset[str] = frozenset()
    published: Callable[[], Any] | None = None


def unchanged(images: Tensor, indices: Tensor, seed: int) -> Tensor:
    """Return `images` as they are."""
    return images


@dataclass(frozen=True)
class Cell:
    """One condition.

    Args:
        condition: "clean", or a corruption's name.
        level: Severity 1-5 of a corruption, 0 where there is none.
        prepare: `(images, indices, seed)`, uint8 (N, 3, H, W) in and out. Row i depends on
            `images[i]`, `indices[i]` (int64, the image's position in its data set) and `seed`,
            on nothing else.
        constants: What else determines the images, such as the set of severity constants.
        how: What the suite's observer wants to know, such as a solver; condition and level say it
            in words.
    """

    condition: str
    level: float = 0
    prepare: Prepare = unchanged
    constants: Mapping[str, str] = field(default_factory=dict)
    how: Any = None


@dataclass(frozen=True)
class Measurement:
    """One number: a row of the long table before it has a model, a data set and a seed."""

    condition: str
    level: float
    metric: str
    value: float
    n: int  # images behind the number


@dataclass(frozen=True)
class Suite:
    """A question.

    Args:
        version: Raised by every change that changes numbers.
        cells: The conditions under a setting.
        observe: `(subject, images, labels, cell)` to arrays with a row for each image; images are
            float (N, 3, H, W) in [0, 1], already prepared.
        measure: `(cell, arrays)` to measurements; the arrays hold `labels` (N,) beside what was
            observed.
        calibrate: What is found once for a model before its cells, from training images
            (N, 3, H, W) in [0, 1]: `(subject, images)` to a mapping that observers find as
            `subject.calibration`. Given the setting, None where the model needs none.
        inside: Whether it looks into the network, or turns its solver. Then the network is asked as
            it was trained, in float32, since bfloat16 rounds more coarsely than solvers err.
        variant: What is added to the data set's name in tables, so that other images are never
            taken for those of the data set's own; "" for nothing.
    """

    version: int
    cells: Callable[[Setting], tuple[Cell, ...]]
    observe: Callable[[Subject, Tensor, Tensor, Cell], Arrays]
    measure: Callable[[Cell, Arrays], Iterable[Measurement]]
    calibrate: Callable[[Setting], Calibrate | None] = lambda setting: None
    inside: bool = False
    variant: Callable[[Setting], str] = lambda setting: ""


SUITES: Registry[Callable[[], Suite]] = Registry("suite")
