"""A data set as each network wants it: its pictures framed, its labels among the network's."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from harness.console import Console
from harness.models.lookup import Source
from harness.models.preprocessing import (
    NETWORK,
    Preprocessing,
    parse_preprocessing,
    prepare,
    preprocessing_of,
    said_by,
)
from harness.models.source_code import code_of, digest
from harness.progress import Progress
from harness.refusal import Refusal
from harness.running.initial import initialize
from harness.running.labels import map_labels
from harness.running.options import Options
from harness.running.out_sets import out_sets
from harness.storage import checkpoints
from harness.suites.base import Setting
from harness.suites.dataset_names import dataset_name, parse_dataset
from harness.suites.datasets import Split, load
from harness.suites.folder_reading import Reading, Task
from harness.suites.image_folders import list_images
from harness.suites.label_maps import LabelMap, label_map
from harness.suites.out_sets import OutSet
from harness.suites.published import OF_DATASET, files_in
from harness.suites.published_pictures import PublishedPictures


class Data:
    """One data set of a command; its images are read when a network's frame is known.

    Args:
        spec: What was asked for.
        progress: Shows that pictures are read, where that takes long.

    Raises:
        FileNotFoundError, LookupError, ValueError: As of `load`, `list_images` and `label_map`.
    """

    def __init__(self, spec: str, options: Options, progress: Progress | None = None) -> None:
        self.spec, self._options, self._progress = spec, options, progress
        name = dataset_name(spec)
        self.name = f"{name} (mapped only)" if options.mapped_only else name
        self.labels: LabelMap | None = None
        self._halves: dict[Reading, Split] = {}
        self._pictures: dict[tuple[Path, ...], PublishedPictures] = {}  # listed once for all
        self._others: dict[tuple[int, Reading], tuple[OutSet, ...]] = {}
        self._training: dict[Reading, Split] = {}  # the last that was asked for
        folder = parse_dataset(spec).folder
        self._folder = folder
        classes = list_images(folder).classes if folder is not None else self.half().classes
        if options.labels is not None:
            self.labels = label_map(options.labels, classes)
            self._halves.clear()
        self.folders = classes
        self.classes = len(self.labels.classes if self.labels else classes)

    def half(self, reading: Reading | None = None) -> Split:
        """Return the test images, with labels as the network has them.

        Raises:
            Refusal: More were asked for.
        """
        reading = reading or Reading(skip_damaged=self._options.skip_damaged)
        root = self._options.data
        if reading not in self._halves:
            split = load(self.spec, train=False, root=root, reading=reading, watch=self._watch)
            self._halves[reading] = map_labels(split, self.labels, self._options.mapped_only)
        split = self._halves[reading]
        if self._options.limit > len(split):
            raise Refusal(
                f"`--limit {self._options.limit}` exceeds the {len(split)} test images of "
                f"`{self.name}`. Leave it out for all of them."
            )
        return split

    def _watch(self, count: int) -> AbstractContextManager[Task]:
        """Show that pictures are read."""
        return self._task(f"read {self.name}", count, "pictures")

    def _task(self, what: str, count: int, unit: str) -> AbstractContextManager[Task]:
        progress = self._progress or Progress(Console(stderr=True), "quiet")
        return progress.task(what, count, unit)

    def framed(self, src: Source, weights: Sequence[Path]) -> Split:
        """Return the test images as a network wants them; `src` is one of `prepared`.

        Args:
            weights: Files that were given for it, none or one.
        """
        options = self._options
        reading = Reading(None, options.skip_damaged, _brings_weights(src, weights))
        if self._folder and not (src.ours and options.preprocessing == NETWORK):
            arguments = {"width": options.width} if src.scalable and options.width else {}
            net = initialize(lambda: src.build(num_classes=self.classes, **arguments), 0)
            reading = replace(reading, framing=preprocessing_of(net).framing)
        return self.half(reading if self._folder else None)

    def setting(self, split: Split) -> Setting:
        """Return what suites may know of it."""
        options, frame = self._options, (split.image_size, split.reading)
        if frame not in self._others:
            self._others[frame] = out_sets(self.spec, split, options)
        return Setting(
            split.image_size,
            len(split.classes),
            options.corruptions,
            seed=options.image_seed,
            constants=options.constants,
            source=options.source,
            attack_source=options.attack_source,
            attack=options.attack,
            published=self._published(split),
            out_of_distribution=self._others[frame],
            training=lambda: self._training_half(split.reading),
        )

    def _training_half(self, reading: Reading) -> Split:
        """The training images, with labels as the network has them."""
        if reading not in self._training:
            root = self._options.data
            split = load(self.spec, train=True, root=root, reading=reading, watch=self._watch)
            split = map_labels(split, self.labels, self._options.mapped_only)
            self._training = {reading: split}
        return self._training[reading]

    def _published(self, split: Split) -> Callable[[], Any] | None:
        """What opens the published corrupted files of it, if there are any."""
        root = self._options.data
        if self.name in OF_DATASET:
            return lambda: files_in(OF_DATASET[self.name], root, split.labels)
        if split.read is None:
            return None
        watch = partial(self._task, "list ImageNet-C", unit="folders")
        found = PublishedPictures(root, split.files, split.read, watch)
        found = self._pictures.setdefault(split.files, found).read_by(split.read)
        return lambda: found

    def notes(self, split: Split) -> list[str]:
        """Return what a network that comes with its weights is told of the test images."""
        said = []
        if self._folder and split.reading.whole and not list_images(self._folder).halves:
            said.append(
                f"All {len(split)} images of `{self.name}`, which has no halves, are test images, "
                "since the network comes with its weights."
            )
        if self.labels is not None:
            said.append(self.labels.describe())
        elif self._folder and list(self.folders) != sorted(self.folders):
            said.append(
                f"The folders of `{self.name}` are numbers, and stand in their order: "
                f"{', '.join(self.folders[:3])}, ..., {self.folders[-1]}; torchvision's "
                "ImageFolder orders them as words. `--labels` with a CSV gives another order."
            )
        return said


def _brings_weights(src: Source, weights: Sequence[Path]) -> bool:
    """Whether a network's weights are of elsewhere, and not of a training on the data set here."""
    if not weights:
        return src.pretrained
    return "recipe" not in checkpoints.read_recipe(checkpoints.find_file(weights[0]), foreign=True)


def prepared(src: Source, options: Options) -> Source:
    """Return a source whose networks preprocess images as they say, or as the options do.

    Raises:
        ValueError: The options say it wrongly.
    """
    told = None
    if options.preprocessing != NETWORK:
        told = parse_preprocessing(options.preprocessing)
    elif src.ours:
        return src
    weighted = bool(options.weights) or src.pretrained

    def build(num_classes: int = 0, **arguments: int) -> nn.Module:
        net = src.build(num_classes=num_classes, **arguments)
        return prepare(net, said_by(net, weighted) if told is None else told)

    code = {"preprocessing": digest({"": repr(told)}, code_of(Preprocessing))} if told else {}
    return replace(src, build=build, code={**src.code, **code})


def describe_preprocessing(name: str, said: Preprocessing, split: Split) -> str:
    """Return a sentence on what a network with weights from elsewhere is given."""
    frame: object = split.framing or said.inner
    if said.framing and split.framing and said.framing != split.framing:
        frame = f"{split.framing.size} x {split.framing.size} pixels, as all are"
    if said.mean or said.gray:
        return f"`{name}` is given images {said.describe(frame)}."
    text = f"of {frame}, in [0, 1]" if frame else "in [0, 1]"
    return (
        f"`{name}` is given images {text}. Give `--preprocessing imagenet`, or its own mean and "
        "deviation, if it has learned from normalized ones."
    )
