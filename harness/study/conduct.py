"""Run what a study needs and is not there, and write its answers: results/study.json."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import boards, results
from harness.files import write_bytes
from harness.planning import Options, Subject, plan
from harness.progress import Teller
from harness.provenance import command_line, commit
from harness.run import Written, execute
from harness.sampling import samples
from harness.study.answers import Answer, answers
from harness.study.questions import QUESTIONS, Question, suites_of
from models.registry import unknown

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


def planned(
    questions: tuple[Question, ...], dataset: str, seeds: int, options: Options
) -> list[Subject]:
    """Check everything, and list the work: each seed of all models before the next seed.

    Raises:
        As `planning.plan`.
    """
    if seeds < 1:
        raise ValueError(f"`--seeds` must be at least 1; got {seeds}.")
    work = [
        subject
        for model, suites in suites_of(questions).items()
        for subject in plan([model], [dataset], range(seeds), suites, options)
    ]
    return sorted(work, key=lambda subject: subject.seed)


def conduct(
    questions: tuple[Question, ...],
    work: Sequence[Subject],
    options: Options,
    teller: Teller,
) -> list[Written]:
    """Train and measure what is missing; stopped anywhere, the same call goes on from there."""
    written: list[Written] = []
    for i, subject in enumerate(work, 1):
        teller.say(f"{i} of {len(work)}: {subject.label}.")
        # Weights that an earlier subject of this call has trained are loaded.
        if subject.path.is_file() and subject.file is None and not subject.source.pretrained:
            subject = replace(subject, file=subject.path)
        written += execute([subject], options, teller)
    return written


def answered(
    questions: tuple[Question, ...], root: Path, dataset: str, teller: Teller
) -> list[Answer]:
    """Return the answers from what is in the results folder `root`.

    Raises:
        LookupError: Runs are missing.
    """
    suites = suites_of(questions)
    wanted = sorted({s for of_model in suites.values() for s in of_model})
    table = results.chosen(root, wanted, [dataset], list(suites))
    needed = {"accuracy", "nfe"} | {q.metric for q in questions if q.kind == "gain"}
    for question in questions:
        for _, metric, _ in ((question.suite, question.metric, question.group), *question.also):
            needed |= {metric, *(f"{metric}_{k}" for k in ("used", "sharp", "matched"))}
    table = table[table["metric"].isin(needed)]
    with boards.reading(root, table, teller) as outcomes:
        found = samples(table, outcomes, keep=True)
    return answers(questions, found, table, dataset)


def write(made: Sequence[Answer], root: Path, preset: str) -> Path:
    """Write the answers to `root`/study.json."""
    content = {
        "preset": preset,
        "command": command_line(),
        "commit": commit()[0] or "",
        "questions": [answer.told() for answer in made],
    }
    path = root / FILE
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def label(work: Sequence[Subject], options: Options, preset: str, seeds: int) -> str:
    """Return the scale of a study in words, "quick: digits, 3 seeds, width 16, ..."."""
    first = work[0]
    training = first.description.get("recipe", {})
    epochs = options.epochs or training.get("epochs")
    images = options.limit or len(first.split)
    parts = [first.dataset, f"{seeds} seed{'s' * (seeds > 1)}", f"width {first.width}"]
    parts += [f"{epochs} epochs"] if epochs else []
    total = f" of {len(first.split):,}" if options.limit else ""
    return f"{preset}: {', '.join(parts)}, {images:,}{total} test images"
