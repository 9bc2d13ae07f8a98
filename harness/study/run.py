"""Run what a study needs and is not there."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.models.lookup import source
from harness.progress import Progress
from harness.refusal import Failure, Refusal, user_input
from harness.running.execute import execute
from harness.running.finished import is_finished
from harness.running.jobs import Job
from harness.running.options import TAKEN_BY, Options
from harness.running.plan import plan
from harness.running.shards import Shard
from harness.running.workers import devices_for, share
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
        """Return the options of a study as they are for it, without those that it cannot take."""
        with user_input():
            scalable = source(self.model).scalable
        own = untrained_options(options) if self.untrained else options
        attacked = not set(self.suites).isdisjoint(TAKEN_BY["attack"])
        return replace(
            own,
            width=own.width if scalable else None,
            attack=own.attack if attacked else (),
        )

    def plan(self, options: Options) -> Job:
        """Check it; raises as `running.plan`."""
        own = self.options(options)
        (job,) = plan([self.model], [self.dataset], [self.seed], self.suites, own)
        return job

    def is_done(self, job: Job, options: Options) -> bool:
        """Return whether its runs are there though its weights are not, which nobody needs then."""
        return not job.trained and is_finished(job, self.options(options))


def untrained_options(options: Options) -> Options:
    """Return the options of the same networks untrained."""
    results = options.results / UNTRAINED
    kept = options.checkpoints and options.checkpoints / UNTRAINED
    return replace(options, results=results, checkpoints=kept, recipe="untrained", epochs=None)


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
    """List the networks, each seed of all models before the next.

    Where they may be trained, the first seed of each is checked.

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
        if one.seed == 0 and options.may_train:
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
        names = [f"{one.model} on {one.dataset}, seed {one.seed}" for one in work]
        items = [(one, options, f"{i} of {len(work)}") for i, one in enumerate(work, 1)]
        _, failed = share(items, names, _do, devices_for(options.device, workers), progress)
    if failed:
        raise Failure("\n".join(map(str, failed)))


@contextlib.contextmanager
def _kept(failed: list[Failure]) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        failed.append(failure)


def _one(one: Network, options: Options, progress: Progress, place: str) -> None:
    job = one.plan(options)
    progress.say(f"{place}: {job.label}{', untrained' * one.untrained}.")
    if one.is_done(job, options):
        progress.say("Its runs are there; its weights are not, and are not needed.")
        return
    for _ in execute([job], one.options(options), progress):
        pass


def _do(item: tuple[Network, Options, str], device: str, progress: Progress) -> Iterator[None]:
    """Do one network in a worker; nothing is handed back, since all of it is written."""
    one, options, place = item
    _one(one, replace(options, device=device), progress, place)
    yield from ()


def say_shard(shard: Shard, part: int, total: int) -> str:
    """Say what a shard has done, and what is to be done when all of them are."""
    return (
        f"Done: {shard.label}, {part} of {total} networks. A shard does not answer. When all are "
        "done, put their folders together with `harness merge`, if they are several, and answer "
        "with `harness study --no-run`."
    )
