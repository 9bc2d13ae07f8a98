"""Answers as a person reads them on a terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.comparison.wording import bounds, chance, signed
from harness.present.sheet import Column, Row, Sheet, metric_title
from harness.study.schema import StoredEffect, Study, say_stale


def describe_study(study: Study, folder: Path) -> Iterator[str | Sheet]:
    """Yield each question, its verdict and its answer, then the effects behind it.

    Args:
        folder: Where it lies, with its runs.
    """
    for answer in study.questions:
        yield f"{answer.number}  {answer.question}"
        yield f"   {answer.verdict}. {answer.answer}"
        if answer.effects:
            yield effects_sheet(f"question {answer.number}", answer.effects)
        yield ""
    yield f"{study.scale}."
    yield from say_stale(study, study.stale(folder))


def interval(value: Any, row: Row) -> str:
    """The 95 % interval of a difference, "" where it is not known."""
    low, high = row["low"], row["high"]
    return bounds(row["metric"], low, high) if math.isfinite(low) else ""


COLUMNS = (
    Column("decides", "", lambda value, row: "*" if value else ""),
    Column("against", "against"),
    Column("metric", "metric", metric_title, drop=1),
    Column("group", "condition", drop=2),
    Column("effect", "difference", lambda value, row: signed(row["metric"], value), right=True),
    Column("low", "95 % interval", interval, drop=1, right=True),
    Column("p", "p", lambda value, row: chance(value), drop=3, right=True),
    Column("seeds", "seeds", drop=4, right=True),
    Column("images", "n", drop=4, right=True),
)


def effects_sheet(name: str, effects: Sequence[StoredEffect]) -> Sheet:
    """A row for each difference; the ones that decide have a star."""
    return Sheet(COLUMNS, [asdict(effect) for effect in effects], (), name)
