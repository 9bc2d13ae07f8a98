"""Questions about one number of each network: a gain, a match, a sum of gains.

gain    yes: better than the baseline and every null. little: a gain of the margin over one of
        them is excluded. worse: worse than the baseline. Where nulls are not measured yet, there
        is no yes; they count as rivals over which a gain is not excluded.
match   yes: worse than the baseline by no more than the margin. little: and yet worse.
        worse: worse by more than the margin.
sum     yes: a gain over the baseline that is short of the sum of what the parts gain by no more
        than the margin. little: a gain of the margin is excluded. worse: short of the sum by
        more than the margin.
"""

import math

import pandas as pd

from harness.analysis import holm
from harness.analysis.families import LEVEL
from harness.analysis.groups import describe_group
from harness.study.claims import NO, SLIGHT, UNCLEAR, WORSE, YES, Claim, Claims
from harness.study.design import Question
from harness.study.effects import Effect, Numbers
from harness.study.findings import (
    Finding,
    doubts,
    floor,
    margin_of,
    others,
    several,
    unbelieved,
)
from harness.study.sentences import phrase
from harness.suites.metrics import METRICS


def gain(question: Question, numbers: Numbers) -> Finding:
    """Is the model better than the baseline and every null?"""
    quantity, m = question.decides, question.margin
    missing = numbers.missing(quantity, question.nulls)
    rivals = [name for name in question.against if name not in missing]
    deciding = [numbers.effect(quantity, question.model, name, True) for name in rivals]
    baseline = deciding[0]
    empty = dict(floor(question, numbers))
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        names = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        reason = f"{names}, which a yes needs, {verb} not measured yet"
        empty.setdefault("yes", reason)
    within = [e for e in deciding if not _at_ceiling(e, m)]
    if not within:
        best = 100 * max(e.other for e in deciding)
        empty.setdefault("little", f"nothing can gain {margin_of(question)} on {best:.1f} %")
    p_little = holm([e.p_below(m) for e in within] + [1.0] * len(missing)) if within else [1.0]

    def claims(by: float) -> Claims:
        moved = [e.moved(by) for e in deciding]
        inside = [e.moved(by).p_below(m) for e in within]
        return Claims(
            {
                "yes": max(e.p_above(0) for e in moved),
                "little": float(min(holm(inside + [1.0] * len(missing)))) if inside else 1.0,
                "worse": moved[0].p_below(0),
            },
            empty=empty,
        )

    least = [e.against for e, p in zip(within, p_little, strict=False) if p <= LEVEL]
    ruled = f"a gain of {margin_of(question)} over {' and '.join(least)} is ruled out"
    what, effects = _what(question), several(deciding)
    higher = f"{what} is better than that of every rival: {effects}"
    words = {
        YES: higher,
        SLIGHT: f"{higher}; {ruled}",
        NO: f"{what}: {ruled}: {effects}",
        WORSE: f"{what} is worse than that of {baseline.against}: {effects}",
        "": f"{what}: {effects}",
        UNCLEAR: f"{what}: {effects}. Inconclusive: not shown to be better than every rival, and a "
        f"gain of {margin_of(question)} cannot be ruled out",
    }
    shown, facts = others(question, numbers, rivals), doubts(deciding)
    facts = (*facts, *unbelieved(question, numbers))
    effects_found = (*deciding, *shown)
    return Finding(question, claims(0), effects_found, words, facts, margin_of(question), claims)


def _at_ceiling(effect: Effect, margin: float) -> bool:
    """Whether no network could be better by the margin."""
    metric = METRICS[effect.quantity.metric]
    return metric.is_rate and metric.sign > 0 and effect.other > 1 - margin


def _what(question: Question) -> str:
    metric = METRICS[question.decides.metric].title
    return f"{metric[:1].upper()}{metric[1:]} {describe_group(question.decides.group)}"


def match(question: Question, numbers: Numbers) -> Finding:
    """Is the model as good as its baseline, and with how many evaluations?"""
    quantity, m = question.decides, question.margin
    own = numbers.effect(quantity, question.model, question.baseline, True)
    nulls = [numbers.effect(quantity, question.model, name, False) for name in question.nulls]
    shown = others(question, numbers, question.against)
    empty = floor(question, numbers)

    def claims(by: float) -> Claims:
        e = own.moved(by)
        p: dict[Claim, float] = {
            "yes": e.p_above(-m), "little": e.p_below(0), "worse": e.p_below(-m)
        }  # fmt: skip
        return Claims(p, alone=False, empty=empty)

    margin = margin_of(question)
    words = {
        YES: f"It is worse by no more than {margin}: {phrase(own)}",
        SLIGHT: f"It is worse, by less than {margin}: {phrase(own)}",
        WORSE: f"It is worse by more than {margin}: {phrase(own)}",
        "": f"Inconclusive: a loss of {margin} is neither shown nor ruled out: {phrase(own)}",
    }
    beside = f"Beside its nulls: {several(nulls)}." if nulls else ""
    facts = (beside, *doubts([own]), fewest(question, numbers) if question.curves else "")
    effects = (own, *nulls, *shown)
    return Finding(question, claims(0), effects, words, facts, margin, claims)


def total(question: Question, numbers: Numbers) -> Finding:
    """Does the whole gain what its parts gain one by one?"""
    quantity, m = question.decides, question.margin
    joint = numbers.effect(quantity, question.model, question.baseline, True)
    short = numbers.interaction(quantity, question.model, question.baseline, question.parts)
    single = [numbers.effect(quantity, part, question.baseline, False) for part in question.parts]
    nulls = [numbers.effect(quantity, question.model, name, False) for name in question.nulls]
    shown = [
        numbers.effect(w, question.model, name, False)
        for w in question.also
        for name in question.against
    ]
    empty: dict[Claim, str] = floor(question, numbers)
    if _at_ceiling(joint, m):
        reason = f"nothing can gain {margin_of(question)} on {100 * joint.other:.1f} %"
        empty.setdefault("little", reason)

    def claims(by: float) -> Claims:
        whole, rest = joint.moved(by), short.moved(by)
        p: dict[Claim, float] = {
            "yes": max(whole.p_above(0), rest.p_above(-m)),
            "little": whole.p_below(m),
            "worse": rest.p_below(-m),
        }
        return Claims(p, empty=empty)

    margin = margin_of(question)
    both = f"{phrase(joint)}, {phrase(short, against=False)} {short.further}"
    words = {
        YES: f"Together they gain, and no less than their sum but for {margin}: {both}",
        SLIGHT: f"Together they gain less than {margin}: {both}",
        NO: f"A gain of {margin} of all together is ruled out: {both}",
        WORSE: f"Together they gain less than their sum by more than {margin}: {both}",
        "": f"Inconclusive: {both}",
    }
    parts = "; ".join(f"{e.model} {phrase(e, against=False)}" for e in single)
    beside = [f"Beside its nulls: {several(nulls)}."] if nulls else []
    facts = (f"One by one: {parts}.", *beside, *doubts([joint, short]))
    effects = (joint, short, *single, *nulls, *shown)
    return Finding(question, claims(0), effects, words, facts, margin, claims)


def fewest(question: Question, numbers: Numbers) -> str:
    """Say with how few evaluations the model comes within the margin of its baseline."""
    table = numbers.table
    kept = table[
        (table["suite"] == "nfe")
        & (table["dataset"] == numbers.dataset)
        & table["metric"].isin(["accuracy", "evaluations", "macs"])
        & (table["variant"] == "")
        & ~table["condition"].str.contains(",")
    ]
    wide = kept.pivot_table(
        index=["model", "condition", "level"], columns="metric", values="value", sort=False
    )
    models = wide.index.get_level_values("model")
    if question.model not in models or question.baseline not in models:
        return ""
    fixed, own = wide.loc[question.baseline].iloc[0], wide.xs(question.model)
    assert isinstance(own, pd.DataFrame)
    target = float(fixed["accuracy"])
    near = own[own["accuracy"] >= target - question.margin].sort_values(
        "evaluations", kind="stable"
    )
    has = f"{100 * target:.1f} %{_cost(fixed)}"
    if near.empty:
        best = own.sort_values("accuracy").iloc[-1]
        return (
            f"No solver comes within {margin_of(question)} of the {has} of the fixed layers; the "
            f"best has {100 * best['accuracy']:.1f} % at {best['evaluations']:g} evaluations."
        )
    (name, level), row = near.index[0], near.iloc[0]
    plural = "" if row["evaluations"] == 1 else "s"
    return (
        f"With {row['evaluations']:.3g} evaluation{plural} an image ({name} {level:g}) it reaches "
        f"{100 * row['accuracy']:.1f} %{_cost(row)}, where the fixed layers have {has}."
    )


def _cost(row: pd.Series) -> str:
    """Multiply-adds of a row of the table, where they were measured."""
    macs = float(row.get("macs", math.nan))
    return f" at {macs / 1e6:.0f} million multiply-adds" if math.isfinite(macs) else ""
