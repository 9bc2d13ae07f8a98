"""A job's network with its weights: loaded, brought by its builder, or trained now."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from harness.models.base import Fitted
from harness.progress import Progress
from harness.refusal import user_input
from harness.running.environment import environment
from harness.running.halves import count_seen
from harness.running.jobs import Job
from harness.running.options import Options, resolve_device
from harness.running.recipes import FITTED, Recipe
from harness.running.scalars import scalars
from harness.running.state import Stopwatch
from harness.running.train import TRAINER, Report, train
from harness.running.weights import Weights, find_weights
from harness.storage import checkpoints, logs
from harness.storage.json_files import write_json
from harness.storage.locks import alone
from harness.storage.provenance import command_line
from harness.suites.datasets import load


def trained(job: Job, options: Options, progress: Progress) -> tuple[nn.Module, Job]:
    """Return the job's model with its weights, and the job with their description.

    What is missing is trained.
    """
    for note in job.weights.notes:
        progress.say(note)
    loaded = job.trained and bool(job.built)  # with its weights, by `plan`
    if not job.trained:
        path, text = job.weights.path, f"Another process trains {job.label}: waiting for it."
        with alone(path.with_name(f".{path.stem}.lock"), lambda: progress.say(text)):
            job = _found_meanwhile(job, options)
            if not job.trained:
                return _train(job, options, progress, resolve_device(options.device))
    partial(job).unlink(missing_ok=True)  # killed before it could
    model = job.build()
    if job.weights.file is not None and not loaded:
        state, _ = checkpoints.read(job.weights.file, foreign=True)
        checkpoints.load(model, state, str(job.weights.file))
    return model, job


def _found_meanwhile(job: Job, options: Options) -> Job:
    """The job with the weights that another process trained since it was planned."""
    name, data = job.source.name, (job.dataset, job.spec)
    weights = find_weights(job.source, name, data, job.split, job.seed, options)
    return replace(job, weights=weights)


def partial(job: Job) -> Path:
    """Return where the state of a job's training is kept while it runs."""
    return job.weights.path.with_suffix(".partial")


def _train(
    job: Job, options: Options, progress: Progress, device: torch.device
) -> tuple[nn.Module, Job]:
    with user_input():
        split = load(
            job.spec,
            train=True,
            root=options.data,
            reading=job.split.reading,
            watch=lambda count: progress.task(f"read {job.dataset}", count, "pictures"),
        )
    seen = count_seen(job.dataset, split, job.split)
    if seen:
        progress.say(
            f"{seen} of the {len(job.split)} test images of {job.dataset} are training images: "
            "numbers on them do not tell what a model does on new images."
        )
    model = job.build()
    recipe = FITTED if isinstance(model, Fitted) else job.recipe(split, options, model)
    identity = {
        "model": job.source.name,
        "code": dict(job.source.code),
        "trainer": TRAINER,
        "arguments": {} if job.width is None else {"width": job.width},
        "dataset": job.dataset,
        "data": split.fingerprint(),
        "num_classes": len(split.classes),
    }
    work = f"training {recipe.epochs} epochs of" if recipe.epochs else "fitting it to"
    progress.say(f"{_reason(job)}: {work} {len(split)} images.")
    watch = Stopwatch()
    steps = recipe.epochs * recipe.steps_per_epoch(len(split))
    with _reporting(job, recipe, steps, options, progress) as report:
        model, history = train(
            model,
            split,
            recipe,
            seed=job.seed,
            device=device,
            partial=partial(job),
            identity=identity,
            report=report,
            tell=progress.say,
            watch=watch,
        )
    description = identity | {"seed": job.seed, "recipe": recipe.described()}
    if seen:
        description["seen"] = seen  # test images that are training images
    log = {"history": history, "wall_s": watch.seconds}
    log |= description | {"command": command_line(), "environment": environment(device)}
    path = job.weights.path
    beside = logs.path_of(options.results, job.dataset, job.source.name, job.seed)
    for old in set_aside(path, beside):
        progress.say(f"The weights that were there before are kept as {old}.")
    write_json(beside, log)
    checkpoints.write(path, model.state_dict(), description)
    partial(job).unlink(missing_ok=True)
    weights = Weights(path, path, description)
    return model, replace(job, weights=weights)


def _reason(job: Job) -> str:
    """Why a job's network is trained now, the beginning of a sentence."""
    if job.weights.stale:
        return f"The weights of {job.label} are not used, {job.weights.stale}"
    return f"There are no weights for {job.label} yet"


@contextlib.contextmanager
def _reporting(
    job: Job, recipe: Recipe, steps: int, options: Options, progress: Progress
) -> Iterator[Report]:
    """Give what shows how a training goes, to a person and to TensorBoard if that was asked for."""
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(progress.task(f"train {job.label}", steps, "steps"))
        board = options.tensorboard and stack.enter_context(
            scalars(options.tensorboard, job, recipe)
        )

        def report(*, step: int, steps: int, loss: float, accuracy: float | None) -> None:
            right = "" if accuracy is None else f", accuracy {accuracy:.1%}"
            task.to(step, f"loss {loss:.3f}{right}")
            if board:
                board(step=step, steps=steps, loss=loss, accuracy=accuracy)

        yield report


def set_aside(path: Path, history: Path) -> list[Path]:
    """Give weights at `path`, and their history, another name; return that of the weights."""
    if not path.is_file():
        return []
    mark = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    old = path.with_name(f"old-{path.stem}-{mark}{path.suffix}")
    if history.is_file():
        history.replace(history.with_name(old.with_suffix(".json").name))
    path.replace(old)
    return [old]
