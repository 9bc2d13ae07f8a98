"""One run: a model under a suite, what is stored of it, what is missing, and its files."""

import contextlib
import copy
import datetime
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from harness import stopping
from harness.progress import Progress, Task
from harness.refusal import user_input
from harness.running.ahead import ahead_of
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
    observe_stepwise,
)
from harness.running.jobs import Evaluation, Job
from harness.running.options import Options, resolve_device
from harness.running.repeatable import seed_for
from harness.running.shared_images import Shared
from harness.storage import packed_outcomes, results
from harness.storage.cells import CellStore
from harness.suites.base import Arrays, Cell, Measurement, Where
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


@dataclass(frozen=True)
class Asked:
    """A model with its weights' digest, under a suite."""

    job: Job
    evaluation: Evaluation
    model: nn.Module
    weights: str

    @property
    def path(self) -> tuple[str, str, str, int]:
        """Return (data set, suite, model, seed), which name the run's files."""
        return (
            self.evaluation.dataset, self.evaluation.name, self.evaluation.model, self.job.seed,
        )  # fmt: skip


class Run:
    """One run: what is stored of it, and what is missing.

    Attributes:
        missing: Conditions and levels of the cells that are not stored.
        sees: Whether a condition was begun and is not at its end.
    """

    def __init__(self, asked: Asked, options: Options, progress: Progress) -> None:
        self.asked, self._options, self._spent = asked, options, 0.0
        start = time.monotonic()
        job = asked.job
        self._store = CellStore(options.results / "cells")
        self._file = results.csv_path(options.root, *asked.path)
        before = earlier_run(self._file)
        self._evaluation = with_earlier(
            job, asked.evaluation, asked.weights, options, self._store, before
        )
        self._descriptions = describe_cells(job, self._evaluation, asked.weights, options)
        self._rows: list[list[Measurement]] = [[] for _ in self._descriptions]
        self._hits = packed_outcomes.Packing()
        self._at = {(c.condition, c.level): i for i, c in enumerate(self._evaluation.cells)}
        self.missing: dict[Where, Cell] = {}
        self.sees = False
        for (where, i), d in zip(self._at.items(), self._descriptions, strict=True):
            if (stored := self._store.read(d.key)) is None:
                self.missing[where] = self._evaluation.cells[i]
            else:
                self._take(i, stored)
        count, left = len(self._descriptions), len(self.missing)
        progress.detail(f"{count - left} of {count} conditions are stored.")
        self._code = {"model": dict(job.source.code), "suite": dict(self._evaluation.code)}
        if left and (
            change := describe_change(before, self._code, asked.weights, self._descriptions[0])
        ):
            progress.say(f"{self._evaluation.name}: {job.label} is measured again: {change}.")
        self._spent += time.monotonic() - start

    def _take(self, i: int, arrays: Arrays) -> None:
        """Measure a cell, whose arrays may be large: none outlives the next."""
        self._rows[i] = measured(self._evaluation.suite, self._evaluation.cells[i], arrays)
        self._hits.add(i, asdict(self._descriptions[i]), arrays, self._rows[i])

    def open(self, stack: contextlib.ExitStack, shared: Shared, task: Task) -> None:
        """Make the model ready to be observed, until `stack` ends."""
        job, suite, options = self.asked.job, self._evaluation.suite, self._options
        self._shared, self._task = shared, task
        self._device = resolve_device(options.device)
        self._earlier = Earlier(self._evaluation.cells, self._descriptions, self._store)
        self._find, self._training = suite.calibrate(self._evaluation.setting), None
        if self._find is not None:
            with user_input():
                self._training = load(
                    job.spec, train=True, root=options.data, reading=job.split.reading
                )
        fresh = job.behavior.fresh
        self._subject = self._subject_of(
            copy.deepcopy(self.asked.model) if fresh else self.asked.model
        )
        self._memory = Memory(suite, self._subject)
        self._split = job.split.to(self._device)
        stack.enter_context(folding(suite, self._subject, self._split, ours=job.source.ours))

    def _subject_of(self, network: nn.Module) -> Evaluated:
        options, setting = self._options, self._evaluation.setting
        dtype = dtype_for(self._evaluation.suite, options.dtype)
        seed = self._evaluation.suite.draw_seed(setting.seed, self.asked.job.seed)
        subject = Evaluated(network, self._device, dtype, seed)
        if self._find is None or self._training is None:
            return subject
        return calibrated(subject, self._find, self._training)

    def begin(self, where: Where) -> None:
        """Begin a condition that is missing."""
        self._where, self._steps, self.sees = where, self._observed(self.missing[where]), True

    def see(self) -> None:
        """Look at the next batch of the condition; store what was seen after the last."""
        start = time.monotonic()
        try:
            next(self._steps)
        except StopIteration as end:
            self.sees, i = False, self._at[self._where]
            self._store.write(self._descriptions[i], end.value)
            self._earlier.add(self._evaluation.cells[i], end.value)
            stopping.check()
            self._take(i, end.value)
        finally:
            self._spent += time.monotonic() - start

    def _observed(self, cell: Cell) -> Generator[None, None, Arrays]:
        behavior, suite, options = self.asked.job.behavior, self._evaluation.suite, self._options
        with contextlib.ExitStack() as stack:
            if behavior.fresh:
                seed = self._evaluation.setting.seed
                key = seed_for(seed, "evaluation", cell.condition, cell.level)
                stack.enter_context(seeded(key, self._device))
                self._subject = self._subject_of(copy.deepcopy(self.asked.model))
                self._memory = Memory(suite, self._subject)
            job = self.asked.job
            side = job.split.image_size
            size = behavior.batch or options.batch_size or batch_size_of(suite, self._device, side)
            model, ours = self._subject.model, job.source.ours
            return (
                yield from observe_stepwise(
                    suite,
                    cell,
                    self._subject,
                    self._split,
                    batch_size=size,
                    limit=options.limit,
                    memory=self._memory,
                    earlier=self._earlier.of(cell),
                    shared=self._shared,
                    advance=self._advance,
                    ahead=ahead_of(suite, model, self._device, size * side**2, ours=ours),
                )
            )

    def _advance(self, images: int) -> None:
        self._task.advance(images)
        stopping.check(stopping.PATIENCE_S)

    def write(self) -> Written:
        """Write CSV, JSON and packed outcomes."""
        start = time.monotonic()
        job, evaluation = self.asked.job, self._evaluation
        cells = {f"{d.condition} {d.level:g}": d.key for d in self._descriptions}
        key = dict(zip(("dataset", "suite", "model", "seed"), self.asked.path, strict=True))
        key["run"] = results.run_key(cells, evaluation.suite.version)
        rows = [row for found in self._rows for row in found]
        own = sorted({m.metric for m in rows} - BUILT_IN)
        described = describe_run(
            job, evaluation, self._descriptions[0], self.asked.model, self._options
        )
        provenance = described | {
            "code": self._code,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "wall_s": round(self._spent + time.monotonic() - start, 2),
            "cells_measured": len(self.missing),
            "environment": environment(resolve_device(self._options.device)),
            "cells": cells,
        }
        if own:
            provenance["metrics"] = [METRICS[name].describe() for name in own]
        changed = results.write(self._file, key, rows, provenance, self._hits.content())
        names = evaluation.dataset, evaluation.model
        return Written(self._file, *names, len(self.missing), len(self._descriptions), changed)
