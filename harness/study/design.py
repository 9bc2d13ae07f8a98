"""A study: its questions, and at which scale they are asked. Data alone; nothing here computes.

A question names a model, what it stands beside, and the one comparison that decides. A gain counts
only over the baseline *and* every null: what is not better than blur was not gained by diffusion.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from harness.refusal import Refusal, unknown

Kind = Literal["gain", "match", "sum", "learned", "cost", "solver"]
MARGINS: Mapping[Kind, float] = {  # the smallest difference that matters
    "gain": 0.01,  # one point of accuracy
    "match": 0.01,
    "sum": 0.01,
    "learned": 0.05,  # of the statistic's value
    "cost": 0.1,  # of a rank statistic in [-1, 1]
    "solver": 0.1,  # of the other solver's value
}


class Quantity(NamedTuple):
    """What is measured: a suite's metric under a group of conditions, of one variant."""

    suite: str
    metric: str
    group: str = "clean"
    variant: str = ""


@dataclass(frozen=True)
class Question:
    """One question that can be answered either way.

    Args:
        number: Such as "2a".
        text: As a person asks it.
        kind: "gain": is the model better than its baseline and all nulls? "match": is it as good as
            its baseline, but for the margin? "sum": does it gain what its parts gain one by one?
            "learned": does training make a statistic of it differ from that of its nulls? "cost":
            do its evaluations grow with the difficulty of an image? "solver": is it better with one
            solver than with others?
        model: Whom it is about; models are named as for `--model`.
        decides: The quantity that does.
        baseline: The same network without the idea.
        nulls: Trivial models that would explain the same gain.
        rivals: Further models that are shown, and decide nothing.
        parts: Of a sum: the models with one part of the idea each.
        solvers: Of a solver: the groups of the others, such as "euler 9", of the same quantity and
            model; `decides` has the group of its own.
        also: Further quantities that are shown, and decide nothing.
        margin: The smallest difference that matters: a rate; for "learned" a share of the null's
            value, for "solver" of the other solver's; for "cost" a rank statistic.
        curves: Whether accuracy against evaluations is measured too, and said of a match.
    """

    number: str
    text: str
    kind: Kind
    model: str
    decides: Quantity
    baseline: str = ""
    nulls: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    solvers: tuple[str, ...] = ()
    also: tuple[Quantity, ...] = ()
    margin: float = 0.01
    curves: bool = False

    @property
    def against(self) -> tuple[str, ...]:
        """The baseline and the nulls: who decides."""
        return (*filter(None, (self.baseline,)), *self.nulls)

    @property
    def models(self) -> tuple[str, ...]:
        """All models, each once, the one that it is about first."""
        return tuple(dict.fromkeys((self.model, *self.against, *self.parts, *self.rivals)))

    def named(self, names: Mapping[str, str]) -> "Question":
        """Return it with other names of its models."""

        def of(specs: Sequence[str]) -> tuple[str, ...]:
            return tuple(names[spec] for spec in specs)

        return replace(
            self,
            model=names[self.model],
            baseline=names[self.baseline] if self.baseline else "",
            nulls=of(self.nulls),
            rivals=of(self.rivals),
            parts=of(self.parts),
        )


@dataclass(frozen=True)
class Preset:
    """A scale that a study is asked at.

    Args:
        seeds: How many, from 0 on.
        width: None takes the data set's own; `epochs` and `recipe` likewise.
        questions: Numbers; empty for all.
        rivals: Whether rivals, which decide nothing, are trained too.
        attack: Attacks of the suite `adversarial` in place of all, such as "linf".
    """

    dataset: str
    seeds: int
    width: int | None = None
    epochs: int | None = None
    recipe: str | None = None
    questions: tuple[str, ...] = ()
    rivals: bool = True
    attack: tuple[str, ...] = ()


@dataclass(frozen=True)
class Design:
    """A study as its file has it.

    Args:
        name: Of its answers' file: "study" for results/DATASET/study.json.
        preset: The scale, unless another one is asked for.
        presets: Scales with a name.
        digests: SHA-256 of each question, by its number, whatever the scale.
    """

    name: str
    title: str
    questions: tuple[Question, ...]
    preset: Preset
    presets: Mapping[str, Preset] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def preset_for(self, name: str | None, dataset: str | None) -> Preset:
        """Return the preset of this name; without one that of the data set, or the usual one.

        Raises:
            Refusal: There is no such preset.
        """
        if name is None:
            fitting = (p for p in self.presets.values() if p.dataset == dataset)
            return next(fitting, self.preset)
        if name not in self.presets:
            if not self.presets:
                raise Refusal(f"The study {self.name} has no presets. Leave out `--preset {name}`.")
            raise unknown("preset", name, self.presets)
        return self.presets[name]

    @property
    def numbers(self) -> frozenset[str]:
        """What a question can be asked by: "2a", and "2" for all that begin so."""
        return frozenset(n for q in self.questions for n in (q.number, _group(q.number)))

    def select(self, numbers: Sequence[str], rivals: bool = True) -> tuple[Question, ...]:
        """Return the questions of these numbers, all for none; "2" means 2a and 2b.

        Args:
            rivals: Whether they keep their rivals.

        Raises:
            Refusal: There is no such question.
        """
        for number in numbers:
            if number not in self.numbers:
                raise unknown("question", number, [q.number for q in self.questions])
        return tuple(
            q if rivals else replace(q, rivals=())
            for q in self.questions
            if not numbers or q.number in numbers or _group(q.number) in numbers
        )


def _group(number: str) -> str:
    return number.rstrip("abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Need:
    """A model and the suites that it must have run.

    Args:
        untrained: Whether it is asked as it starts.
    """

    model: str
    suites: tuple[str, ...]
    untrained: bool = False


ORDER = ("clean", "robustness", "attention", "nfe")  # the cheap ones first


def needs_of(questions: Sequence[Question], check: bool = False) -> list[Need]:
    """List what must have been run to answer questions, each model once, untrained ones last.

    Args:
        check: Whether every question is asked of untrained networks too; but of solvers, which no
            training changes.
    """
    found: dict[tuple[str, bool], dict[str, None]] = {}
    for question in questions:
        for model, suite in _pairs(question):
            found.setdefault((model, False), {})[suite] = None
        bare = check and question.kind != "solver"
        if bare or question.kind in ("learned", "cost"):
            for model in (question.model, *question.against, *question.parts):
                found.setdefault((model, True), {})[question.decides.suite] = None

    def place(suite: str) -> tuple:
        return (ORDER.index(suite) if suite in ORDER else len(ORDER), suite)

    made = [Need(name, tuple(sorted(s, key=place)), bare) for (name, bare), s in found.items()]
    return sorted(made, key=lambda need: need.untrained)


def _pairs(question: Question) -> Iterator[tuple[str, str]]:
    """Each model of a question with each suite that it must have run."""
    for model in question.models:
        for quantity in (question.decides, *question.also):
            yield model, quantity.suite
    if question.curves:  # where fixed layers stand on the axis of evaluations
        for model in (question.model, *question.against):
            yield model, "nfe"
