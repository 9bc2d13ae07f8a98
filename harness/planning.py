"""Names to work: every name, file and weight is checked here, before any work.

A `Subject` is one model with one set of weights on one data set, and the suites that it is asked;
`run.execute` does what is planned.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import checkpoints
from harness.options import Options, resolve_device
from harness.recipes import flags, recipe_for, spoken
from harness.training import initialized
from models.base import Augmenting, capabilities, check_images
from models.lookup import Source, source
from suites.base import SUITES, Calibrate, Cell, Setting, Suite
from suites.datasets import Split, as_input, load
from suites.published import OF_DATASET, Published, published


@dataclass(frozen=True)
class Asked:
    """A suite with its cells for one data set.

    Args:
        dataset: The data set's name in tables; says so where the images are not its own.
        seed: Of the draws on images.
        calibrate: What the suite finds beforehand, from training images.
    """

    name: str
    suite: Suite
    cells: tuple[Cell, ...]
    dataset: str
    seed: int
    calibrate: Calibrate | None


@dataclass(frozen=True)
class Subject:
    """One model with one set of weights on one data set, and the suites that it is asked.

    Args:
        path: Where its trained weights lie, or will.
        file: The weights to load, None for those that its builder brings and for none yet.
        width: Of the model, None where it has none to choose.
        description: Of the weights in `file`.
    """

    source: Source
    dataset: str
    split: Split
    seed: int
    suites: tuple[Asked, ...]
    path: Path
    file: Path | None
    width: int | None
    description: dict[str, Any]

    def build(self) -> nn.Module:
        """Build the model, with the weights that it starts from."""
        arguments = {} if self.width is None else {"width": self.width}
        return initialized(
            lambda: self.source.build(num_classes=len(self.split.classes), **arguments), self.seed
        )

    @property
    def trained(self) -> bool:
        """Whether there are weights already."""
        return self.file is not None or self.source.pretrained

    @property
    def label(self) -> str:
        return f"{self.source.name} on {self.dataset}, seed {self.seed}"


def plan(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    options: Options,
) -> list[Subject]:
    """Check everything that was asked for, and list the work.

    Raises:
        LookupError: A name that is not there.
        FileNotFoundError: Missing data or weights.
        ValueError: Files that are damaged, or do not fit what was asked for.
        PermissionError: The results folder cannot be written.
    """
    options.check()
    sources = [source(name) for name in models]
    asked = [(name, SUITES[name]()) for name in suites]
    if options.weights is not None and len(models) * len(datasets) * len(seeds) != 1:
        raise ValueError(
            f"`--weights {options.weights}` fits one model; got {len(models)} models, "
            f"{len(datasets)} data sets and {len(seeds)} seeds. Run them one by one."
        )
    subjects = []
    for dataset in datasets:
        split = load(dataset, train=False, root=options.data)
        if options.limit > len(split):
            raise ValueError(
                f"`--limit {options.limit}` exceeds the {len(split)} test images of `{dataset}`. "
                "Leave it out for all of them."
            )
        setting = Setting(
            split.image_size,
            len(split.classes),
            options.corruptions,
            constants=options.constants,
            source=options.source,
            published=_published(dataset, split, options.data),
        )
        for src in sources:
            for seed in seeds:
                subjects.append(_subject(src, dataset, split, seed, asked, setting, options))
    _check_fairness(subjects, options)
    return subjects


def _published(dataset: str, split: Split, root: Path) -> Callable[[], Published] | None:
    """Return what opens the published corrupted files of a data set, if there are any."""
    if dataset not in OF_DATASET:
        return None

    def opened() -> Published:
        name = OF_DATASET[dataset]
        files = published(name, root / name)
        files.verify(())
        files.check_labels(split.labels)
        return files

    return opened


def _check_fairness(subjects: Sequence[Subject], options: Options) -> None:
    """Refuse to train a model longer or otherwise than those it will be compared with."""
    device = resolve_device(options.device)
    for new in subjects:
        if new.trained:
            continue
        wanted = spoken(asdict(recipe_for(new.split, options.epochs, device, options.recipe)))
        for old in subjects:
            found = spoken(old.description["recipe"]) if "recipe" in old.description else wanted
            if old.dataset == new.dataset and found != wanted:
                cure = flags(old.description["recipe"])
                raise ValueError(
                    f"On {new.dataset}, `{old.source.name}` was trained for {found}, and "
                    f"`{new.source.name}` would be for {wanted}. Give `{cure}`, or start another "
                    "folder with `--results`."
                )


def _subject(
    src: Source,
    dataset: str,
    split: Split,
    seed: int,
    suites: Sequence[tuple[str, Suite]],
    setting: Setting,
    options: Options,
) -> Subject:
    path = checkpoints.weights_path(options.results, dataset, src.name, seed)
    file = options.weights
    if file is None and path.is_file() and not src.pretrained:
        file = path
    state: dict[str, Tensor] = {}
    description: dict[str, Any] = {}
    if file is not None:
        state, description = checkpoints.read(file, foreign=options.weights is not None)
        _check_agreement(file, description, src, dataset, split, options)
        seed = description.get("seed", seed)
    width = options.width
    if not src.scalable:
        if width is not None:
            raise ValueError(f"`{src.name}` has no width to choose. Leave out `--width {width}`.")
    elif width is None:
        width = description.get("arguments", {}).get("width", split.width)
    subject = Subject(src, dataset, split, seed, (), path, file, width, description)
    model = subject.build()
    if subject.trained:
        if file is not None:
            checkpoints.load(model, state, str(file))
        check_model(subject, model)
    elif not options.may_train:
        raise FileNotFoundError(
            f"There are no weights for `{src.name}`, seed {seed}, at {path}. Leave out "
            f"`--no-train`, or run `harness train --model {src.name} --dataset {dataset} "
            f"--seed {seed}`."
        )
    else:
        check_model(subject, model)
        load(dataset, train=True, root=options.data)
    setting = replace(setting, can=capabilities(model.eval()))
    asked = tuple(
        Asked(
            name,
            suite,
            suite.cells(setting),
            dataset + suite.variant(setting),
            setting.seed,
            suite.calibrate(setting),
        )
        for name, suite in suites
    )
    if any(a.calibrate is not None for a in asked):
        load(dataset, train=True, root=options.data)
    return replace(subject, suites=asked)


def _check_agreement(
    path: Path,
    description: dict[str, Any],
    src: Source,
    dataset: str,
    split: Split,
    options: Options,
) -> None:
    """Refuse weights that were trained otherwise than the command says."""
    if "recipe" not in description:
        return  # a file from elsewhere says nothing of itself
    for flag, asked, found in (
        ("width", options.width, description["arguments"].get("width")),
        ("epochs", options.epochs, description["recipe"]["epochs"]),
        ("model", src.name, description["model"]),
        ("dataset", dataset, description["dataset"]),
    ):
        if asked is not None and asked != found:
            raise ValueError(
                f"The weights at {path} were trained with {flag} {found}, not {asked}. Leave out "
                f"`--{flag}`, or keep the other training apart with `--results`."
            )
    if options.recipe is not None:
        device, found = resolve_device(options.device), spoken(description["recipe"])
        asked = spoken(asdict(recipe_for(split, options.epochs, device, options.recipe)))
        if asked != found:
            raise ValueError(
                f"The weights at {path} were trained for {found}, not {asked}. Leave out "
                "`--recipe`, or keep the other training apart with `--results`."
            )
    if description["source"] != src.sha256:
        raise ValueError(
            f"The weights at {path} were trained with another version of the file of `{src.name}`. "
            "Remove them to train again, or keep them apart with `--results`."
        )


def check_model(subject: Subject, model: nn.Module) -> None:
    """Refuse a model that does not give logits (N, num_classes) for the data set's images.

    One that augments must give images in [0, 1] again, of the test set's first two.

    Raises:
        ValueError: Says what it gives.
    """
    size, classes = subject.split.image_size, len(subject.split.classes)
    if isinstance(model, Augmenting):
        images = as_input(subject.split.images[:2])
        check_images(model.augment(images, torch.Generator().manual_seed(subject.seed)))
    with torch.inference_mode():
        logits = model.eval()(torch.zeros(2, 3, size, size))
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, classes):
        raise ValueError(
            f"`{subject.source.name}` gives {shape} for 2 images; `{subject.dataset}` has "
            f"{classes} classes and needs (2, {classes}). Build it with `num_classes={classes}`, "
            "or choose the data set that its weights were trained on."
        )
