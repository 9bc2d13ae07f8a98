"""A study's answers, made from what a results folder holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.progress import Progress
from harness.running.options import Options
from harness.storage.provenance import command_line, commit
from harness.study import history
from harness.study.answers import find_all, verdicts
from harness.study.changes import say_change, say_power
from harness.study.checks import check
from harness.study.design import Design, Question
from harness.study.effects import Numbers
from harness.study.power import Power, power_of
from harness.study.reading import read_numbers, runs_of
from harness.study.run import names_of, untrained_options
from harness.study.runs import Runs
from harness.study.stored import StoredAnswer, Study, hash_runs


@dataclass(frozen=True)
class Making:
    """One study at one scale.

    Args:
        family: All questions that are one family of claims, whether asked now or not.
        dataset: The data set's name in tables.
        noted: Digests of its questions at their first run.
    """

    design: Design
    family: Sequence[Question]
    dataset: str
    seeds: int
    options: Options
    noted: Mapping[str, str]

    def named(self, questions: Sequence[Question]) -> list[Question]:
        """Return questions with their models named as in tables."""
        names = names_of(questions)
        return [question.named(names) for question in questions]

    def runs(self, numbers: Sequence[str]) -> Runs:
        """Return the runs behind the questions of these numbers."""
        asked = [question for question in self.family if question.number in numbers]
        roots = self.options.root, untrained_options(self.options).root
        attack = self.options.attack
        return Runs(asked, names_of(asked), self.dataset, self.seeds, *roots, attack)

    def numbers(self, classes: int, planned: int, progress: Progress, seeds: int = 0) -> Numbers:
        """Return what was measured; all as of `Numbers`, but that fewer `seeds` may be enough."""
        found = read_numbers(
            self.named(self.family),
            self.options,
            self.dataset,
            self.seeds,
            classes,
            planned,
            progress,
        )
        return replace(found, seeds=seeds or self.seeds)

    def answer(self, wanted: Sequence[str], path: Path, progress: Progress) -> Study:
        """Return the answers to all questions of the family that were measured.

        Args:
            wanted: Numbers of the questions that must have an answer.
            path: Where the answers will be, and were before.

        Raises:
            Refusal: A number that these need is missing.
        """
        looks = history.looks_with(path, self.seeds)
        scale = self.runs(wanted).scale()
        numbers = self.numbers(scale.classes, history.planned_seeds(looks), progress)
        made: list[StoredAnswer] = []
        found = find_all(self.named(self.family), numbers, wanted)
        judged = verdicts(found)
        for place, (finding, verdict) in enumerate(judged):
            question = finding.question
            runs = runs_of(question, self.options, self.dataset, self.seeds)
            progress.say(f"{question.number}: checks.")
            said = tuple(one.sentence for one in check(question, numbers, self.options.root))
            planned = history.plan_of(
                self.design, question.number, self.options.root, self.dataset, self.seeds
            )
            answer = finding.answer(verdict, runs)
            power = say_power(finding, planned)
            change = say_change(place, judged, len(found), numbers)
            made.append(replace(answer, checks=said, power=power, change=change))
        return self._study(scale.describe(self.dataset, self.seeds), made, looks)

    def _study(self, scale: str, made: Sequence[StoredAnswer], looks: tuple[int, ...]) -> Study:
        head, changed = commit()
        notes = history.notes(self.design, self.noted, looks)
        notes += tuple(self.runs([answer.number for answer in made]).say_other_code())
        return Study(
            scale=scale,
            dataset=self.dataset,
            command=command_line(),
            commit=f"{head}, changed" if head and changed else head or "",
            questions=tuple(made),
            runs=hash_runs(self.options.results, made),
            study=self.design.name,
            design={q.number: self.design.digests[q.number] for q in self.family},
            notes=notes,
            looks=looks,
        )

    def power(self, classes: int, spec: str, progress: Progress) -> list[Power]:
        """Return what each question needs for 80 % power at its margin.

        Args:
            classes: How many the data set has.
            spec: The data set as it was asked for.
        """
        numbers = self.numbers(classes, 0, progress, seeds=1)
        return [
            power_of(question, asked, numbers, spec, self.options, self.seeds)
            for asked, question in zip(self.family, self.named(self.family), strict=True)
        ]
