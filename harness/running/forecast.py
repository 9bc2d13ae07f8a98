"""What planned jobs would still do, and about how long by earlier runs; nothing is written.

A time is the median of earlier runs on a device of this name: of the same model, or where there are
none of all models on the same data set at the same width.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.running.descriptions import describe_cells
from harness.running.environment import device_name
from harness.running.jobs import Job
from harness.running.options import Options, resolve_device
from harness.storage import checkpoints
from harness.storage.cells import CellStore

TRAIN = "train"


@dataclass(frozen=True)
class Step:
    """One training, or one suite of one model.

    Args:
        work: "train", or the suite.
        stored: Epochs or conditions that are there already, of `total`.
        seconds: About how long the rest takes; None where it is not known.
    """

    dataset: str
    model: str
    seed: int
    work: str
    stored: int
    total: int
    seconds: float | None


def forecast(jobs: Sequence[Job], options: Options) -> list[Step]:
    """Return the steps of planned jobs, in the order of execution."""
    speeds = _Speeds(options)
    return [step for job in jobs for step in _steps(job, options, speeds)]


def _steps(job: Job, options: Options, speeds: "_Speeds") -> Iterator[Step]:
    name = job.dataset, job.source.name, job.seed
    recipe = job.recipe(job.split, options)
    if job.trained:
        weights = _digest_weights(job)
    else:
        cost = speeds.find(TRAIN, job.dataset, job.source.name, job.width)
        epochs = 0 if job.fitted else recipe.epochs
        yield Step(*name, TRAIN, 0, epochs, cost and cost * epochs)
    store = CellStore(options.results / "cells")
    for evaluation in job.evaluations:
        total, stored = len(evaluation.cells), 0
        if job.trained:
            keys = (d.key for d in describe_cells(job, evaluation, weights, options))
            stored = sum(key in store for key in keys)
        images = (total - stored) * (options.limit or len(job.split))
        cost = speeds.find(evaluation.name, evaluation.dataset, job.source.name, job.width)
        seconds = 0.0 if not images else cost and cost * images
        yield Step(evaluation.dataset, *name[1:], evaluation.name, stored, total, seconds)


def _digest_weights(job: Job) -> str:
    """The hash of a job's weights, without building a network again."""
    if job.built:
        return checkpoints.digest(job.built[0].state_dict())
    assert job.weights.file is not None
    return checkpoints.digest(checkpoints.read(job.weights.file, foreign=True)[0])


class _Speeds:
    """Seconds for an epoch, and for an image under one condition, in earlier runs on this device.

    Args:
        options: Say the results folder and the device.
    """

    def __init__(self, options: Options) -> None:
        self._device = _kind(device_name(resolve_device(options.device)))
        self._of_model: dict[tuple, list[float]] = {}
        self._of_all: dict[tuple, list[float]] = {}
        for path in options.results.glob("checkpoints/*/*/seed*.json"):
            self._add(path, lambda log: (TRAIN, log["recipe"]["epochs"]))
        for pattern in ("*/*/*/seed*.json", "quick/*/*/*/seed*.json"):
            for path in options.results.glob(pattern):
                self._add(path, lambda log: (log["suite"], log["cells_measured"] * log["images"]))

    def _add(self, path: Path, count: Callable[[Any], tuple[str, int]]) -> None:
        """Take the time of one run, `count` being its work and the amount of it."""
        try:
            log = json.loads(path.read_text(encoding="utf-8"))
            work, amount = count(log)
            key = work, log["dataset"], log["arguments"].get("width")
            device, seconds = _kind(log["environment"]["device"]), float(log["wall_s"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a training's file, or one that is damaged, which tells nothing of time
        if amount and device == self._device:
            self._of_all.setdefault(key, []).append(seconds / amount)
            self._of_model.setdefault((*key, log["model"]), []).append(seconds / amount)

    def find(self, work: str, dataset: str, model: str, width: int | None) -> float | None:
        key = work, dataset, width
        found = self._of_model.get((*key, model)) or self._of_all.get(key)
        return statistics.median(found) if found else None


def _kind(device: str) -> str:
    """A device's name without its number of threads."""
    return device.partition(",")[0]
