"""Questions about what happens inside a network, each beside the same network untrained.

    learned   yes: training makes the statistic differ from that of every null, by more or less than
              untrained networks of the same seeds do. little: the difference is less than the
              margin over one of them.
    cost      yes: evaluations grow with difficulty, and more than in untrained networks. little: a
              rank statistic of the margin is excluded. worse: they fall with difficulty.

The difficulty of an image is its loss under the networks of *other* seeds: under the network whose
evaluations are counted, both could have a common cause. Evaluations are summed over all tolerances
of the solver at which fewer than half of the images tie; where there are none, nothing is decided.
The statistic is Goodman and Kruskal's gamma, (C - D) / (C + D) over pairs of images, concordant and
discordant, which ties do not bound.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.analysis import Gamma, goodman_kruskal, holm, quantile
from harness.analysis.groups import describe_group
from harness.analysis.intervals import mover
from harness.analysis.pairs import POWER
from harness.study.claims import NO, SLIGHT, WORSE, YES, Claim, Claims
from harness.study.design import Quantity, Question
from harness.study.effects import UNTRAINED, Distribution, Effect, Numbers
from harness.study.findings import Finding, margin_of, several
from harness.study.sentences import found, phrase
from harness.suites.metrics import METRICS

MOST_TIES = 0.5


def learned(question: Question, numbers: Numbers) -> Finding:
    """Does training make a statistic differ from that of the nulls?"""
    quantity = question.decides
    deciding = [numbers.learned(quantity, question.model, n, True) for n in question.against]
    shown = [numbers.effect(quantity, question.model, n, False) for n in question.against]
    shown += [
        numbers.learned(w, question.model, n, False)
        for w in question.also
        for n in question.against
    ]
    margins = [question.margin * abs(e.other) for e in deciding]

    def claims(by: float) -> Claims:
        """Those of differences that are larger by so much, whichever way each goes."""
        moved = [e.farther(by) for e in deciding]
        pairs = zip(moved, margins, strict=True)
        p: dict[Claim, float] = {
            "yes": max(2 * min(e.p_above(0), e.p_below(0)) for e in moved),
            "little": float(min(holm([max(e.p_below(m), e.p_above(-m)) for e, m in pairs]))),
        }
        return Claims(p)

    name, place = METRICS[quantity.metric].title, describe_group(quantity.group)
    size = max(deciding, key=lambda e: -abs(e.value))
    share = 100 * size.value / size.other if size.other else math.nan
    said = f"{several(deciding)}, {UNTRAINED}"
    margin = margin_of(question)
    words = {
        YES: f"After training the {name} of its maps {place} differs by {share:+.1f} %: {said}",
        SLIGHT: f"The {name} of its maps {place} differs, by less than {margin}: {said}",
        NO: f"After training the {name} of its maps {place} is the same within {margin}: {said}",
        "": f"The {name} of its maps {place}: {said}",
    }
    facts = tuple(filter(None, (found(deciding),)))
    return Finding(question, claims(0), (*deciding, *shown), words, facts, margin, claims)


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of images, (S, n) summed over tolerances, and the images' difficulty."""

    nfe: np.ndarray
    difficulty: np.ndarray
    levels: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def gamma(self) -> Gamma:
        return goodman_kruskal(self.nfe, self.difficulty)

    @property
    def dealt(self) -> Gamma:
        """The same with evaluations dealt to other images."""
        order = np.random.default_rng(0).permutation(self.nfe.shape[1])
        return goodman_kruskal(self.nfe[:, order], self.difficulty)


def evaluations(
    question: Question, numbers: Numbers, untrained: bool = False
) -> tuple[Evaluations | None, float]:
    """Return an image's evaluations and difficulty, and the largest tie of the varied tolerances.

    None where every tolerance has a tie of half of the images or more; the tie is then the least.
    The difficulty is that of the *trained* networks of other seeds.
    """
    quantity, found = question.decides, numbers.untrained if untrained else numbers.trained
    groups = [
        key.group
        for key in found
        if (key.suite, key.metric, key.variant, key.model)
        == (quantity.suite, "nfe", "", question.model)
        and key.group.rpartition(" ")[0] == quantity.group
    ]
    spent, losses, kept, ties = [], [], [], []
    seeds: tuple[int, ...] = ()
    for group in groups:
        place = Quantity(quantity.suite, "nfe", group)
        nfe = numbers.sample(place, question.model, untrained)
        loss = numbers.sample(place._replace(metric="nll"), question.model)
        if nfe.outcomes is None or loss.outcomes is None:
            continue
        tie = max(_tie(row) for row in nfe.outcomes)
        ties.append(tie)
        if tie < MOST_TIES:
            spent.append(nfe.outcomes)
            losses.append(loss.outcomes)
            kept.append(group)
            seeds = nfe.seed_names
    if not kept or losses[0].shape[0] < 2:
        return None, min(ties, default=math.nan)
    loss = np.mean(losses, axis=0)
    others = (loss.sum(axis=0) - loss) / (len(loss) - 1)
    return Evaluations(np.sum(spent, axis=0), others, tuple(kept), seeds), max(
        t for t in ties if t < MOST_TIES
    )


def _tie(values: np.ndarray) -> float:
    return float(np.unique(values, return_counts=True)[1].max() / len(values))


def cost(question: Question, numbers: Numbers) -> Finding:
    """Do an image's evaluations grow with its difficulty?"""
    m, margin = question.margin, margin_of(question)
    own, tie = evaluations(question, numbers)
    before, _ = evaluations(question, numbers, untrained=True)
    if own is None:
        seeds = numbers.sample(_clean(question, numbers), question.model).seeds
        reason = (
            f"at every tolerance {100 * tie:.0f} % of the images or more cost the same"
            if seeds > 1 and math.isfinite(tie)
            else "the difficulty of an image comes from other seeds, and needs two with their "
            "per-image answers"
        )
        words = {"": f"Nothing can be said of {question.decides.group}"}
        return Finding(question, Claims({}, empty=_all(reason)), (), words, (), margin)
    first = _effect(question, question.model, own.gamma, decides=True)
    effects = [first]
    if before is not None:
        effects.append(_less(question, own.gamma, before.gamma))
    dealt = _effect(question, question.model, own.dealt, decides=False)
    dealt = replace(dealt, further="evaluations dealt to other images")

    def claims(by: float) -> Claims:
        moved = [e.moved(by) for e in effects]
        p: dict[Claim, float] = {
            "yes": max(e.p_above(0) for e in moved),
            "little": min(1.0, len(moved) * min(e.p_below(m) for e in moved)),
            "worse": moved[0].p_below(0),
        }
        return Claims(p)

    levels = ", ".join(level.rpartition(" ")[2] for level in own.levels)
    said = (
        f"gamma of an image's evaluations with its loss under networks of other seeds is "
        f"{phrase(first, against=False)} ({question.decides.group} at {levels}; at most "
        f"{100 * tie:.0f} % of the images tie)"
    )
    words = {
        YES: f"Hard images cost more: {said}",
        SLIGHT: f"Hard images cost more, with a gamma of less than {margin}: {said}",
        NO: f"A gamma of {margin} is ruled out: {said}",
        WORSE: f"Hard images cost less: {said}",
        "": f"Inconclusive: {said}",
    }
    facts = [f"Dealt to other images at random: {phrase(dealt, against=False)}."]
    if before is not None:
        facts.append(f"{phrase(effects[1], against=False)} {UNTRAINED}.".replace("+", "Gamma is +"))
    else:
        facts.append("In untrained networks evaluations do not vary enough to compare with.")
    others = _rivals(question, numbers)
    shown = (*effects, dealt, *others)
    return Finding(question, claims(0), shown, words, tuple(facts), margin, claims)


def _clean(question: Question, numbers: Numbers) -> Quantity:
    """Any group in which the model was measured."""
    keys = [k for k in numbers.trained if (k.suite, k.model) == ("nfe", question.model)]
    group = next((k.group for k in keys if k.metric == "nfe"), question.decides.group)
    return Quantity(question.decides.suite, "nfe", group)


def _rivals(question: Question, numbers: Numbers) -> list[Effect]:
    """The same of other models, which decide nothing."""
    made = []
    for name in question.rivals:
        other, _ = evaluations(replace(question, model=name), numbers)
        if other is not None:
            made.append(_effect(question, name, other.gamma, decides=False))
    return made


def _all(reason: str) -> dict[Claim, str]:
    return dict.fromkeys(("yes", "little", "worse"), reason)


def _effect(question: Question, model: str, gamma: Gamma, decides: bool) -> Effect:
    quantity = question.decides._replace(metric="nfe_gamma", variant="other seeds")
    return Effect(
        model,
        "",
        quantity,
        gamma.value,
        gamma.low,
        gamma.high,
        gamma.p,
        seeds=gamma.seeds,
        images=gamma.n,
        decides=decides,
        **_spread(gamma.value, gamma.value - gamma.low, gamma.high - gamma.value, gamma),
    )


def _less(question: Question, own: Gamma, before: Gamma) -> Effect:
    """The gamma of trained networks less that of the untrained ones, which are independent."""
    value = own.value - before.value
    below, above = mover(own.value, (own.low, own.high), before.value, (before.low, before.high))
    cautious = own._replace(
        df=min(own.df, before.df),
        share=max(own.share, before.share),
        seeds=min(own.seeds, before.seeds),
    )
    made = _spread(value, float(below), float(above), cautious)
    effect = replace(
        _effect(question, question.model, own, decides=True),
        value=value,
        low=value - float(below),
        high=value + float(above),
        further=UNTRAINED,
        **made,
    )
    return replace(effect, p=min(1.0, 2 * min(effect.p_above(0), effect.p_below(0))))


def _spread(value: float, below: float, above: float, gamma: Gamma) -> dict[str, Any]:
    """The distribution of a statistic from its 95 % interval, and what would have been found."""
    t = float(quantile(gamma.df))
    freedom = max(1, gamma.seeds - 1)
    d = Distribution(value, below / t, above / t, gamma.df, gamma.share, freedom)
    return {"d": d, "mde": (t + float(quantile(gamma.df, POWER))) * max(d.below, d.above)}
