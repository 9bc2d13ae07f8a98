"""Work to rows: weights, device, evaluation mode.

`execute` trains what is missing, measures what is not yet stored, and writes one CSV and one JSON
for each (data set, suite, model, seed).
"""

import contextlib
import datetime
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import checkpoints, results
from harness.cells import CellStore, Description
from harness.evaluation import Observed, batch_size_for, calibrate, dtype_for, folding, observe
from harness.files import digest, write_bytes
from harness.options import Options, resolve_device
from harness.planning import Asked, Subject
from harness.progress import Teller
from harness.provenance import command_line, environment
from harness.recipes import recipe_for
from harness.training import train
from suites.base import Measurement
from suites.datasets import load


@dataclass(frozen=True)
class Written:
    """What became of one (data set, suite, model, seed)."""

    path: Path
    dataset: str  # its name in tables
    measured: int  # cells; the rest were stored
    cells: int
    changed: bool


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
    recipe = recipe_for(split, options.epochs, device, options.recipe, options.compile)
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
        f"train {subject.label}", recipe.epochs * recipe.steps_per_epoch(len(split))
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
        for asked in subject.suites:
            yield _measure(subject, model, weights, asked, options, teller)


def _measure(
    subject: Subject,
    model: nn.Module,
    weights: str,
    asked: Asked,
    options: Options,
    teller: Teller,
) -> Written:
    name, suite, cells = asked.name, asked.suite, asked.cells
    device, split, start = resolve_device(options.device), subject.split, time.monotonic()
    batch_size = options.batch_size or batch_size_for(device, split.image_size)
    dtype = dtype_for(suite, options.dtype)
    root = options.results / results.QUICK if options.limit else options.results
    store = CellStore(options.results / "cells")
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
            seed=asked.seed,
            dtype=dtype,
        )
        for cell in cells
    ]
    measurements: list[Measurement] = []
    found = [store.read(d.key) for d in descriptions]
    missing = sum(arrays is None for arrays in found)
    with contextlib.ExitStack() as stack:
        if missing:
            task = stack.enter_context(teller.task(f"{name}: {subject.label}", missing * count))
            split = split.to(device)
            function = Observed(model, device, dtype, asked.seed)
            if asked.calibrate is not None:
                training = load(subject.dataset, train=True, root=options.data)
                calibrate(asked.calibrate, function, training, device)
            stack.enter_context(folding(suite, function, split))
        for cell, described, arrays in zip(cells, descriptions, found, strict=True):
            if arrays is None:
                task.note = f"{cell.condition} {cell.level:g}"
                arrays = observe(
                    suite,
                    cell,
                    function,
                    split,
                    seed=asked.seed,
                    device=device,
                    batch_size=batch_size,
                    limit=options.limit,
                    advance=task.advance,
                )
                store.write(described, arrays)
            measurements.extend(suite.measure(cell, arrays))
    keys = {f"{d.condition} {d.level:g}": d.key for d in descriptions}
    key = {
        "model": subject.source.name,
        "suite": name,
        "dataset": asked.dataset,
        "seed": subject.seed,
        "run": results.run_key(keys, suite.version),
    }
    path = results.csv_path(root, asked.dataset, name, subject.source.name, subject.seed)
    provenance = {
        "version": suite.version,
        "images": count,
        "limit": options.limit,
        "arguments": descriptions[0].arguments,
        "weights": weights,
        "training": subject.description,
        "data": data,
        "transductive": bool(getattr(model, "transductive", False)),
        "image_seed": asked.seed,
        "dtype": dtype,
        "batch_size": batch_size,
        "command": command_line(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - start, 2),
        "cells_measured": missing,
        "environment": environment(device),
        "cells": keys,
    }
    changed = results.write(path, key, measurements, provenance)
    return Written(path, asked.dataset, missing, len(cells), changed)
