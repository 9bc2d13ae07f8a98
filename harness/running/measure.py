"""Runs: models under a suite, the cells that are not stored measured, CSV and JSON written.

Several models of one data set are measured in step: under each condition a batch of images is made
once and every model sees it. What a run is does not depend on its company.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from harness import stopping
from harness.progress import Progress
from harness.running.ahead import batches_kept
from harness.running.jobs import Job
from harness.running.one_run import Asked, Run, Written
from harness.running.options import Options, resolve_device
from harness.running.shared_images import Shared
from harness.storage import results
from harness.storage.locks import alone
from harness.suites.base import Where

Failing = Callable[[Job, str], contextlib.AbstractContextManager[None]]


def measure(
    asked: Sequence[Asked], options: Options, progress: Progress, failing: Failing
) -> Iterator[Written]:
    """Measure models under the same suite on the same images; yield each file as it is complete.

    Args:
        failing: `(job, suite)` to the context in which one of them may fail without the others.
    """
    with contextlib.ExitStack() as stack:
        for one in sorted(asked, key=lambda one: one.path):  # all wait in one order
            _wait(one, options, progress, stack)
        runs = list[Run]()
        for one in asked:
            with failing(one.job, one.evaluation.name):
                runs.append(Run(one, options, progress))
        yield from _in_step(runs, options, progress, failing)


def _wait(one: Asked, options: Options, progress: Progress, stack: contextlib.ExitStack) -> None:
    """Wait for any other process that measures the same, so that no work is done twice."""
    path = results.csv_path(options.root, *one.path)
    name = one.evaluation.name
    text = f"{name}: another process measures {one.job.label}: waiting for it."
    lock = alone(path.with_name(f".{path.stem}.lock"), lambda: progress.say(text))
    stack.enter_context(lock)


def _attempt(run: Run, act: Callable[[], object], failing: Failing) -> bool:
    """Do something with one run; return whether it did not fail."""
    with failing(run.asked.job, run.asked.evaluation.name):
        act()
        return True
    return False


def _in_step(
    runs: Sequence[Run], options: Options, progress: Progress, failing: Failing
) -> Iterator[Written]:
    """Measure what is missing, condition by condition; then write all."""
    going, whole = [run for run in runs if run.missing], [run for run in runs if not run.missing]
    if going:
        first = going[0].asked
        images = options.limit or len(first.job.split)
        total = images * sum(len(run.missing) for run in going)
        label = first.job.label if len(going) == 1 else f"{len(going)} models, {first.job.dataset}"
        with (
            progress.task(f"{first.evaluation.name}: {label}", total, "images") as task,
            contextlib.ExitStack() as stack,
            stopping.finishing(stopping.PATIENCE_S),
        ):
            split = first.job.split.to(resolve_device(options.device))
            shared = Shared(split, kept=batches_kept())
            going = [
                run
                for run in going
                if _attempt(run, lambda: run.open(stack, shared, task), failing)  # noqa: B023
            ]
            for where in dict.fromkeys(cell for run in going for cell in run.missing):
                task.note = f"{where[0]} {where[1]:g}"
                going = _observe(going, where, failing)
                stopping.check()
    found = list[Written]()
    for run in runs:
        if run in whole or run in going:
            _attempt(run, partial(_write, run, found), failing)
            yield from found
            found.clear()


def _write(run: Run, found: list[Written]) -> None:
    found.append(run.write())


def _observe(runs: Sequence[Run], where: Where, failing: Failing) -> list[Run]:
    """Let models see the images of a condition, each batch in turn; return those that did."""
    failed, seeing = list[Run](), [run for run in runs if where in run.missing]
    for run in seeing:
        run.begin(where)
    while seeing:
        failed += [run for run in seeing if not _attempt(run, run.see, failing)]
        seeing = [run for run in seeing if run not in failed and run.sees]
    return [run for run in runs if run not in failed]
