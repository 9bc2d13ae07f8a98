"""Jobs to rows: train what is missing, measure what is not yet stored.

One CSV and one JSON for each (data set, suite, model, seed).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import nn

from harness.progress import Progress
from harness.refusal import Failure, Refusal, describe_error
from harness.running.jobs import Job
from harness.running.measure import measure
from harness.running.networks import trained
from harness.running.one_run import Asked, Written
from harness.running.options import Options
from harness.storage import checkpoints

AT_ONCE = 16  # models that are measured in step


def execute(jobs: Sequence[Job], options: Options, progress: Progress) -> Iterator[Written]:
    """Do the planned work; yield each file as it is complete.

    A model that fails, in training or under one suite, does not keep the others from being
    measured; what failed is raised at the end.

    Raises:
        Failure: Training diverged, a model raised an error, or gave something that is no number.
    """
    several = sum(len(job.evaluations) for job in jobs) > 1
    failed = _Failures(progress.say if several else None)
    for group in _groups(jobs):
        ready = list[tuple[Job, nn.Module, str]]()
        for job in group:
            with failed.of(job):
                model, job = trained(job, options, progress)
                ready.append((job, model, checkpoints.digest(model.state_dict())))
        for number in range(len(group[0].evaluations)):
            asked = [
                Asked(job, job.evaluations[number], model, weights) for job, model, weights in ready
            ]
            yield from measure(asked, options, progress, failed.of)
    failed.end()


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs that are measured in step: trained ones on the same images under the same suites.

    A model that is to be trained is measured as soon as it is; one whose answers depend on what was
    asked before stays alone.
    """
    group = list[Job]()
    for job in jobs:
        fits = job.trained and not job.behavior.fresh
        if group and not (fits and len(group) < AT_ONCE and _alike(group[0], job)):
            yield group
            group = []
        group.append(job)
        if not fits:
            yield group
            group = []
    if group:
        yield group


def _alike(a: Job, b: Job) -> bool:
    suites = [[(e.name, e.dataset) for e in job.evaluations] for job in (a, b)]
    return a.spec == b.spec and a.images == b.images and suites[0] == suites[1]


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
