"""Run what a study needs and is not there."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import torch

from harness import stopping
from harness.console import Console
from harness.encoding import make_streams_inert
from harness.models.lookup import source
from harness.progress import Level, Progress
from harness.refusal import Failure, Refusal, user_input
from harness.running.execute import execute
from harness.running.jobs import Job
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage.results import UNTRAINED
from harness.storage.spelling import MOST, problem_of_whole
from harness.study.design import Question, needs_of


@dataclass(frozen=True)
class Network:
    """One network of a study and the suites that it is evaluated on.

    Args:
        untrained: Whether it is asked as it starts; such networks have a results folder of their
            own.
    """

    model: str
    dataset: str
    seed: int
    suites: tuple[str, ...]
    untrained: bool = False

    def options(self, options: Options) -> Options:
        """Return the options of a study as they are for it: a width for whom has one to choose."""
        with user_input():
            scalable = source(self.model).scalable
        own = untrained_options(options) if self.untrained else options
        return own if scalable else replace(own, width=None)

    def plan(self, options: Options) -> Job:
        """Check it; raises as `running.plan`."""
        own = self.options(options)
        (job,) = plan([self.model], [self.dataset], [self.seed], self.suites, own)
        return job


def untrained_options(options: Options) -> Options:
    """Return the options of the same networks untrained."""
    results = options.results / UNTRAINED
    return replace(options, results=results, recipe="untrained", epochs=None)


def names_of(questions: Sequence[Question]) -> dict[str, str]:
    """Return the name in tables of each model.

    Raises:
        Refusal: There is no such model.
    """
    with user_input():
        return {spec: source(spec).name for question in questions for spec in question.models}


def list_networks(
    questions: Sequence[Question], dataset: str, seeds: int, options: Options, check: bool = False
) -> list[Network]:
    """List the networks, each seed of all models before the next, and check the first seed of each.

    Args:
        check: Whether all networks are needed untrained as well.

    Raises:
        Refusal: There are no seeds; otherwise as `running.plan`.
    """
    if problem := problem_of_whole(seeds, 1, MOST):
        raise Refusal(f"`--seeds` {problem}.")
    needs = needs_of(questions, check)
    work = [
        Network(need.model, dataset, seed, need.suites, need.untrained)
        for seed in range(seeds)
        for need in needs
    ]
    for one in work:
        if one.seed == 0:
            one.plan(options)
    return work


def run_study(
    work: Sequence[Network], options: Options, progress: Progress, workers: int = 1
) -> None:
    """Train and measure what is missing; stopped anywhere, the same call goes on from there.

    Args:
        workers: Processes that share the work, one network each at a time.

    Raises:
        Failure: A network failed, after all the others.
    """
    failed = list[Failure]()
    if workers == 1:
        for i, one in enumerate(work, 1):
            with _kept(failed):
                _one(one, options, progress, f"{i} of {len(work)}")
    else:
        _share(work, options, progress.level, workers, failed)
    if failed:
        raise Failure("\n".join(map(str, failed)))


@contextlib.contextmanager
def _kept(failed: list[Failure]) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        failed.append(failure)


def _share(
    work: Sequence[Network], options: Options, level: Level, workers: int, failed: list[Failure]
) -> None:
    """Do the work in several processes."""
    threads = max(1, torch.get_num_threads() // workers)
    # Spawned, since threads and CUDA do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare, (threads,)) as pool:
        try:
            with stopping.for_the_parent_alone():
                jobs = [
                    pool.submit(_in_process, one, options, level, f"{i} of {len(work)}")
                    for i, one in enumerate(work, 1)
                ]
            pending = set(jobs)
            while pending:
                # In short waits: a signal just before one begins is heard after it.
                done, pending = wait(pending, stopping.ONCE_S, FIRST_COMPLETED)
                for job in done:
                    with _kept(failed):
                        job.result()
        except BrokenProcessPool:
            _end(pool)
            raise Failure(
                "A worker was ended from outside, perhaps since the memory was full. Give fewer "
                "`--workers`, and run the same command again; finished work is kept."
            ) from None
        except BaseException:
            _end(pool)
            raise


def _end(pool: ProcessPoolExecutor) -> None:
    """End all workers; they finish what is in hand."""
    pool.shutdown(wait=False, cancel_futures=True)
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    until = time.monotonic() + 2 * stopping.PATIENCE_S
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
        child.kill()


def _one(one: Network, options: Options, progress: Progress, place: str) -> None:
    job = one.plan(options)
    progress.say(f"{place}: {job.label}{', untrained' * one.untrained}.")
    for _ in execute([job], one.options(options), progress):
        pass


def _prepare(threads: int) -> None:
    stopping.follow_parent()
    make_streams_inert()
    torch.set_num_threads(threads)


def _in_process(one: Network, options: Options, level: Level, place: str) -> None:
    progress = Progress(Console(stderr=True, force_terminal=False), level)
    try:
        _one(one, options, progress, place)
    except stopping.Stopped:
        os._exit(0)  # with nobody to tell


def workers_for(device: torch.device) -> int:
    """Return how many networks to train at once: one for each CPU core, up to 8; one on a GPU."""
    return min(8, os.cpu_count() or 1) if device.type == "cpu" else 1


def label(first: Job, options: Options, seeds: int) -> str:
    """Return the scale of a study in words, "digits, 3 seeds, width 16, ..."."""
    training = first.weights.description.get("recipe", {})
    epochs = options.epochs or training.get("epochs")
    images = options.limit or len(first.split)
    parts = [first.dataset, f"{seeds} seed{'s' * (seeds > 1)}"]
    parts += [] if first.width is None else [f"width {first.width}"]
    parts += [f"{epochs} epoch{'s' * (epochs > 1)}"] if epochs else []
    total = f" of {len(first.split):,}" if options.limit else ""
    return f"{', '.join(parts)}, {images:,}{total} test images"
