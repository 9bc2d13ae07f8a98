"""Names to jobs: every name, file and weight is checked here, before any work.

A `Job` is one model with one set of weights on one data set, and the suites that it is evaluated
on; `execute` does what is planned. No training set is read here, and a network is built only where
the registry does not say what can be done with it: a user's, or one whose weights come from a file.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.base import Augmenting, capabilities, check_images
from harness.models.catalog import CATALOG
from harness.models.lookup import Source, source
from harness.models.user_code import adopt, check_names
from harness.refusal import Refusal, user_input
from harness.running.options import Options, resolve_device
from harness.running.recipes import describe_recipe, flags, recipe_for
from harness.running.repeatable import initialize
from harness.storage import checkpoints
from harness.suites.base import Cell, Setting, Suite
from harness.suites.catalog import DATASETS
from harness.suites.datasets import Split, as_input, load
from harness.suites.lookup import metric_of, suite_of, with_metrics
from harness.suites.published import OF_DATASET, Published, files_of


@dataclass(frozen=True)
class Evaluation:
    """A suite with its cells for one data set.

    Args:
        dataset: The data set's name in tables; says so where the images are not its own.
        setting: What the suite was told, the image seed among it.
    """

    name: str
    suite: Suite
    cells: tuple[Cell, ...]
    dataset: str
    setting: Setting


@dataclass(frozen=True)
class Job:
    """One model with one set of weights on one data set, and its evaluations.

    Args:
        seed: Training seed.
        path: Where its trained weights lie, or will.
        file: The weights to load, None for those that its builder brings and for none yet.
        width: Of the model, None where it has none to choose.
        description: Of the weights in `file`.
        built: The network, where planning had to build it; `build` hands it over once.
    """

    source: Source
    dataset: str
    split: Split
    seed: int
    evaluations: tuple[Evaluation, ...]
    path: Path
    file: Path | None
    width: int | None
    description: dict[str, Any]
    built: list[nn.Module] = field(default_factory=list, repr=False, compare=False)

    def build(self) -> nn.Module:
        """Build the network with its initial weights, or those that its builder brings."""
        if self.built:
            return self.built.pop()
        arguments = {} if self.width is None else {"width": self.width}
        classes = len(self.split.classes)
        return initialize(lambda: self.source.build(num_classes=classes, **arguments), self.seed)

    @property
    def trained(self) -> bool:
        """Whether there are weights already."""
        return self.file is not None or self.source.pretrained

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.source.name} on {self.dataset}, seed {self.seed}"


def plan(
    models: Sequence[str | Source],
    datasets: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    options: Options,
) -> list[Job]:
    """Check everything that was asked for, and list the work.

    Args:
        seeds: Training seeds; empty takes that of `--weights`, or 0.

    Raises:
        Refusal: A name that is not there, missing data or weights, files that are damaged or do not
            fit what was asked for, a folder that cannot be written.
    """
    options.check()
    wanted: Sequence[int | None] = seeds or [None]
    with user_input():
        sources = [m if isinstance(m, Source) else source(m) for m in models]
        metrics = [metric_of(name) for name in options.metrics]
        questions = [(name, with_metrics(suite, metrics)) for name, suite in map(suite_of, suites)]
        check_names(models, datasets, suites, options.corruptions, options.metrics)
    if options.weights is not None and len(models) * len(datasets) * max(1, len(seeds)) != 1:
        raise Refusal(
            f"`--weights {options.weights}` fits one model; got {len(models)} models, "
            f"{len(datasets)} data sets and {len(seeds)} seeds. Run them one by one."
        )
    jobs = []
    for dataset in datasets:
        with user_input():
            dataset = adopt(dataset, DATASETS)
            split = load(dataset, train=False, root=options.data)
        if options.limit > len(split):
            raise Refusal(
                f"`--limit {options.limit}` exceeds the {len(split)} test images of `{dataset}`. "
                "Leave it out for all of them."
            )
        setting = Setting(
            split.image_size,
            len(split.classes),
            options.corruptions,
            seed=options.image_seed,
            constants=options.constants,
            source=options.source,
            published=_published(dataset, split, options.data),
        )
        for src in sources:
            for seed in wanted:
                job = _job(src, dataset, split, seed, options)
                jobs.append(_with_evaluations(job, questions, setting, options))
    _check_fairness(jobs, options)
    return jobs


def _published(dataset: str, split: Split, root: Path) -> Callable[[], Published] | None:
    """Return what opens the published corrupted files of a data set, if there are any."""
    if dataset not in OF_DATASET:
        return None

    def opened() -> Published:
        name = OF_DATASET[dataset]
        files = files_of(name, root / name)
        files.verify(())
        files.check_labels(split.labels)
        return files

    return opened


def _check_fairness(jobs: Sequence[Job], options: Options) -> None:
    """Refuse to train a model longer or otherwise than those it will be compared with."""
    device = resolve_device(options.device)
    for new in jobs:
        if new.trained:
            continue
        recipe = recipe_for(new.split, options.epochs, device, options.recipe)
        wanted = describe_recipe(asdict(recipe))
        for old in jobs:
            recipe_of_old = old.description.get("recipe") or {}
            found = describe_recipe(recipe_of_old) if recipe_of_old else wanted
            if old.dataset == new.dataset and found != wanted:
                raise Refusal(
                    f"On {new.dataset}, `{old.source.name}` was trained for {found}, and "
                    f"`{new.source.name}` would be for {wanted}. Give "
                    f"`{flags(recipe_of_old)}`, or start another folder with `--results`."
                )


def _job(src: Source, dataset: str, split: Split, seed: int | None, options: Options) -> Job:
    """One job without evaluations, its weights checked against what was asked for."""
    file, description = options.weights, dict[str, Any]()
    path = checkpoints.weights_path(options.results, dataset, src.name, seed or 0)
    if file is None and path.is_file() and not src.pretrained:
        file = path
    if file is not None:
        description = checkpoints.read_recipe(file, foreign=options.weights is not None)
        _check_agreement(file, description, src, dataset, split, seed, options)
        seed = description.get("seed", 0) if seed is None else seed
    width = options.width
    if not src.scalable:
        if width is not None:
            raise Refusal(f"`{src.name}` has no width to choose. Leave out `--width {width}`.")
    elif width is None:
        width = description.get("arguments", {}).get("width", split.width)
    job = Job(src, dataset, split, seed or 0, (), path, file, width, description)
    if not job.trained and not options.may_train:
        raise Refusal(
            f"There are no weights for `{src.name}`, seed {job.seed}, at {path}. Leave out "
            f"`--no-train`, or run `harness train --model {src.name} --dataset {dataset} "
            f"--seed {job.seed}`."
        )
    return job


def _with_evaluations(
    job: Job,
    questions: Sequence[tuple[str, Suite]],
    setting: Setting,
    options: Options,
) -> Job:
    """The job with the suites it is evaluated on."""
    if job.source.name in CATALOG and options.weights is None:
        can = frozenset(CATALOG[job.source.name].capabilities)
    else:
        with user_input():
            model = job.build()
            if job.file is not None:
                state: dict[str, Tensor] = checkpoints.read(job.file, foreign=True)[0]
                checkpoints.load(model, state, str(job.file))
            check_model(job, model)
            can = capabilities(model.eval())
        job.built.append(model)
    setting = replace(setting, can=can)
    with user_input():
        evaluations = tuple(
            Evaluation(name, suite, suite.cells(setting), _table_name(job, suite, setting), setting)
            for name, suite in questions
        )
    return replace(job, evaluations=evaluations)


def _table_name(job: Job, suite: Suite, setting: Setting) -> str:
    """The data set's name in tables, which tells other images from its own."""
    drawn = f"[image seed {setting.seed}]" if setting.seed else ""
    return job.dataset + suite.variant(setting) + drawn


def _check_agreement(
    path: Path,
    description: dict[str, Any],
    src: Source,
    dataset: str,
    split: Split,
    seed: int | None,
    options: Options,
) -> None:
    """Refuse weights that were trained otherwise than the command says."""
    if "recipe" not in description:
        return  # a file from elsewhere says nothing of itself
    for flag, wanted, found in (
        ("width", options.width, description["arguments"].get("width")),
        ("epochs", options.epochs, description["recipe"]["epochs"]),
        ("model", src.name, description["model"]),
        ("dataset", dataset, description["dataset"]),
        ("seed", seed, description["seed"]),
    ):
        if wanted is not None and wanted != found:
            raise Refusal(
                f"The weights at {path} were trained with {flag} {found}, not {wanted}. Leave out "
                f"`--{flag}`, or keep the other training apart with `--results`."
            )
    if options.recipe is not None:
        device, found = resolve_device(options.device), describe_recipe(description["recipe"])
        recipe = recipe_for(split, options.epochs, device, options.recipe)
        if describe_recipe(asdict(recipe)) != found:
            raise Refusal(
                f"The weights at {path} were trained for {found}, not "
                f"{describe_recipe(asdict(recipe))}. Leave out `--recipe`, or keep the other "
                "training apart with `--results`."
            )
    if description["source"] != src.sha256:
        raise Refusal(
            f"The weights at {path} were trained with another version of the file of `{src.name}`. "
            "Remove them to train again, or keep them apart with `--results`."
        )


def check_model(job: Job, model: nn.Module) -> None:
    """Refuse a model that does not give logits (N, num_classes) for the data set's images.

    One that augments must give images in [0, 1] again, of the test set's first two.

    Raises:
        Refusal: Says what it gives.
    """
    size, classes = job.split.image_size, len(job.split.classes)
    if isinstance(model, Augmenting):
        images = as_input(job.split.images[:2])
        check_images(model.augment(images, torch.Generator().manual_seed(job.seed)))
    with torch.inference_mode():
        logits = model.eval()(torch.zeros(2, 3, size, size))
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, classes):
        raise Refusal(
            f"`{job.source.name}` gives {shape} for 2 images; `{job.dataset}` has {classes} "
            f"classes and needs (2, {classes}). Build it with `num_classes={classes}`, or choose "
            "the data set that its weights were trained on."
        )
