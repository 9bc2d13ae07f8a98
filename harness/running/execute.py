"""Jobs to rows: train what is missing, measure what is not yet stored.

One CSV and one JSON for each (data set, suite, model, seed).
"""

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.progress import Progress, Task
from harness.refusal import Failure, user_input
from harness.running.environment import environment
from harness.running.evaluate import (
    Evaluated,
    Memory,
    batch_size_for,
    calibrated,
    dtype_for,
    folding,
    observe,
)
from harness.running.options import Options, resolve_device
from harness.running.plan import Evaluation, Job
from harness.running.recipes import recipe_for
from harness.running.train import train
from harness.storage import checkpoints, results
from harness.storage.cells import CellStore, Description
from harness.storage.json_files import write_json
from harness.storage.provenance import command_line
from harness.suites.base import Arrays
from harness.suites.datasets import load
from harness.suites.metrics import BUILT_IN, METRICS


@dataclass(frozen=True)
class Written:
    """What became of one (data set, suite, model, seed)."""

    path: Path
    dataset: str  # its name in tables
    measured: int  # cells; the rest were stored
    cells: int
    changed: bool


def trained(job: Job, options: Options, progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
    """Return the job's model with its weights, and their description; train what is missing."""
    if not job.trained:
        return _train(job, options, progress, resolve_device(options.device))
    job.path.with_suffix(".partial").unlink(missing_ok=True)  # killed before it could
    loaded = bool(job.built)  # with its weights, by `plan`
    model = job.build()
    if job.file is not None and not loaded:
        state, _ = checkpoints.read(job.file, foreign=True)
        checkpoints.load(model, state, str(job.file))
    return model, job.description


def _train(
    job: Job, options: Options, progress: Progress, device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    with user_input():
        split = load(job.dataset, train=True, root=options.data)
    recipe = recipe_for(split, options.epochs, device, options.recipe, options.compile)
    identity = {
        "model": job.source.name,
        "source": job.source.sha256,
        "arguments": {} if job.width is None else {"width": job.width},
        "dataset": job.dataset,
        "data": split.fingerprint(),
        "num_classes": len(split.classes),
    }
    progress.say(
        f"There are no weights for {job.label} yet: training {recipe.epochs} epochs of "
        f"{len(split)} images."
    )
    start = time.monotonic()
    partial = job.path.with_suffix(".partial")
    steps = recipe.epochs * recipe.steps_per_epoch(len(split))
    with progress.task(f"train {job.label}", steps, "steps") as task:
        model, history = train(
            job.build,
            split,
            recipe,
            seed=job.seed,
            device=device,
            partial=partial,
            identity=identity,
            report=lambda step, steps, loss, accuracy: task.to(
                step, f"loss {loss:.3f}, accuracy {accuracy:.1%}"
            ),
        )
    description = identity | {"seed": job.seed, "recipe": asdict(recipe)}
    log = {"history": history, "wall_s": round(time.monotonic() - start, 1)}
    log |= description | {"command": command_line(), "environment": environment(device)}
    write_json(job.path.with_suffix(".json"), log)
    checkpoints.write(job.path, model.state_dict(), description)
    partial.unlink(missing_ok=True)
    return model, description


def execute(jobs: Sequence[Job], options: Options, progress: Progress) -> Iterator[Written]:
    """Do the planned work; yield each file as it is complete.

    Raises:
        Failure: A model gave something that is not a number, or training diverged.
    """
    for job in jobs:
        model, description = trained(job, options, progress)
        weights = checkpoints.digest(model.state_dict())
        job = replace(job, description=description)
        for evaluation in job.evaluations:
            yield _measure(job, evaluation, model, weights, options, progress)


def _measure(
    job: Job,
    evaluation: Evaluation,
    model: nn.Module,
    weights: str,
    options: Options,
    progress: Progress,
) -> Written:
    """Observe the cells that are not stored, measure all, write the run."""
    start = time.monotonic()
    descriptions = describe_cells(job, evaluation, weights, options)
    store = CellStore(options.results / "cells")
    stored: list[Arrays | None] = [store.read(d.key) for d in descriptions]
    missing = [i for i, arrays in enumerate(stored) if arrays is None]
    progress.detail(f"{len(stored) - len(missing)} of {len(stored)} conditions are stored.")
    if missing:
        total = len(missing) * (options.limit or len(job.split))
        with progress.task(f"{evaluation.name}: {job.label}", total, "images") as task:
            for i, arrays in _observed(job, evaluation, model, missing, options, task):
                store.write(descriptions[i], arrays)
                stored[i] = arrays
    measurements = [
        row
        for cell, arrays in zip(evaluation.cells, stored, strict=True)
        for row in evaluation.suite.measure(cell, arrays or {})
    ]
    cells = {f"{d.condition} {d.level:g}": d.key for d in descriptions}
    key = {
        "model": job.source.name,
        "suite": evaluation.name,
        "dataset": evaluation.dataset,
        "seed": job.seed,
        "run": results.run_key(cells, evaluation.suite.version),
    }
    own = sorted({m.metric for m in measurements} - BUILT_IN)
    provenance = _provenance(job, evaluation, descriptions[0], model, options) | {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - start, 2),
        "cells_measured": len(missing),
        "environment": environment(resolve_device(options.device)),
        "cells": cells,
    }
    if own:
        provenance["metrics"] = [METRICS[name].describe() for name in own]
    place = evaluation.dataset, evaluation.name, job.source.name, job.seed
    path = results.csv_path(options.root, *place)
    changed = results.write(path, key, measurements, provenance)
    return Written(path, evaluation.dataset, len(missing), len(descriptions), changed)


def describe_cells(
    job: Job, evaluation: Evaluation, weights: str, options: Options
) -> list[Description]:
    """Return all that can change each cell's arrays."""
    data = job.split.fingerprint()
    return [
        Description(
            weights=weights,
            model=job.source.name,
            source=job.source.sha256,
            arguments={} if job.width is None else {"width": job.width},
            data=data,
            limit=options.limit,
            suite=evaluation.name,
            version=evaluation.suite.version,
            condition=cell.condition,
            level=cell.level,
            constants=dict(cell.constants),
            seed=evaluation.setting.seed,
            dtype=dtype_for(evaluation.suite, options.dtype),
        )
        for cell in evaluation.cells
    ]


def _observed(
    job: Job,
    evaluation: Evaluation,
    model: nn.Module,
    missing: Sequence[int],
    options: Options,
    task: Task,
) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """The arrays of the cells that are missing, one after the other."""
    suite, device = evaluation.suite, resolve_device(options.device)
    dtype = dtype_for(suite, options.dtype)
    subject = Evaluated(model, device, dtype, evaluation.setting.seed)
    find = suite.calibrate(evaluation.setting)
    if find is not None:
        with user_input():
            training = load(job.dataset, train=True, root=options.data)
        subject = calibrated(subject, find, training)
    split, memory = job.split.to(device), Memory(suite, subject)
    with folding(suite, subject, split), failures():
        for i in missing:
            cell = evaluation.cells[i]
            task.note = f"{cell.condition} {cell.level:g}"
            yield (
                i,
                observe(
                    suite,
                    cell,
                    subject,
                    split,
                    batch_size=options.batch_size or batch_size_for(device, split.image_size),
                    limit=options.limit,
                    memory=memory,
                    advance=task.advance,
                ),
            )


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn what an observer raises over a model's numbers into a failure."""
    try:
        yield
    except FloatingPointError as error:
        raise Failure(str(error)) from error


def _provenance(
    job: Job, evaluation: Evaluation, cell: Description, model: nn.Module, options: Options
) -> dict[str, Any]:
    """What made the numbers of a run, as any of its cells, but for what was found while it ran."""
    device = resolve_device(options.device)
    return {
        "version": evaluation.suite.version,
        "images": options.limit or len(job.split),
        "limit": options.limit,
        "arguments": cell.arguments,
        "weights": cell.weights,
        "training": job.description,
        "data": cell.data,
        "transductive": bool(getattr(model, "transductive", False)),
        "image_seed": cell.seed,
        "dtype": cell.dtype,
        "batch_size": options.batch_size or batch_size_for(device, job.split.image_size),
        "command": command_line(),
    }
