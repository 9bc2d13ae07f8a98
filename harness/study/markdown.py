"""Answers as rows of Markdown, as READMEs and papers show them."""

from collections.abc import Iterator

from harness.comparison.wording import bounds, signed
from harness.models.catalog import CATALOG
from harness.study.claims import say
from harness.study.stored import StoredEffect, Study
from harness.suites.metrics import METRICS

HEAD = ("", "question", "verdict", "difference, 95 % interval", "what would change it")


def answer_table(study: Study) -> str:
    """Return a table of verdicts, each with its number, and how it was asked below.

    The number is the difference from the strongest rival: the smallest gain of those that decide.
    """
    lines = [_row(*HEAD), _row(*("---" for _ in HEAD)), *answer_rows(study)]
    seeds = {(e.seeds, e.images) for q in study.questions for e in q.effects if e.decides}
    behind = "; ".join(f"{s} seeds, n = {n:,}" for s, n in sorted(seeds))
    return "\n".join([*lines, "", f"Scale: {study.scale} ({behind} behind what decides)."])


def answer_rows(study: Study) -> Iterator[str]:
    """Return the rows of the table."""
    for q in study.questions:
        deciding = [e for e in q.effects if e.decides]
        least = min(deciding, key=lambda e: METRICS[e.metric].sign * e.effect, default=None)
        shown = describe(least) if least else ""
        yield _row(q.number, q.question, say(q.verdict, q.margin), shown, q.change)


def describe(effect: StoredEffect) -> str:
    """Return a difference in words: "accuracy +0.3 points [-0.2, 0.8] against `resnet18`"."""
    metric, value = METRICS[effect.metric], signed(effect.metric, effect.effect)
    text = f"{metric.title} {value} {bounds(effect.metric, effect.low, effect.high)}"
    further = f", {effect.further}" if effect.further else ""
    against = f"`{effect.against}`" if effect.against in CATALOG else effect.against
    return (f"{text} against {against}" if against else text) + further


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
