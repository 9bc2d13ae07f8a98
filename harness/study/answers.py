"""Samples to answers: effects, verdicts, sentences.

A verdict is "yes" or "no" only where an interval says so:

    gain    yes: better than every rival, each at 5 %. no: a gain of one point over some rival is
            excluded. Holm over the rivals.
    match   yes: the 95 % interval of the difference to the baseline lies above minus one point;
            no: it lies below.
    change  yes: the paired difference to maps of equal entropy is not 0, at 5 %; no: it is within
            5 % of their value.
    cost    no: the interval of Spearman's rho of an image's evaluations with its loss lies below
            0.1, or all images cost the same; yes: it lies above 0.

A "yes" must also stand among the other questions, one family at 5 % after Holm. Everything else is
"cannot tell": nothing was shown, and nothing was excluded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness.compare import amount, bounds
from harness.groups import spoken
from harness.sampling import Key
from harness.scores import better, in_points
from harness.statistics import Sample, difference, holm
from harness.statistics.families import LEVEL
from harness.study.questions import ENOUGH, SLIGHT, WEAK, Question

YES, NO, UNCLEAR = "yes", "no", "cannot tell"
TEMPERATURE = "a temperature of equal entropy"
NOTHING = "no relation"
Samples = Mapping[Key, Sample]


@dataclass(frozen=True)
class Effect:
    """One difference: `model` less `against`.

    Args:
        p: Two-sided, unadjusted; `p_less` one-sided, of "the gain is at least `ENOUGH`";
            `p_inferior` one-sided, of "the loss is at least `ENOUGH`".
        decides: Whether the verdict rests on it.
        spread_of: Value of `against`, for what is judged relative to it.
    """

    model: str
    against: str
    suite: str
    metric: str
    group: str
    value: float
    low: float
    high: float
    p: float
    p_less: float
    p_inferior: float
    seeds: int
    images: int
    decides: bool
    spread_of: float = math.nan

    def told(self) -> dict[str, Any]:
        """Return it as JSON; what is not known is null."""

        def number(value: float) -> float | None:
            return round(value, 6) if math.isfinite(value) else None

        return {
            "model": self.model,
            "against": self.against,
            "suite": self.suite,
            "metric": self.metric,
            "group": self.group,
            "effect": number(self.value),
            "low": number(self.low),
            "high": number(self.high),
            "p": None if math.isnan(self.p) else float(f"{self.p:.3g}"),
            "seeds": self.seeds,
            "images": self.images,
            "decides": self.decides,
        }


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

    def told(self) -> dict[str, Any]:
        return {
            "number": self.question.number,
            "question": self.question.text,
            "answer": self.sentence,
            "verdict": self.verdict,
            "effects": [effect.told() for effect in self.effects],
        }


def answers(
    questions: Sequence[Question], found: Samples, table: pd.DataFrame, dataset: str
) -> list[Answer]:
    """Answer the questions.

    Args:
        found: Samples of all runs, with their outcomes by seed.
        table: Their long table.

    Raises:
        LookupError: A number is missing.
    """
    ways = {"gain": gain, "change": change, "match": match, "cost": cost}
    made = [ways[q.kind](q, Numbers(found, table, dataset)) for q in questions]
    adjusted = holm([a.p if a.verdict == YES else 1.0 for a in made])
    checked = []
    for answer, p in zip(made, adjusted, strict=True):
        if answer.verdict == YES and p > LEVEL:
            sentence = f"{answer.sentence} Among {len(made)} questions that is not significant."
            answer = replace(answer, verdict=UNCLEAR, sentence=sentence)
        checked.append(answer)
    return checked


@dataclass(frozen=True)
class Numbers:
    """The samples of one data set."""

    found: Samples
    table: pd.DataFrame
    dataset: str

    def sample(self, suite: str, metric: str, group: str, model: str) -> Sample:
        key = Key(self.dataset, suite, metric, group, model)
        if key not in self.found:
            raise LookupError(
                f"There is no {metric} of `{model}` {spoken(group)} on {self.dataset}, suite "
                f"{suite}. Run `harness study` without `--no-run`."
            )
        return self.found[key]

    def effect(
        self, where: tuple[str, str, str], model: str, against: str, decides: bool
    ) -> Effect:
        """Return the difference of two models."""
        suite, metric, group = where
        a, b = (self.sample(suite, metric, group, name) for name in (model, against))
        return _effect(a, b, where, (model, against), decides)

    def inside(self, where: tuple[str, str, str], model: str, decides: bool) -> Effect:
        """Return the difference of a model's maps to those of a temperature, image by image."""
        suite, metric, group = where
        # A temperature changes no rank: the instability of matched maps is that of the sharp ones.
        other = "sharp" if metric == "instability" else "matched"
        a, b = (self.sample(suite, f"{metric}_{k}", group, model) for k in ("used", other))
        # One network, its maps as they are and otherwise: paired by seed as well.
        a, b = replace(a, runs=()), replace(b, runs=())
        made = _effect(a, b, where, (model, TEMPERATURE), decides, same_seeds=True)
        return replace(made, spread_of=b.value)

    def alone(self, where: tuple[str, str, str], model: str, decides: bool) -> Effect | None:
        """Return a correlation over seeds beside none at all; None where there is none."""
        suite, metric, group = where
        condition, _, level = group.rpartition(" ")
        kept = self.table[
            (self.table["suite"] == suite)
            & (self.table["model"] == model)
            & (self.table["dataset"] == self.dataset)
            & (self.table["condition"] == condition)
            & np.isclose(self.table["level"], float(level))
        ]
        values = kept.loc[kept["metric"] == metric, "value"].to_numpy(float)
        if not len(values):
            return None
        n = int(kept.loc[kept["metric"] == metric, "n"].min())
        value = float(values.mean())
        # Over images, as Bonett and Wright have it; over seeds, as a mean of several.
        within = (1 - value**2) ** 2 * (1 + value**2 / 2) / (n - 3)
        between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
        variance = within / len(values) + between
        df = (len(values) - 1) * (variance / between) ** 2 if between > 0 else math.inf
        half = float(student.ppf(0.975, df)) * math.sqrt(variance)
        p = float(2 * student.sf(abs(value) / math.sqrt(variance), df))
        bound = max(-1.0, value - half), min(1.0, value + half)
        counts = (len(values), n)
        return Effect(
            model,
            NOTHING,
            suite,
            metric,
            group,
            value,
            *bound,
            p,
            math.nan,
            math.nan,
            *counts,
            decides,
        )


def _effect(
    a: Sample,
    b: Sample,
    where: tuple[str, str, str],
    names: tuple[str, str],
    decides: bool,
    same_seeds: bool = False,
) -> Effect:
    suite, metric, group = where
    d = difference(a, b, same_seeds=same_seeds)
    side = better(metric) or 1
    oriented = d if side > 0 else d.flipped()
    return Effect(
        *names,
        suite,
        metric,
        group,
        a.value - b.value,
        float(d.low),
        float(d.high),
        float(d.p),
        float(oriented.p_worse(-ENOUGH)),
        1 - float(oriented.p_worse(ENOUGH)),
        min(a.seeds, b.seeds),
        min(a.n, b.n),
        decides,
    )


def phrase(effect: Effect, against: bool = True) -> str:
    """Return "+1.3 points [0.2, 2.4] against resnet18"."""
    unit = " points" if in_points(effect.metric) else ""
    sign = "+" if effect.value >= 0 else "-"
    text = f"{sign}{amount(effect.metric, effect.value)}{unit}"
    if math.isfinite(effect.low):
        text += f" {bounds(effect.metric, effect.low, effect.high)}"
    return f"{text} against {effect.against}" if against else text


def scale(effects: Sequence[Effect]) -> str:
    seeds, images = effects[0].seeds, effects[0].images
    return f"{seeds} seed{'s' * (seeds > 1)}, {images:,} images"


def gain(question: Question, numbers: Numbers) -> Answer:
    """Is the model better than the baseline and every null?"""
    where = question.suite, question.metric, question.group
    deciding = [numbers.effect(where, question.model, r, True) for r in question.rivals]
    others = [
        numbers.effect(w, question.model, r, False) for w in question.also for r in question.rivals
    ]
    told, place = "; ".join(phrase(e) for e in deciding), spoken(question.group)
    p = max(1.0 if e.value <= 0 or math.isnan(e.p) else e.p for e in deciding)
    excluded = holm([1.0 if math.isnan(e.p_less) else e.p_less for e in deciding]) <= LEVEL / 2
    if p <= LEVEL:
        verdict, sentence = YES, f"Accuracy {place} is higher than that of all beside it: {told}"
    elif excluded.any():
        least = " and ".join(e.against for e, out in zip(deciding, excluded, strict=True) if out)
        verdict = NO
        sentence = f"A gain of {100 * ENOUGH:g} point {place} over {least} is excluded: {told}"
    else:
        verdict = UNCLEAR
        sentence = (
            f"Accuracy {place}: {told}. Neither is it better than all of them, nor is a gain of "
            f"{100 * ENOUGH:g} point excluded"
        )
    return Answer(question, verdict, p, f"{sentence} ({scale(deciding)}).", (*deciding, *others))


def match(question: Question, numbers: Numbers) -> Answer:
    """Is the model as accurate as its baseline, and with how many evaluations?"""
    where = question.suite, question.metric, question.group
    own = numbers.effect(where, question.model, question.baseline, True)
    others = [
        numbers.effect(w, question.model, r, False)
        for w in (where, *question.also)
        for r in question.rivals
        if (w, r) != (where, question.baseline)
    ]
    margin = f"{100 * ENOUGH:g} point"
    if own.low >= -ENOUGH:
        verdict, sentence = YES, f"It is less accurate by no more than {margin}: {phrase(own)}"
    elif own.high < -ENOUGH:
        verdict, sentence = NO, f"It is less accurate by more than {margin}: {phrase(own)}"
    else:
        verdict = UNCLEAR
        sentence = f"A loss of {margin} is neither excluded nor shown: {phrase(own)}"
    if others:
        sentence += "; beside its null, " + phrase(others[0])
    evaluations = fewest(question, numbers)
    return Answer(
        question,
        verdict,
        2 * own.p_inferior,
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
        & ~table["condition"].str.contains(",")
    ]
    wide = kept.pivot_table(
        index=["model", "condition", "level"], columns="metric", values="value", sort=False
    )
    models = wide.index.get_level_values("model")
    if question.model not in models or question.baseline not in models:
        return "Its evaluations were not measured."
    target = float(wide.loc[question.baseline]["accuracy"].iloc[0])
    own = wide.loc[question.model]
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
    where = question.suite, question.metric, question.group
    own = numbers.inside(where, question.model, True)
    others = [numbers.inside(w, question.model, False) for w in question.also]
    name, place = question.metric.replace("_", " "), spoken(question.group)
    slight = SLIGHT * abs(own.spread_of)
    if own.p <= LEVEL:
        verdict = YES
        share = own.value / own.spread_of if own.spread_of else math.nan
        sentence = f"Their {name} {place} differs by {100 * share:+.0f} %: {phrase(own)}"
    elif max(abs(own.low), abs(own.high)) <= slight:
        verdict = NO
        sentence = f"Their {name} {place} is the same within {100 * SLIGHT:g} %: {phrase(own)}"
    else:
        verdict, sentence = UNCLEAR, f"Their {name} {place}: {phrase(own)}"
    moved = [e for e in others if e.metric == "instability"]
    if moved:
        sentence += "; how far corruption moves them differs by " + " and ".join(
            f"{phrase(e, against=False)} {spoken(e.group)}" for e in moved
        )
    return Answer(question, verdict, own.p, f"{sentence} ({scale([own])}).", (own, *others))


def cost(question: Question, numbers: Numbers) -> Answer:
    """Do an image's evaluations grow with its loss?"""
    where = question.suite, question.metric, question.group
    own = numbers.alone(where, question.model, True)
    others = [e for w in question.also if (e := numbers.alone(w, question.model, False))]
    if own is None:
        nfe = numbers.sample(question.suite, "nfe", question.group, question.model)
        sentence = (
            f"Every image takes the same {nfe.value:g} evaluations with {question.group}, the easy "
            f"and the hard ({nfe.seeds} seeds, {nfe.n:,} images)."
        )
        return Answer(question, NO, 1.0, sentence, tuple(others))
    said = (
        f"Spearman's rho of an image's evaluations with its loss is {own.value:.2f} "
        f"[{own.low:.2f}, {own.high:.2f}] under {question.group} ({scale([own])})"
    )
    if own.high < WEAK:
        verdict, sentence = NO, f"{said}: a relation of {WEAK:g} is excluded"
    elif own.low > 0:
        verdict, sentence = YES, said
    else:
        verdict, sentence = UNCLEAR, said
    dealt = [e for e in others if e.metric.endswith("dealt")]
    if dealt:
        sentence += f"; with evaluations dealt to other images {dealt[0].value:.2f}"
    return Answer(question, verdict, own.p, f"{sentence}.", (own, *others))
