"""What was found on one question: its claims, its effects, and the words for each verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.belief import BELIEVED, BOUND
from harness.analysis.verdicts import verdicts
from harness.comparison.wording import signed
from harness.study.claims import Claim, Claims, judge
from harness.study.design import Question
from harness.study.effects import Effect, Numbers
from harness.study.sentences import beats, found, phrase, scale
from harness.study.stored import StoredAnswer
from harness.suites.adversarial_metrics import ROBUST_ACCURACY

NO_INTERVAL = (
    "Without an interval nothing is claimed: it needs the value of each image, in `cells/`, which "
    "this folder does not hold for all of these networks."
)


@dataclass(frozen=True)
class Finding:
    """What was found.

    Args:
        words: What the sentence says by verdict; "" for any other.
        facts: Sentences behind it.
        margin: The smallest difference that matters, in words: "a point".
        at: Function that returns the claims had the model been better by so much, at the same
            errors; None where nothing was measured.
    """

    question: Question
    claims: Claims
    effects: tuple[Effect, ...]
    words: Mapping[str, str]
    facts: tuple[str, ...] = ()
    margin: str = "a point"
    at: Callable[[float], Claims] | None = field(default=None, compare=False)

    @property
    def deciding(self) -> list[Effect]:
        """The effects that the verdict rests on."""
        return [effect for effect in self.effects if effect.decides]

    def sentence(self, verdict: str) -> str:
        """Return the answer in words."""
        deciding = self.deciding
        said = self.words.get(verdict, self.words[""])
        behind = f" ({scale(deciding)})" if deciding else ""
        empty = [f"Not decided: {reason}." for reason in dict.fromkeys(self.claims.empty.values())]
        (alone,) = judge([self.claims], 1)
        doubt = f"Asked alone it would be `{alone}`, which does not stand among all claims."
        if any(math.isnan(effect.low) for effect in deciding):
            empty.append(NO_INTERVAL)
        parts = [f"{said}{behind}.", doubt if alone != verdict else "", *empty, *self.facts]
        return " ".join(filter(None, parts))

    def answer(self, verdict: str, runs: Sequence[str]) -> StoredAnswer:
        """Return the answer as it is written, with the CSV files that its numbers come from."""
        return StoredAnswer(
            number=self.question.number,
            question=self.question.text,
            answer=self.sentence(verdict),
            verdict=verdict,
            margin=self.margin,
            effects=tuple(effect.store() for effect in self.effects),
            runs=tuple(runs),
        )


def margin_of(question: Question) -> str:
    """Return the margin in words, "a point", "0.5 points", "5 %"."""
    if question.kind in ("learned", "solver"):
        return f"{100 * question.margin:g} %"
    if question.kind == "cost":
        return f"{question.margin:g}"
    if question.margin == 0.01:
        return "a point"
    return signed("accuracy", question.margin).lstrip("+")


def doubts(deciding: Sequence[Effect]) -> tuple[str, ...]:
    """Say how often one training beats another, and what would have been found."""
    least = min(deciding, key=lambda e: e.value)
    return tuple(filter(None, (beats(least), found(deciding))))


def others(question: Question, numbers: Numbers, against: Sequence[str]) -> list[Effect]:
    """Return what is shown beside what decides: further quantities, rivals."""
    made = [
        numbers.effect(w, question.model, name, False) for w in question.also for name in against
    ]
    late = numbers.missing(question.decides, question.rivals)
    return made + [
        numbers.effect(question.decides, question.model, name, False)
        for name in question.rivals
        if name not in late
    ]


def floor(question: Question, numbers: Numbers) -> dict[Claim, str]:
    """Return why nothing can be claimed where the baseline is not shown to be better than chance.

    Networks that know nothing are all alike.
    """
    quantity, name = question.decides, question.baseline
    if quantity.metric != "accuracy" or not name or not numbers.classes:
        return {}
    least = numbers.sample(quantity, name).low
    if least > 1 / numbers.classes + question.margin:
        return {}
    reason = f"`{name}` is not shown to be better than chance by {margin_of(question)}"
    return dict.fromkeys(("yes", "little", "worse"), reason)


def unbelieved(question: Question, numbers: Numbers) -> tuple[str, ...]:
    """Say whether robust accuracies that decide can be believed; nothing of other metrics."""
    if question.decides.metric != ROBUST_ACCURACY.name:
        return ()
    names, found = (question.model, *question.against), verdicts(numbers.table)
    suite = question.decides.suite
    where = numbers.dataset_in(suite), suite
    said = {name: found.get((*where, name), "") for name in names}
    bounds = [f"{name}: {text or BOUND + 'not checked'}" for name, text in said.items()
              if text != BELIEVED]  # fmt: skip
    if not bounds:
        return ("Checks of the attacks found nothing: all of these numbers are believed.",)
    return (
        f"{len(bounds)} of {len(names)} numbers are upper bounds, and so is what follows from them "
        f"({'; '.join(bounds)}).",
    )


def several(effects: Sequence[Effect]) -> str:
    return "; ".join(phrase(e) for e in effects)
