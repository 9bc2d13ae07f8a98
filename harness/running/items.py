"""Work items of `run` and `train`: one model on one data set with one seed, and all its suites.

Each is planned again where it is done, in a process of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.progress import Progress
from harness.refusal import Failure
from harness.running.execute import execute, train_all
from harness.running.jobs import Job
from harness.running.one_run import Written
from harness.running.options import Options
from harness.running.plan import plan
from harness.running.workers import Do, devices_for, share

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """What one worker does at a time; names as they were asked for.

    Args:
        seed: None takes that of the weights, or 0.
        options: Of the command, with the weights of this model.
    """

    model: str
    dataset: str
    seed: int | None
    suites: tuple[str, ...]
    options: Options

    def plan(self, device: str, progress: Progress) -> tuple[list[Job], Options]:
        """Return the job and its options on a device; raises as `running.plan`."""
        own = replace(self.options, device=device)
        seeds = [] if self.seed is None else [self.seed]
        jobs = plan([self.model], [self.dataset], seeds, self.suites, own, progress)
        return jobs, own


def list_items(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    options: Options,
) -> list[Item]:
    """Return the items of a command, one for each job that `plan` makes of the same arguments."""
    wanted: Sequence[int | None] = seeds or [None]
    return [
        Item(model, dataset, seed, tuple(suites), replace(options, weights=own))
        for dataset in datasets
        for model, own in ((m, options.weights[i : i + 1]) for i, m in enumerate(models))
        for seed in wanted
    ]


def evaluate(
    items: Sequence[Item],
    jobs: Sequence[Job],
    options: Options,
    workers: int,
    progress: Progress,
) -> tuple[list[Written], Failure | None]:
    """Evaluate jobs, or the same items in several processes; return what was written, what failed.

    Args:
        workers: Processes that share the items; 1 for this one.
    """
    if min(workers, len(items)) > 1:
        return _share(items, jobs, _evaluate, workers, progress)
    return _gather(_reported(execute(jobs, options, progress), progress, ""))


def train(
    items: Sequence[Item],
    jobs: Sequence[Job],
    options: Options,
    workers: int,
    progress: Progress,
    tell: Callable[[Path], None],
) -> Failure | None:
    """Train as `evaluate`; return what failed.

    Args:
        tell: Called with where the weights of each job lie.
    """
    if min(workers, len(items)) > 1:
        paths, failure = _share(items, jobs, _train, workers, progress)
        for path in paths:
            tell(path)
        return failure
    return _gather(train_all(jobs, options, progress), tell)[1]


def _gather(
    made: Iterator[T], tell: Callable[[T], None] = lambda one: None
) -> tuple[list[T], Failure | None]:
    """What is made until all is done, or something failed."""
    found = list[T]()
    try:
        for one in made:
            tell(one)
            found.append(one)
    except Failure as failure:
        return found, failure
    return found, None


def _reported(files: Iterator[Written], progress: Progress, of: str) -> Iterator[Written]:
    """The same files, each told as it is complete."""
    for file in files:
        stored = file.cells - file.measured
        progress.say(f"{of}{file.measured} conditions measured, {stored} were stored.")
        yield file


def _share(
    items: Sequence[Item], jobs: Sequence[Job], do: Do, workers: int, progress: Progress
) -> tuple[list, Failure | None]:
    if not items:
        return [], None
    names = [job.label for job in jobs]
    made, failed = share(items, names, do, devices_for(items[0].options.device, workers), progress)
    if len(failed) < 2:
        return made, failed[0] if failed else None
    lines = [str(failure) for failure in failed]
    return made, Failure("\n".join([f"{len(lines)} failed; the others are done:", *lines]))


def _evaluate(item: Item, device: str, progress: Progress) -> Iterator[Written]:
    jobs, options = item.plan(device, progress)
    yield from _reported(execute(jobs, options, progress), progress, f"{jobs[0].label}: ")


def _train(item: Item, device: str, progress: Progress) -> Iterator[Path]:
    jobs, options = item.plan(device, progress)
    yield from train_all(jobs, options, progress)
