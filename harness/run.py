"""Names to work, work to rows: weights, device, evaluation mode.

`plan` checks every name, file and weight before any work; `execute` trains what is missing,
measures what is not yet stored, and writes one CSV and one JSON for each (data set, suite, model,
seed).
"""

import contextlib
import datetime
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import checkpoints, results
from harness.cells import CellStore, Description
from harness.evaluation import observe, subject_of
from harness.files import digest, write_bytes
from harness.progress import Teller
from harness.provenance import command_line, environment
from harness.training import EPOCHS, initialized, recipe_for, train
from models.lookup import Source, source
from suites.base import SUITES, Cell, Measurement, Setting, Suite
from suites.datasets import Split, load

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Options:
    """How to train and measure, the same for everything in one command.

    Args:
        results: Folder that everything is written below.
        data: Folder of the official files.
        width: Channels of scalable models; None takes that of the weights, or the data set's own.
        epochs: Of training; None takes those of the weights, or of the recipe.
        recipe: Name in `EPOCHS`.
        may_train: Whether missing weights are trained.
        weights: A file in place of trained weights.
        limit: How many test images, 0 for all.
        corruptions: Names in place of the suite's own choice.
    """

    results: Path
    data: Path
    width: int | None = None
    epochs: int | None = None
    recipe: str = "fast"
    may_train: bool = True
    weights: Path | None = None
    limit: int = 0
    batch_size: int = 500
    device: str = "auto"
    dtype: str = "float32"
    corruptions: tuple[str, ...] = ()


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
    suites: tuple[tuple[str, Suite, tuple[Cell, ...]], ...]
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


@dataclass(frozen=True)
class Written:
    """What became of one (data set, suite, model, seed)."""

    path: Path
    measured: int  # cells; the rest were stored
    cells: int
    changed: bool


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ValueError(
            f"The device `{name}` is not available here. Use `--device auto`, or `cpu`."
        ) from None
    return device


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
    _check_options(options)
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
        setting = Setting(split.image_size, len(split.classes), options.corruptions)
        with_cells = tuple((name, suite, suite.cells(setting)) for name, suite in asked)
        for src in sources:
            for seed in seeds:
                subjects.append(_subject(src, dataset, split, seed, with_cells, options))
    _check_fairness(subjects, options)
    return subjects


def _check_fairness(subjects: Sequence[Subject], options: Options) -> None:
    """Refuse to train a model longer or shorter than those it will be compared with."""
    epochs = options.epochs or EPOCHS[options.recipe]
    for new in subjects:
        for old in subjects:
            found = old.description.get("recipe", {}).get("epochs", epochs)
            if not new.trained and old.dataset == new.dataset and found != epochs:
                raise ValueError(
                    f"On {new.dataset}, `{old.source.name}` was trained for {found} epochs, and "
                    f"`{new.source.name}` would be for {epochs}. Give `--epochs {found}`, or start "
                    "another folder with `--results`."
                )


def _check_options(options: Options) -> None:
    resolve_device(options.device)
    if options.dtype not in DTYPES:
        raise ValueError(f"There is no dtype `{options.dtype}`. Use {' or '.join(DTYPES)}.")
    if options.recipe not in EPOCHS:
        raise ValueError(f"There is no recipe `{options.recipe}`. Use {' or '.join(EPOCHS)}.")
    for name, least in (("batch_size", 1), ("limit", 0), ("width", 1), ("epochs", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            flag = name.replace("_", "-")
            raise ValueError(f"`--{flag}` must be at least {least}; got {value}.")
    check_writable(options.results)


def check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to.

    Raises:
        PermissionError: Says which.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f"Nothing can be written to {folder}: {os.strerror(error.errno or 0)}. Choose another "
            "folder with `--results`."
        ) from None


def _subject(
    src: Source,
    dataset: str,
    split: Split,
    seed: int,
    suites: tuple[tuple[str, Suite, tuple[Cell, ...]], ...],
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
        _check_agreement(file, description, src, dataset, options)
        seed = description.get("seed", seed)
    width = options.width
    if not src.scalable:
        if width is not None:
            raise ValueError(f"`{src.name}` has no width to choose. Leave out `--width {width}`.")
    elif width is None:
        width = description.get("arguments", {}).get("width", split.width)
    subject = Subject(src, dataset, split, seed, suites, path, file, width, description)
    if subject.trained:
        model = subject.build()
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
        check_model(subject, subject.build())
        load(dataset, train=True, root=options.data)
    return subject


def _check_agreement(
    path: Path, description: dict[str, Any], src: Source, dataset: str, options: Options
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
    if description["source"] != src.sha256:
        raise ValueError(
            f"The weights at {path} were trained with another version of the file of `{src.name}`. "
            "Remove them to train again, or keep them apart with `--results`."
        )


def check_model(subject: Subject, model: nn.Module) -> None:
    """Refuse a model that does not give logits (N, num_classes) for the data set's images.

    Raises:
        ValueError: Says what it gives.
    """
    size, classes = subject.split.image_size, len(subject.split.classes)
    with torch.inference_mode():
        logits = model.eval()(torch.zeros(2, 3, size, size))
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, classes):
        raise ValueError(
            f"`{subject.source.name}` gives {shape} for 2 images; `{subject.dataset}` has "
            f"{classes} classes and needs (2, {classes}). Build it with `num_classes={classes}`, "
            "or choose the data set that its weights were trained on."
        )


def trained(subject: Subject, options: Options, teller: Teller) -> tuple[nn.Module, dict[str, Any]]:
    """Return the subject's model with its weights, and their description; train what is missing."""
    device = resolve_device(options.device)
    if not subject.trained:
        return _train(subject, options, teller, device)
    subject.path.with_suffix(".partial").unlink(missing_ok=True)  # killed before it could
    model = subject.build()
    if subject.file is not None:
        state, _ = checkpoints.read(subject.file, foreign=True)
        checkpoints.load(model, state, str(subject.file))
    return model, subject.description


def _train(
    subject: Subject, options: Options, teller: Teller, device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    split = load(subject.dataset, train=True, root=options.data)
    recipe = recipe_for(split, options.epochs or EPOCHS[options.recipe], device)
    identity = {
        "model": subject.source.name,
        "source": subject.source.sha256,
        "arguments": {} if subject.width is None else {"width": subject.width},
        "dataset": subject.dataset,
        "data": split.fingerprint(),
        "num_classes": len(split.classes),
    }
    teller.say(
        f"There are no weights for {subject.label} yet: training {recipe.epochs} epochs of "
        f"{len(split)} images."
    )
    start = time.monotonic()
    partial = subject.path.with_suffix(".partial")
    with teller.task(
        f"train {subject.label}", recipe.epochs * (len(split) // recipe.batch_size)
    ) as t:
        model, history = train(
            subject.build,
            split,
            recipe,
            seed=subject.seed,
            device=device,
            partial=partial,
            identity=identity,
            report=lambda step, steps, loss, accuracy: t.to(
                step, f"loss {loss:.3f}, accuracy {accuracy:.1%}"
            ),
        )
    description = identity | {"seed": subject.seed, "recipe": asdict(recipe)}
    log = {"history": history, "wall_s": round(time.monotonic() - start, 1)}
    log |= description | {"command": command_line(), "environment": environment(device)}
    write_bytes(subject.path.with_suffix(".json"), (json.dumps(log, indent=2) + "\n").encode())
    checkpoints.write(subject.path, model.state_dict(), description)
    partial.unlink(missing_ok=True)
    return model, description


def execute(subjects: Sequence[Subject], options: Options, teller: Teller) -> Iterator[Written]:
    """Do the planned work; yield each file as it is complete.

    Raises:
        FloatingPointError: A model gave something that is not a number, or training diverged.
    """
    for subject in subjects:
        model, description = trained(subject, options, teller)
        weights = digest(model.state_dict())
        subject = replace(subject, description=description)
        for name, suite, cells in subject.suites:
            yield _measure(subject, model, weights, name, suite, cells, options, teller)


def _measure(
    subject: Subject,
    model: nn.Module,
    weights: str,
    name: str,
    suite: Suite,
    cells: tuple[Cell, ...],
    options: Options,
    teller: Teller,
) -> Written:
    device, split, start = resolve_device(options.device), subject.split, time.monotonic()
    root = options.results / results.QUICK if options.limit else options.results
    store = CellStore(options.results / "cells")
    setting = Setting(split.image_size, len(split.classes), options.corruptions)
    data, count = split.fingerprint(), options.limit or len(split)
    descriptions = [
        Description(
            weights=weights,
            model=subject.source.name,
            source=subject.source.sha256,
            arguments={} if subject.width is None else {"width": subject.width},
            data=data,
            limit=options.limit,
            suite=name,
            version=suite.version,
            condition=cell.condition,
            level=cell.level,
            constants=dict(cell.constants),
            seed=setting.seed,
            dtype=options.dtype,
        )
        for cell in cells
    ]
    measurements: list[Measurement] = []
    found = [store.read(d.key) for d in descriptions]
    missing = sum(arrays is None for arrays in found)
    with contextlib.ExitStack() as stack:
        if missing:
            task = stack.enter_context(teller.task(f"{name}: {subject.label}", missing * count))
            function = subject_of(model, device, options.dtype)
        for cell, described, arrays in zip(cells, descriptions, found, strict=True):
            if arrays is None:
                task.note = f"{cell.condition} {cell.level:g}"
                arrays = observe(
                    suite,
                    cell,
                    function,
                    split,
                    seed=setting.seed,
                    device=device,
                    batch_size=options.batch_size,
                    limit=options.limit,
                    advance=task.advance,
                )
                store.write(described, arrays)
            measurements.extend(suite.measure(cell, arrays))
    keys = {f"{d.condition} {d.level:g}": d.key for d in descriptions}
    key = {
        "model": subject.source.name,
        "suite": name,
        "dataset": subject.dataset,
        "seed": subject.seed,
        "run": results.run_key(keys, suite.version),
    }
    path = results.csv_path(root, subject.dataset, name, subject.source.name, subject.seed)
    provenance = {
        "version": suite.version,
        "images": count,
        "limit": options.limit,
        "arguments": descriptions[0].arguments,
        "weights": weights,
        "training": subject.description,
        "data": data,
        "image_seed": setting.seed,
        "dtype": options.dtype,
        "batch_size": options.batch_size,
        "command": command_line(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - start, 2),
        "cells_measured": missing,
        "environment": environment(device),
        "cells": keys,
    }
    changed = results.write(path, key, measurements, provenance)
    return Written(path, missing, len(cells), changed)
