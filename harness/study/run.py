"""Run what a study needs and is not there, and answer its questions."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from harness.analysis import boards
from harness.analysis.collect import collect_samples
from harness.progress import Progress
from harness.refusal import Failure, Refusal
from harness.running.execute import execute
from harness.running.jobs import Job
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage import results
from harness.storage.files import safe
from harness.storage.provenance import command_line, commit
from harness.study.answers import Answer, answer_questions
from harness.study.questions import CLEAN, Question, suites_of
from harness.study.schema import Study, hash_runs


@dataclass(frozen=True)
class Network:
    """One network of a study and the suites that it is evaluated on."""

    model: str
    dataset: str
    seed: int
    suites: tuple[str, ...]

    def plan(self, options: Options) -> Job:
        """Check it; raises as `running.plan`."""
        (job,) = plan([self.model], [self.dataset], [self.seed], self.suites, options)
        return job


def list_networks(
    questions: tuple[Question, ...], dataset: str, seeds: int, options: Options
) -> list[Network]:
    """List the networks, each seed of all models before the next, and check the first seed of each.

    Raises:
        Refusal: There are no seeds; otherwise as `running.plan`.
    """
    if seeds < 1:
        raise Refusal(f"`--seeds` must be at least 1; got {seeds}.")
    work = [
        Network(model, dataset, seed, suites)
        for seed in range(seeds)
        for model, suites in suites_of(questions).items()
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
        _share(work, options, workers, failed)
    if failed:
        raise Failure("\n".join(map(str, failed)))


@contextlib.contextmanager
def _kept(failed: list[Failure]) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        failed.append(failure)


def _share(work: Sequence[Network], options: Options, workers: int, failed: list[Failure]) -> None:
    """Do the work in several processes."""
    threads = max(1, torch.get_num_threads() // workers)
    # Spawned, since threads and CUDA do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare, (threads,)) as pool:
        jobs = [
            pool.submit(_in_process, one, options, f"{i} of {len(work)}")
            for i, one in enumerate(work, 1)
        ]
        try:
            for job in as_completed(jobs):
                with _kept(failed):
                    job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _one(one: Network, options: Options, progress: Progress, place: str) -> None:
    job = one.plan(options)
    progress.say(f"{place}: {job.label}.")
    for _ in execute([job], options, progress):
        pass


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)


def _in_process(one: Network, options: Options, place: str) -> None:
    _one(one, options, Progress(Console(stderr=True, force_terminal=False)), place)


def workers_for(device: torch.device) -> int:
    """Return how many networks to train at once: one for each CPU core, up to 8; one on a GPU."""
    return min(8, os.cpu_count() or 1) if device.type == "cpu" else 1


def answer_from(
    questions: tuple[Question, ...], root: Path, dataset: str, seeds: int, progress: Progress
) -> list[Answer]:
    """Return the answers from the first `seeds` seeds in the results folder `root`.

    Raises:
        Refusal: Runs are missing.
    """
    suites = suites_of(questions)
    wanted = sorted({s for of_model in suites.values() for s in of_model})
    table = results.select(root, wanted, [dataset], list(suites))
    needed = {"accuracy", "nfe"} | {
        quantity.metric for q in questions for quantity in (q.quantity, *q.also)
    }
    table = table[table["metric"].isin(needed) & (table["seed"] < seeds)]
    with boards.open_outcomes(root, table, progress) as outcomes:
        found = collect_samples(table, outcomes, keep=True)
    return answer_questions(questions, found, table, dataset)


def models_to_draw(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Return whom to draw by suite: of the suites that decide, the models that they decide about.

    Severity curves are of the questions about corruption, since few fit into one figure.
    """
    found: dict[str, dict[str, None]] = {}
    for question in questions:
        if question.quantity != CLEAN:
            names = (question.model, *filter(None, question.rivals))
            found.setdefault(question.quantity.suite, {}).update(dict.fromkeys(names))
        if question.kind == "match":
            names = (question.model, question.baseline)
            found.setdefault("nfe", {}).update(dict.fromkeys(names))
    return {suite: list(names) for suite, names in found.items()}


def store_answers(
    made: Sequence[Answer], root: Path, dataset: str, seeds: int, scale: str
) -> Study:
    """Return the answers as they are written, each with the files that its numbers are of.

    Beside each of these lies a JSON with the same name: weights, command, commit, cells.
    """
    folder = root / safe(dataset)
    stored = []
    for answer in made:
        runs = [
            results.csv_path(root, dataset, suite, model, seed).relative_to(folder).as_posix()
            for model, suites in suites_of((answer.question,)).items()
            for suite in suites
            for seed in range(seeds)
        ]
        stored.append(answer.store(runs))
    hashes = hash_runs(folder, stored)
    head, changed = commit()
    source = f"{head}, changed" if head and changed else head or ""
    return Study(scale, dataset, command_line(), source, tuple(stored), hashes)


def label(first: Job, options: Options, seeds: int) -> str:
    """Return the scale of a study in words, "digits, 3 seeds, width 16, ..."."""
    training = first.weights.description.get("recipe", {})
    epochs = options.epochs or training.get("epochs")
    images = options.limit or len(first.split)
    parts = [first.dataset, f"{seeds} seed{'s' * (seeds > 1)}", f"width {first.width}"]
    parts += [f"{epochs} epoch{'s' * (epochs > 1)}"] if epochs else []
    total = f" of {len(first.split):,}" if options.limit else ""
    return f"{', '.join(parts)}, {images:,}{total} test images"
