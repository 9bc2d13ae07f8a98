"""Samples to answers: effects, verdicts, sentences.

A verdict is "yes" or "no" only where an interval says so:

    gain    yes: better than every rival, each at 5 %. no: a gain of one point over some rival is
            excluded. Holm over the rivals.
    match   yes: the 95 % interval of the difference to the baseline lies above minus one point;
            no: it lies below.
    change  no: the interval of the paired difference to maps of equal entropy is within 5 % of
            their value; yes: the difference is not 0, at 5 %.
    cost    no: the interval of Spearman's rho of an image's evaluations with its loss lies below
            0.1, or all images cost the same; yes: it lies above 0.

A "yes" must also stand among the other questions, one family at 5 % after Holm. Everything else is
"cannot tell": nothing was shown, and nothing was excluded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from harness.analysis import holm
from harness.analysis.families import LEVEL
from harness.analysis.groups import describe_group
from harness.study.effects import Effect, Numbers, Samples, phrase, scale
from harness.study.questions import ENOUGH, SLIGHT, WEAK, Question
from harness.study.schema import StoredAnswer
from harness.suites.metrics import METRICS

YES, NO, UNCLEAR = "yes", "no", "cannot tell"


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Args:
        p: Of what would make it a "yes", before Holm over the questions.
    """

    question: Question
    verdict: str
    p: float
    sentence: str
    effects: tuple[Effect, ...]

    def store(self, runs: Sequence[str]) -> StoredAnswer:
        """Return it as it is written, with the CSV files that its numbers come from."""
        return StoredAnswer(
            number=self.question.number,
            question=self.question.text,
            answer=self.sentence,
            verdict=self.verdict,
            effects=tuple(effect.store() for effect in self.effects),
            runs=tuple(runs),
        )


def answer_questions(
    questions: Sequence[Question], found: Samples, table: pd.DataFrame, dataset: str
) -> list[Answer]:
    """Answer the questions.

    Args:
        found: Samples of all runs, with their outcomes by seed.
        table: Their long table.

    Raises:
        Refusal: A number is missing.
    """
    ways = {"gain": gain, "change": change, "match": match, "cost": cost}
    made = [ways[q.kind](q, Numbers(found, table, dataset)) for q in questions]
    adjusted = holm([a.p if a.verdict == YES else 1.0 for a in made])
    checked = []
    for answer, p in zip(made, adjusted, strict=True):
        if answer.verdict == YES and p > LEVEL:
            sentence = (
                f"{answer.sentence} Not significant after Holm's correction over {len(made)} "
                "questions."
            )
            answer = replace(answer, verdict=UNCLEAR, sentence=sentence)
        checked.append(answer)
    return checked


def gain(question: Question, numbers: Numbers) -> Answer:
    """Is the model better than the baseline and every null?"""
    quantity = question.quantity
    deciding = [numbers.effect(quantity, question.model, r, True) for r in question.rivals]
    others = [
        numbers.effect(w, question.model, r, False) for w in question.also for r in question.rivals
    ]
    effects = "; ".join(phrase(e) for e in deciding)
    place = describe_group(quantity.group)
    p = max(e.p if e.value > 0 else 1.0 for e in deciding)
    excluded = holm([e.p_gain for e in deciding]) <= LEVEL / 2
    if p <= LEVEL:
        verdict = YES
        sentence = f"Accuracy {place} is higher than that of every rival: {effects}"
    elif excluded.any():
        least = " and ".join(e.against for e, out in zip(deciding, excluded, strict=True) if out)
        verdict = NO
        sentence = f"A gain of {100 * ENOUGH:g} point {place} over {least} is ruled out: {effects}"
    else:
        verdict = UNCLEAR
        sentence = (
            f"Accuracy {place}: {effects}. Inconclusive: not significantly better than every "
            f"rival, and a gain of {100 * ENOUGH:g} point cannot be ruled out"
        )
    return Answer(question, verdict, p, f"{sentence} ({scale(deciding)}).", (*deciding, *others))


def match(question: Question, numbers: Numbers) -> Answer:
    """Is the model as accurate as its baseline, and with how many evaluations?"""
    quantity = question.quantity
    own = numbers.effect(quantity, question.model, question.baseline, True)
    others = [
        numbers.effect(w, question.model, r, False)
        for w in (quantity, *question.also)
        for r in question.rivals
        if (w, r) != (quantity, question.baseline)
    ]
    margin = f"{100 * ENOUGH:g} point"
    if own.low >= -ENOUGH:
        verdict, sentence = (
            YES,
            f"It is less accurate by no more than {margin}: {phrase(own)}",
        )
    elif own.high < -ENOUGH:
        verdict, sentence = NO, f"It is less accurate by more than {margin}: {phrase(own)}"
    else:
        verdict = UNCLEAR
        sentence = f"Inconclusive: a loss of {margin} is neither shown nor ruled out: {phrase(own)}"
    if others:
        sentence += "; compared with its null, " + phrase(others[0])
    evaluations = fewest(question, numbers)
    return Answer(
        question,
        verdict,
        2 * own.p_loss,
        f"{sentence} ({scale([own])}). {evaluations}",
        (own, *others),
    )


def fewest(question: Question, numbers: Numbers) -> str:
    """Say with how few evaluations the model comes within the margin of its baseline."""
    table = numbers.table
    kept = table[
        (table["suite"] == "nfe")
        & (table["dataset"] == numbers.dataset)
        & table["metric"].isin(["accuracy", "nfe"])
        & (table["variant"] == "")
        & ~table["condition"].str.contains(",")
    ]
    wide = kept.pivot_table(
        index=["model", "condition", "level"], columns="metric", values="value", sort=False
    )
    models = wide.index.get_level_values("model")
    if question.model not in models or question.baseline not in models:
        return "Its evaluations were not measured."
    target = float(wide.loc[question.baseline]["accuracy"].iloc[0])
    own = wide.xs(question.model)
    assert isinstance(own, pd.DataFrame)
    near = own[own["accuracy"] >= target - ENOUGH].sort_values("nfe", kind="stable")
    best = own.sort_values("accuracy").iloc[-1]
    if near.empty:
        return (
            f"No solver comes within {100 * ENOUGH:g} point of the fixed layers' "
            f"{100 * target:.1f} %; the best has {100 * best['accuracy']:.1f} % at "
            f"{best['nfe']:g} evaluations."
        )
    name, level = near.index[0]
    row = near.iloc[0]
    plural = "" if row["nfe"] == 1 else "s"
    return (
        f"With {row['nfe']:.3g} evaluation{plural} an image ({name} {level:g}) it reaches "
        f"{100 * row['accuracy']:.1f} %, where the fixed layers have {100 * target:.1f} %."
    )


def change(question: Question, numbers: Numbers) -> Answer:
    """Do diffused maps differ from those that a temperature gives?"""
    quantity = question.quantity
    own = numbers.inside(quantity, question.model, True)
    others = [numbers.inside(w, question.model, False) for w in question.also]
    name, place = METRICS[quantity.metric].title, describe_group(question.quantity.group)
    if max(abs(own.low), abs(own.high)) <= SLIGHT * abs(own.other):
        verdict = NO
        sentence = f"Their {name} {place} is the same within {100 * SLIGHT:g} %: {phrase(own)}"
    elif own.p <= LEVEL:
        verdict, share = YES, own.value / own.other
        sentence = f"Their {name} {place} differs by {100 * share:+.0f} %: {phrase(own)}"
    else:
        verdict, sentence = UNCLEAR, f"Their {name} {place}: {phrase(own)}"
    moved = [e for e in others if e.quantity.metric == "instability"]
    if moved:
        sentence += "; map instability differs by " + " and ".join(
            f"{phrase(e, against=False)} {describe_group(e.quantity.group)}" for e in moved
        )
    return Answer(question, verdict, own.p, f"{sentence} ({scale([own])}).", (own, *others))


def cost(question: Question, numbers: Numbers) -> Answer:
    """Do an image's evaluations grow with its loss?"""
    quantity = question.quantity
    own = numbers.alone(quantity, question.model, True)
    others = [e for w in question.also if (e := numbers.alone(w, question.model, False))]
    if own is None:
        nfe = numbers.sample(quantity._replace(metric="nfe", variant=""), question.model)
        sentence = (
            f"Every image takes the same {nfe.value:g} evaluations with {quantity.group}, the easy "
            f"and the hard ({nfe.seeds} seeds, {nfe.n:,} images)."
        )
        return Answer(question, NO, 1.0, sentence, tuple(others))
    said = (
        f"Spearman's rho of an image's evaluations with its loss is {own.value:.2f} "
        f"[{own.low:.2f}, {own.high:.2f}] under {quantity.group} ({scale([own])})"
    )
    if own.high < WEAK:
        verdict, sentence = NO, f"{said}: a relation of {WEAK:g} is ruled out"
    elif own.low > 0:
        verdict, sentence = YES, said
    else:
        verdict, sentence = UNCLEAR, said
    dealt = [e for e in others if e.quantity.variant == "dealt loss"]
    if dealt:
        sentence += f"; with evaluations assigned to other images at random {dealt[0].value:.2f}"
    return Answer(question, verdict, own.p, f"{sentence}.", (own, *others))
