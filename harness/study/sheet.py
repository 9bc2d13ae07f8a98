"""Answers as a person reads them on a terminal."""

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from harness.comparison.wording import amount, bounds, chance
from harness.study.answers import Answer
from harness.study.effects import Effect
from harness.suites.metrics import METRICS, full_title


def describe_answers(answers: Sequence[Answer]) -> Iterator[str | Table]:
    """Yield each question, its verdict and its sentence, then the effects behind it."""
    for answer in answers:
        yield f"{answer.question.number}  {answer.question.text}"
        yield f"   {answer.verdict}. {answer.sentence}"
        if answer.effects:
            yield effects_table(answer.effects)
        yield ""


def effects_table(effects: Sequence[Effect]) -> Table:
    """A row for each difference; the ones that decide have a star."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("", "against", "metric", "condition"):
        table.add_column(heading)
    for heading in ("difference", "95 % interval", "p", "seeds", "n"):
        table.add_column(heading, justify="right")
    for effect in effects:
        metric = effect.quantity.metric
        unit = " points" if METRICS[metric].is_rate else ""
        sign = "+" if effect.value >= 0 else "-"
        table.add_row(
            "*" if effect.decides else "",
            effect.against,
            full_title(effect.quantity.metric, effect.quantity.variant),
            effect.quantity.group,
            f"{sign}{amount(metric, effect.value)}{unit}",
            bounds(metric, effect.low, effect.high) if math.isfinite(effect.low) else "",
            "" if math.isnan(effect.p) else chance(effect.p),
            str(effect.seeds),
            str(effect.images),
        )
    return table
