"""What a suite is: conditions, what is observed under each, and how that becomes numbers.

A suite never sees a model's name, a path or a device. Observing is the expensive half and gives
arrays with one row an image; measuring is cheap and can be done again from stored arrays.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from harness.suites.metric import Metric
from harness.suites.metrics import METRICS, SCORES

if TYPE_CHECKING:
    from harness.suites.datasets import Split
    from harness.suites.out_sets import OutSet

Arrays = Mapping[str, np.ndarray]  # stored per-image arrays, first dimension N
Tensors = Mapping[str, Tensor]  # the same while they are observed
Prepare = Callable[[Tensor, Tensor, int], Tensor]
Where = tuple[str, float]  # condition and level of a cell


@dataclass(frozen=True)
class Batch:
    """Images of a data set, as one condition prepares them.

    Args:
        images: float (N, 3, H, W), in [0, 1].
        labels: int64 (N,).
        indices: int64 (N,), the images' positions in their data set, on the CPU.
        clean: Arrays that the suite's `remember` found of the same images before they were changed;
            None where the suite remembers nothing.
        earlier: Arrays of the same images under the conditions and levels of the cell's `after`.
        whole: The same of all images that are evaluated, for what follows from all of them.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    clean: "Tensors | None" = None
    earlier: "Mapping[Where, Tensors]" = field(default_factory=dict)
    whole: "Mapping[Where, Tensors]" = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> "Batch":
        """Return some of the images, with what is remembered of them."""
        clean = self.clean and {name: found[which] for name, found in self.clean.items()}
        earlier = {
            where: {name: found[which] for name, found in arrays.items()}
            for where, arrays in self.earlier.items()
        }
        images, labels, indices = self.images[which], self.labels[which], self.indices[which]
        return Batch(images, labels, indices, clean, earlier, self.whole)


class Subject(Protocol):
    """A model in evaluation mode, with all that an observer may use.

    Args:
        model: Network, for the capabilities of `harness.models.base`: maps, blocks, a solver.
        seed: Image seed, of all random draws on images.
        calibration: Arrays that the suite's `calibrate` found; empty where it finds nothing.
    """

    @property
    def model(self) -> nn.Module: ...
    @property
    def seed(self) -> int: ...
    @property
    def calibration(self) -> Tensors: ...

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits (N, num_classes), float32."""
        ...

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Return the context for other calls of `model`: autocast, or nothing."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a suite may know before it lists its conditions.

    Args:
        image_size: Side of the images in pixels.
        num_classes: Number of classes.
        corruptions: Names of corruptions, or of lists of them, in place of the suite's own choice;
            empty keeps it.
        seed: Image seed of all random draws; the same for all models, and for all training seeds
            but in suites that have `draws_by_seed`.
        constants: "cifar10_c" or "imagenet_c"; "auto" chooses by the size of the images.
        source: Maker of the corruptions: "harness", or "imagecorruptions" for that package.
        attack_source: Maker of the attacks: "harness", or "pyautoattack" for that package.
        attack: Attacks to make in place of all, such as "linf", "linf 8"; empty keeps all.
        can: Capabilities of the model beyond logits, as of `harness.models.base.capabilities`; and
            "random" if it draws from a global generator in evaluation.
        published: Function that opens the published corrupted files of the data set and compares
            their labels; None where nothing is published.
        out_of_distribution: Other data sets, whose images are told from those of the data set.
        surrogates: Other networks, whose adversarial images are shown to this one.
        training: Function that reads the training half, for suites that compare with its images.
    """

    image_size: int
    num_classes: int
    corruptions: tuple[str, ...] = ()
    seed: int = 0
    constants: str = "auto"
    source: str = "harness"
    attack_source: str = "harness"
    attack: tuple[str, ...] = ()
    can: frozenset[str] = frozenset()
    published: Callable[[], Any] | None = None
    out_of_distribution: "tuple[OutSet, ...]" = ()
    surrogates: "tuple[Surrogate, ...]" = ()
    training: "Callable[[], Split] | None" = None


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A network that adversarial images are made on, to be shown to another one.

    Args:
        name: Its name in tables.
        weights: Digest of its weights.
        model: In evaluation mode, without gradients of weights.
    """

    name: str
    weights: str
    model: nn.Module


def unchanged(images: Tensor, indices: Tensor, seed: int) -> Tensor:
    """Return `images` as they are."""
    return images


@dataclass(frozen=True)
class Cell:
    """One condition; a suite whose observer needs more derives its own.

    Args:
        condition: "clean", or a corruption's name.
        level: Severity 1-5 of a corruption, 0 where there is none.
        prepare: `(images, indices, seed)`, uint8 (N, 3, H, W) in and out. Row i depends on
            `images[i]`, `indices[i]` (int64, the image's position in its data set) and the image
            seed, on nothing else.
        constants: All else that determines the images, such as the set of severity constants.
        after: Conditions and levels of cells that come before it in the suite and whose arrays its
            observer needs; it finds them as `batch.earlier`. They must follow from what is in the
            key of this cell, so that it is the same whether they were measured or read.
    """

    condition: str
    level: float = 0
    prepare: Prepare = unchanged
    constants: Mapping[str, str] = field(default_factory=dict)
    after: tuple[Where, ...] = field(default=(), kw_only=True)

    def row(self, metric: Metric, value: float, n: int, variant: str = "") -> "Measurement":
        """Return a measurement under this condition."""
        return Measurement(self.condition, self.level, metric.name, variant, value, n)


C = TypeVar("C", bound=Cell)


@dataclass(frozen=True)
class Measurement:
    """One number: a row of the long table before it has a model, a data set and a seed.

    Args:
        metric: Name of a metric; `variant` which of its family.
        n: Images behind the number.
    """

    condition: str
    level: float
    metric: str
    variant: str
    value: float
    n: int


@dataclass(frozen=True)
class Suite(Generic[C]):
    """A question.

    Args:
        version: Number that every change of the suite's numbers, or of observed arrays, raises.
        cells: The conditions under a setting.
        observe: `(subject, batch, cell)` to tensors with a row for each image.
        measure: `(cell, arrays)` to measurements; the arrays hold `labels` (N,) and `indices` (N,)
            along with what was observed.
        metrics: Metrics that `measure` gives, in the order of tables; `METRICS` gets them.
        calibrate: Function of the setting to the function `(subject, images)` that is called once
            before the cells, with training images (N, 3, H, W) in [0, 1]; observers find what it
            returns as `subject.calibration`. None where the model needs none.
        remember: `(subject, batch)` to arrays that the observer needs of the clean images of each
            batch, found once and not for every condition: they are `batch.clean`.
        inside: Whether it looks into the network, or turns its solver. Then the network is
            evaluated as it was trained, in float32, since bfloat16 rounds more coarsely than
            solvers err.
        gradients: Whether it follows gradients of logits with respect to images, which it takes in
            float32.
        batches: How many default batches it sees at once on a CPU: more than one where the images
            of a batch leave the work one by one, or share work that does not grow with them.
        draws_by_seed: Whether its draws are other ones for each training seed, since they are not
            changes of the images, the same for all networks, but what is measured: noise that
            samples start from.
        variant: Text that is added to the data set's name in tables, so that other images are never
            taken for the data set's own; "" for none.
        table: Function of the rows, a DataFrame, to a DataFrame or a `Sheet` of
            `harness.present`; None for its leaderboard.
        figure: Function of the rows to a matplotlib Figure; None for the general one.
    """

    version: int
    cells: Callable[[Setting], tuple[C, ...]]
    observe: Callable[[Subject, Batch, C], Tensors]
    measure: Callable[[Cell, Arrays], Iterable[Measurement]]
    metrics: tuple[Metric, ...] = SCORES
    calibrate: Callable[[Setting], Callable[[Subject, Tensor], Tensors] | None] = lambda setting: (
        None
    )
    remember: Callable[[Subject, Batch], Tensors] | None = None
    inside: bool = False
    gradients: bool = False
    batches: int = 1
    draws_by_seed: bool = False
    variant: Callable[[Setting], str] = lambda setting: ""
    table: Callable[[Any], Any] | None = None
    figure: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        METRICS.add(*self.metrics)

    def draw_seed(self, image_seed: int, training_seed: int) -> int:
        """Return the seed of all random draws, given those of a run."""
        return image_seed + ((training_seed if self.draws_by_seed else 0) << 32)
