"""Run what a study needs and is not there, and write its answers: results/DATASET/study.json."""

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from harness.analysis import boards
from harness.analysis.collect import samples
from harness.models.registry import unknown
from harness.progress import Progress
from harness.running.execute import execute
from harness.running.options import Options
from harness.running.plan import Subject, plan
from harness.storage import results
from harness.storage.checkpoints import safe
from harness.storage.files import write_bytes
from harness.storage.provenance import command_line, commit
from harness.study.answers import Answer, answers
from harness.study.questions import QUESTIONS, Question, suites_of

FILE = "study.json"


def chosen(numbers: Sequence[str]) -> tuple[Question, ...]:
    """Return the questions of these numbers, all for none; "2" means 2a and 2b.

    Raises:
        LookupError: There is no such question.
    """
    known = [q.number for q in QUESTIONS]
    for number in numbers:
        if not any(q == number or q.rstrip("ab") == number for q in known):
            raise unknown("question", number, known)
    return tuple(
        q
        for q in QUESTIONS
        if not numbers or q.number in numbers or q.number.rstrip("ab") in numbers
    )


@dataclass(frozen=True)
class Work:
    """One network of a study and the suites that it is asked."""

    model: str
    dataset: str
    seed: int
    suites: tuple[str, ...]

    def plan(self, options: Options) -> Subject:
        """Check it; raises as `planning.plan`."""
        (subject,) = plan([self.model], [self.dataset], [self.seed], self.suites, options)
        return subject


def planned(
    questions: tuple[Question, ...], dataset: str, seeds: int, options: Options
) -> list[Work]:
    """List the work, each seed of all models before the next, and check the first seed of each.

    Raises:
        ValueError: There are no seeds; otherwise as `planning.plan`.
    """
    if seeds < 1:
        raise ValueError(f"`--seeds` must be at least 1; got {seeds}.")
    work = [
        Work(model, dataset, seed, suites)
        for seed in range(seeds)
        for model, suites in suites_of(questions).items()
    ]
    for one in work:
        if one.seed == 0:
            one.plan(options)
    return work


def conduct(work: Sequence[Work], options: Options, progress: Progress, workers: int = 1) -> None:
    """Train and measure what is missing; stopped anywhere, the same call goes on from there.

    Args:
        workers: Processes that share the work, one network each at a time.
    """
    if workers == 1:
        for i, one in enumerate(work, 1):
            _one(one, options, progress, f"{i} of {len(work)}")
        return
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
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _one(one: Work, options: Options, progress: Progress, place: str) -> None:
    subject = one.plan(options)
    progress.say(f"{place}: {subject.label}.")
    for _ in execute([subject], options, progress):
        pass


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)


def _in_process(one: Work, options: Options, place: str) -> None:
    _one(one, options, Progress(Console(stderr=True, force_terminal=False)), place)


def workers_for(device: torch.device) -> int:
    """Return how many networks to train at once: one for each CPU core, up to 8; one on a GPU."""
    return min(8, os.cpu_count() or 1) if device.type == "cpu" else 1


def answered(
    questions: tuple[Question, ...], root: Path, dataset: str, seeds: int, progress: Progress
) -> list[Answer]:
    """Return the answers from the first `seeds` seeds in the results folder `root`.

    Raises:
        LookupError: Runs are missing.
    """
    suites = suites_of(questions)
    wanted = sorted({s for of_model in suites.values() for s in of_model})
    table = results.chosen(root, wanted, [dataset], list(suites))
    needed = {"accuracy", "nfe"}
    for question in questions:
        for _, metric, _ in (question.quantity, *question.also):
            needed |= {metric, *(f"{metric}_{k}" for k in ("used", "sharp", "matched"))}
    table = table[table["metric"].isin(needed) & (table["seed"] < seeds)]
    with boards.reading(root, table, progress) as outcomes:
        found = samples(table, outcomes, keep=True)
    return answers(questions, found, table, dataset)


def drawn(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Return whom to draw by suite: of the suites that decide, the models that they decide about.

    Severity curves are of the questions about corruption, since few fit into one figure.
    """
    found: dict[str, dict[str, None]] = {}
    for question in questions:
        if question.suite != "robustness" or question.group != "clean":
            names = (question.model, *filter(None, question.rivals))
            found.setdefault(question.suite, {}).update(dict.fromkeys(names))
        if question.kind == "match":
            names = (question.model, question.baseline)
            found.setdefault("nfe", {}).update(dict.fromkeys(names))
    return {suite: list(names) for suite, names in found.items()}


def write(made: Sequence[Answer], root: Path, dataset: str, seeds: int, scale: str) -> Path:
    """Write the answers to `root`/DATASET/study.json, each with the files that its numbers are of.

    Beside each of these lies a JSON with the same name: weights, command, commit, cells.
    """
    folder = root / safe(dataset)
    questions = []
    for answer in made:
        runs = [
            results.csv_path(root, dataset, suite, model, seed).relative_to(folder).as_posix()
            for model, suites in suites_of((answer.question,)).items()
            for suite in suites
            for seed in range(seeds)
        ]
        questions.append(answer.told() | {"runs": runs})
    content = {
        "scale": scale,
        "dataset": dataset,
        "command": command_line(),
        "commit": commit()[0] or "",
        "questions": questions,
    }
    path = folder / FILE
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def label(first: Subject, options: Options, seeds: int) -> str:
    """Return the scale of a study in words, "digits, 3 seeds, width 16, ..."."""
    training = first.description.get("recipe", {})
    epochs = options.epochs or training.get("epochs")
    images = options.limit or len(first.split)
    parts = [first.dataset, f"{seeds} seed{'s' * (seeds > 1)}", f"width {first.width}"]
    parts += [f"{epochs} epoch{'s' * (epochs > 1)}"] if epochs else []
    total = f" of {len(first.split):,}" if options.limit else ""
    return f"{', '.join(parts)}, {images:,}{total} test images"
