"""Answers as a person reads them on a terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.comparison.wording import bounds, chance, signed
from harness.present.sheet import Column, Row, Sheet, metric_title
from harness.study.claims import say
from harness.study.findings import margin_of
from harness.study.stored import StoredEffect, Study, say_stale

if TYPE_CHECKING:
    from harness.study.power import Power


def describe_study(study: Study, folder: Path) -> Iterator[str | Sheet]:
    """Yield each question, its verdict and its answer, then the effects behind it.

    Args:
        folder: The results folder, with its runs.
    """
    for answer in study.questions:
        yield f"{answer.number}  {answer.question}"
        yield f"   {say(answer.verdict, answer.margin)}. {answer.answer}"
        if answer.change:
            yield f"   What would change that: {answer.change}"
        if answer.power:
            yield f"   {answer.power}"
        if answer.effects:
            yield effects_sheet(f"question {answer.number}", answer.effects)
        if answer.checks:
            yield f"   Asked of what cannot have it: {' '.join(answer.checks)}"
        yield ""
    yield f"{study.scale}."
    yield from study.notes
    yield from say_stale(study, study.stale(folder))


def interval(value: Any, row: Row) -> str:
    """The 95 % interval of a difference, "" where it is not known."""
    low, high = row["low"], row["high"]
    return bounds(row["metric"], low, high) if math.isfinite(low) else ""


def against(value: Any, row: Row) -> str:
    return f"{value}, {row['further']}" if value and row["further"] else value or row["further"]


COLUMNS = (
    Column("decides", "", lambda value, row: "*" if value else ""),
    Column("model", "model"),
    Column("against", "against", against),
    Column("metric", "metric", metric_title, drop=1),
    Column("group", "condition", drop=2),
    Column("effect", "difference", lambda value, row: signed(row["metric"], value), right=True),
    Column("low", "95 % interval", interval, drop=1, right=True),
    Column("p", "p", lambda value, row: chance(value), drop=3, right=True),
    Column("beats", "P(better)", lambda value, row: _two(value), drop=5, right=True),
    Column("seeds", "seeds", drop=4, right=True),
    Column("images", "n", drop=4, right=True),
)


def effects_sheet(name: str, effects: Sequence[StoredEffect]) -> Sheet:
    """A row for each difference; the ones that decide have a star."""
    return Sheet(COLUMNS, [asdict(effect) for effect in effects], (), name)


def _two(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else ""


UNKNOWN = {"cost": "a rank statistic: not planned"}


def power_sheet(found: "Sequence[Power]") -> Sheet:
    """A row for each question: what it needs for 80 % power at its margin."""
    rows = [
        {
            "number": one.question.number,
            "against": one.against or UNKNOWN.get(one.question.kind, "run two seeds first"),
            "metric": one.question.decides.metric,
            "margin": margin_of(one.question),
            "sd_seed": one.sd_seed,
            "sd_image": one.sd_image,
            "sd_rest": one.sd_rest,
            "seeds": one.seeds,
            "needed": one.needed,
            "images": one.images,
            "images_needed": one.images_needed,
            "networks": one.networks,
            "hours": one.hours,
        }
        for one in found
    ]
    return Sheet(POWER, rows, (), "80 % power at the margin")


def _size(value: Any, row: Row) -> str:
    return signed(row["metric"], value).lstrip("+") if math.isfinite(value) else ""


def _count(value: Any, row: Row) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if math.isfinite(value) else "none suffice"


POWER = (
    Column("number", "question"),
    Column("against", "varies most against"),
    Column("margin", "margin", right=True),
    Column("sd_seed", "sd of seeds", _size, drop=2, right=True),
    Column("sd_image", "of images", _size, drop=2, right=True),
    Column("sd_rest", "of both", _size, drop=2, right=True),
    Column("seeds", "seeds", _count, right=True),
    Column("needed", "needed", _count, right=True),
    Column("images", "images", _count, drop=1, right=True),
    Column("images_needed", "needed", _count, drop=1, right=True),
    Column("networks", "networks to train", _count, right=True),
    Column("hours", "hours", lambda v, row: f"{v:.1f}" if math.isfinite(v) else "", right=True),
)
