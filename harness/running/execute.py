"""Jobs to rows: train what is missing, measure what is not yet stored.

One CSV and one JSON for each (data set, suite, model, seed).
"""

import contextlib
import copy
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from harness import stopping
from harness.progress import Progress, Task
from harness.refusal import Failure, Refusal, describe_error, user_input
from harness.running.behavior import seeded
from harness.running.descriptions import (
    describe_cells,
    describe_change,
    describe_run,
    earlier_run,
    with_earlier,
)
from harness.running.earlier import Earlier
from harness.running.environment import environment
from harness.running.evaluate import (
    Evaluated,
    Memory,
    batch_size_of,
    calibrated,
    dtype_for,
    folding,
    measured,
    observe,
)
from harness.running.jobs import Evaluation, Job
from harness.running.networks import trained
from harness.running.options import Options, resolve_device
from harness.running.repeatable import seed_for
from harness.storage import checkpoints, packed_outcomes, results
from harness.storage.cells import CellStore, Description
from harness.storage.locks import alone
from harness.suites.base import Arrays, Measurement
from harness.suites.datasets import load
from harness.suites.metrics import BUILT_IN, METRICS


@dataclass(frozen=True)
class Written:
    """What became of one (data set, suite, model, seed)."""

    path: Path
    dataset: str  # its name in tables
    model: str  # likewise
    measured: int  # cells; the rest were stored
    cells: int
    changed: bool


def execute(jobs: Sequence[Job], options: Options, progress: Progress) -> Iterator[Written]:
    """Do the planned work; yield each file as it is complete.

    A model that fails, in training or under one suite, does not keep the others from being
    measured; what failed is raised at the end.

    Raises:
        Failure: Training diverged, a model raised an error, or gave something that is no number.
    """
    several = sum(len(job.evaluations) for job in jobs) > 1
    failed = _Failures(progress.say if several else None)
    for job in jobs:
        weights = ""
        with failed.of(job):
            model, job = trained(job, options, progress)
            weights = checkpoints.digest(model.state_dict())
        for evaluation in job.evaluations if weights else ():
            with failed.of(job, evaluation.name):
                with _one_by_one(job, evaluation, options, progress):
                    written = measure(job, evaluation, model, weights, options, progress)
                yield written
    failed.end()


def train_all(jobs: Sequence[Job], options: Options, progress: Progress) -> Iterator[Path]:
    """Train what is not trained; yield where the weights of each job lie.

    Raises:
        Failure: A training diverged, or a model raised an error; after all the others.
    """
    failed = _Failures(progress.say if len(jobs) > 1 else None)
    for job in jobs:
        with failed.of(job):
            if job.trained:
                progress.say(f"{job.label} is trained already.")
            else:
                trained(job, options, progress)
            yield job.weights.file or job.weights.path
    failed.end()


class _Failures:
    """What went wrong with single models, so that the others go on.

    An error in one of our own models, or in our program, is a bug and stops all.

    Args:
        say: Called with each failure as it comes.
    """

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say, self._found = say, list[Failure]()

    @contextlib.contextmanager
    def of(self, job: Job, suite: str = "") -> Iterator[None]:
        """Keep what goes wrong with one training or evaluation."""
        try:
            yield
        except (Failure, FloatingPointError) as error:
            self._keep(job, suite, error, str(error))
        except Refusal:
            raise
        except Exception as error:
            if job.source.ours:
                raise
            self._keep(job, suite, error, describe_error(error))

    def _keep(self, job: Job, suite: str, error: Exception, text: str) -> None:
        failure = Failure(f"{suite}: {job.label}: {text}" if suite else f"{job.label}: {text}")
        failure.__cause__ = error
        self._found.append(failure)
        if self._say is not None:
            self._say(str(failure))

    def end(self) -> None:
        """Raise what was kept.

        Raises:
            Failure: All of it.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            lines = [str(failure) for failure in self._found]
            raise Failure("\n".join([f"{len(lines)} failed; the others are done:", *lines]))


@contextlib.contextmanager
def _one_by_one(
    job: Job, evaluation: Evaluation, options: Options, progress: Progress
) -> Iterator[None]:
    """Wait for any other process that measures the same, so that no work is done twice."""
    place = evaluation.dataset, evaluation.name, evaluation.model, job.seed
    path = results.csv_path(options.root, *place)
    text = f"{evaluation.name}: another process measures {job.label}: waiting for it."
    with alone(path.with_name(f".{path.stem}.lock"), lambda: progress.say(text)):
        yield


def measure(
    job: Job,
    evaluation: Evaluation,
    model: nn.Module,
    weights: str,
    options: Options,
    progress: Progress,
) -> Written:
    """Observe the cells that are not stored, measure all, write the run."""
    start = time.monotonic()
    place = evaluation.dataset, evaluation.name, evaluation.model, job.seed
    path, store = results.csv_path(options.root, *place), CellStore(options.results / "cells")
    before = earlier_run(path)
    evaluation = with_earlier(job, evaluation, weights, options, store, before)
    descriptions = describe_cells(job, evaluation, weights, options)
    taken, missing = _Taken(evaluation, descriptions), list[int]()
    for i, d in enumerate(descriptions):
        if (stored := store.read(d.key)) is None:
            missing.append(i)
        else:
            taken.add(i, stored)
    count = len(descriptions)
    progress.detail(f"{count - len(missing)} of {count} conditions are stored.")
    code = {"model": dict(job.source.code), "suite": dict(evaluation.code)}
    if missing and (change := describe_change(before, code, weights, descriptions[0])):
        progress.say(f"{evaluation.name}: {job.label} is measured again: {change}.")
    if missing:
        total = len(missing) * (options.limit or len(job.split))
        with (
            progress.task(f"{evaluation.name}: {job.label}", total, "images") as task,
            stopping.finishing(),
        ):
            earlier = Earlier(evaluation.cells, descriptions, store)
            for i, arrays in _observed(job, evaluation, model, missing, earlier, options, task):
                store.write(descriptions[i], arrays)
                earlier.add(evaluation.cells[i], arrays)
                stopping.check()
                taken.add(i, arrays)
    measurements = [row for rows in taken.rows for row in rows]
    cells = {f"{d.condition} {d.level:g}": d.key for d in descriptions}
    key = dict(zip(("dataset", "suite", "model", "seed"), place, strict=True))
    key["run"] = results.run_key(cells, evaluation.suite.version)
    own = sorted({m.metric for m in measurements} - BUILT_IN)
    provenance = describe_run(job, evaluation, descriptions[0], model, options) | {
        "code": code,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - start, 2),
        "cells_measured": len(missing),
        "environment": environment(resolve_device(options.device)),
        "cells": cells,
    }
    if own:
        provenance["metrics"] = [METRICS[name].describe() for name in own]
    changed = results.write(path, key, measurements, provenance, taken.hits.content())
    names = evaluation.dataset, evaluation.model
    return Written(path, *names, len(missing), len(descriptions), changed)


class _Taken:
    """What a table needs of a run's cells, taken one by one: their arrays may be large."""

    def __init__(self, evaluation: Evaluation, descriptions: Sequence[Description]) -> None:
        self._evaluation, self._descriptions = evaluation, descriptions
        self.rows: list[list[Measurement]] = [[] for _ in descriptions]
        self.hits = packed_outcomes.Packing()

    def add(self, i: int, arrays: Arrays) -> None:
        """Measure a cell."""
        self.rows[i] = measured(self._evaluation.suite, self._evaluation.cells[i], arrays)
        self.hits.add(i, asdict(self._descriptions[i]), arrays, self.rows[i])


def _observed(
    job: Job,
    evaluation: Evaluation,
    model: nn.Module,
    missing: Sequence[int],
    earlier: Earlier,
    options: Options,
    task: Task,
) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """The arrays of the cells that are missing, one after the other."""
    suite, device, behavior = evaluation.suite, resolve_device(options.device), job.behavior
    dtype, seed = dtype_for(suite, options.dtype), evaluation.setting.seed
    batch_size = options.batch_size or batch_size_of(suite, device, job.split.image_size)
    find = suite.calibrate(evaluation.setting)
    training = None
    if find is not None:
        with user_input():
            training = load(job.spec, train=True, root=options.data, reading=job.split.reading)

    def advance(images: int) -> None:
        task.advance(images)
        stopping.check(stopping.PATIENCE_S)

    def subject_of(network: nn.Module) -> Evaluated:
        subject = Evaluated(network, device, dtype, seed)
        return subject if find is None or training is None else calibrated(subject, find, training)

    split = job.split.to(device)
    subject = subject_of(copy.deepcopy(model) if behavior.fresh else model)
    memory = Memory(suite, subject)
    with folding(suite, subject, split, ours=job.source.ours):
        for i in missing:
            cell = evaluation.cells[i]
            task.note = f"{cell.condition} {cell.level:g}"
            alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if behavior.fresh:
                alone = seeded(seed_for(seed, "evaluation", cell.condition, cell.level), device)
            with alone:
                if behavior.fresh:
                    subject = subject_of(copy.deepcopy(model))
                    memory = Memory(suite, subject)
                yield (
                    i,
                    observe(
                        suite,
                        cell,
                        subject,
                        split,
                        batch_size=behavior.batch or batch_size,
                        limit=options.limit,
                        memory=memory,
                        earlier=earlier.of(cell),
                        advance=advance,
                    ),
                )
