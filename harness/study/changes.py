"""How sure a verdict is, and what would change it: from what was measured, in sentences.

The chance of finding a difference of the margin is what the measured errors give, beside what the
plan asked for. What would change a verdict is a shift of the model's own numbers at these errors,
found by asking all claims of the study again; where nothing could be told, more seeds or images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis import seeds_needed
from harness.comparison.wording import signed
from harness.study.claims import SLIGHT, UNCLEAR, YES, judge
from harness.study.effects import Effect, Numbers
from harness.study.findings import Finding
from harness.study.power import Power, variance_of
from harness.suites.metrics import METRICS

HALVINGS = 40
FARTHEST = 2.0**7  # margins that a shift is looked for within


def say_power(finding: Finding, planned: Mapping[str, Any]) -> str:
    """Return the chance that a difference of the margin is found, and what the plan asked for.

    Args:
        planned: As of `history.plan_of`: of this question, empty where nothing was planned.
    """
    deciding = finding.deciding
    if not deciding:
        return ""
    chances = [e.power(_margin(finding, e)) for e in deciding]
    known = [p for p in chances if math.isfinite(p)]
    told = _planned(deciding[0], planned)
    if not known:
        return told
    return (
        f"The chance of finding a difference of {finding.margin} was {100 * min(known):.0f} % with "
        f"the variance measured. {told}"
    )


def _planned(effect: Effect, planned: Mapping[str, Any]) -> str:
    """Say what the plan asked for, and which difference it expected to find."""
    if not planned:
        return "No plan from pilot seeds was made before."
    needed = planned["needed"]
    asked = f"asked for {needed}" if needed else "found that no number suffices"
    expected = ""
    if size := planned["detectable"]:
        words = signed(effect.quantity.metric, size).lstrip("+")
        expected = f"; of {planned['planned']} it expected to find {words} in 4 of 5 studies"
    return f"The plan, from {planned['seeds']} seeds, {asked}{expected}; here are {effect.seeds}."


def _margin(finding: Finding, effect: Effect) -> float:
    """The smallest difference that matters, in the metric's unit."""
    question = finding.question
    share = question.kind in ("learned", "solver")
    return question.margin * abs(effect.other) if share else question.margin


def say_change(
    place: int, made: Sequence[tuple[Finding, str]], total: int, numbers: Numbers
) -> str:
    """Return what would change the verdict on a question.

    Args:
        place: Of the question in `made`: all findings with their verdicts.
        total: How many questions the study has.
    """
    finding, verdict = made[place]
    if reason := finding.claims.empty.get("yes"):
        return f"Nothing, as long as {reason}."
    if finding.at is None or not finding.deciding:
        return ""
    said = [_shift(place, made, total)]
    if verdict == UNCLEAR:
        said.append(_more(finding, numbers))
    return " ".join(filter(None, said))


def _shift(place: int, made: Sequence[tuple[Finding, str]], total: int) -> str:
    """Say how much better, or worse, the model would have to be for another verdict."""
    finding, verdict = made[place]
    yes = verdict in (YES, SLIGHT)
    sign = -1 if yes else 1
    by = _least(place, made, total, sign)
    if math.isnan(by):
        return "" if yes else "No difference would be a yes at this variance."
    hardest, there = max(_moved(finding, by), key=lambda pair: _doubt(finding, *pair))
    if METRICS[hardest.quantity.metric].is_rate and hardest.other + there.value > 1:
        return f"Even 100 % would not be a sure yes over {hardest.against} at this variance."
    metric, against = hardest.quantity.metric, _against(hardest)
    now, then = (signed(metric, round(e.value, 6)) for e in (hardest, there))
    if yes:
        return f"It would be no yes below {then}{against}; {now} was measured."
    return f"A yes needs {then}{against}; {now} was measured."


def _moved(finding: Finding, by: float) -> list[tuple[Effect, Effect]]:
    """What decides, and what it would be."""
    either = finding.question.kind == "learned"
    return [(e, e.farther(by) if either else e.moved(by)) for e in finding.deciding]


def _doubt(finding: Finding, effect: Effect, there: Effect) -> tuple[float, float]:
    """What sorts effects by how little they say for a yes."""
    p = there.p_above(0)
    return (min(p, there.p_below(0)) if finding.question.kind == "learned" else p, -effect.d.center)


def _against(effect: Effect) -> str:
    text = f" against {effect.against}" if effect.against else ""
    return text + (f", {effect.further}" if effect.further else "")


def _least(place: int, made: Sequence[tuple[Finding, str]], total: int, sign: int) -> float:
    """The least shift that gives a yes (`sign` 1) or takes it away (-1); NaN where none does."""
    finding = made[place][0]
    assert finding.at is not None
    unit = max(_margin(finding, e) for e in finding.deciding)

    def other(by: float) -> bool:
        claims = [f.claims for f, _ in made]
        assert finding.at is not None
        claims[place] = finding.at(sign * by)
        return (judge(claims, total)[place] in (YES, SLIGHT)) == (sign > 0)

    high = unit / 16
    while not other(high):
        high *= 2
        if high > FARTHEST * unit:
            return math.nan
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if other(middle) else (middle, high)
    return sign * high


def _more(finding: Finding, numbers: Numbers) -> str:
    """Say how many more seeds, or images, would decide."""
    worst = variance_of(finding.question, numbers)
    if worst is None:
        return ""
    margin = finding.margin
    if math.isinf(worst.needed):
        images = worst.images_needed
        more = f"; {images:,.0f} images would" if math.isfinite(images) else ""
        return f"No number of seeds finds {margin} on {worst.images:,} images{more}."
    if worst.needed > worst.seeds:
        more = f"{worst.needed - worst.seeds:.0f} more seeds ({worst.needed:.0f} in all)"
        return (
            f"With {more} a difference of {margin} would be found in 4 of 5 studies, asked alone."
        )
    return _smaller(finding, worst)


def _smaller(finding: Finding, worst: Power) -> str:
    """Of seeds that are enough for the margin: what the difference that was measured needs."""
    effect = next((e for e in finding.deciding if e.against == worst.against), None)
    if effect is None or not effect.value:
        return ""
    size = abs(effect.value)
    needed = seeds_needed(worst.sd_seed, worst.sd_image, worst.images, size, worst.sd_rest)
    text = signed(effect.quantity.metric, round(effect.value, 6))
    if math.isinf(needed):
        return f"No number of seeds tells {text} from nothing on {worst.images:,} images."
    return f"To tell {text} against {worst.against} from nothing needs {needed:.0f} seeds."
