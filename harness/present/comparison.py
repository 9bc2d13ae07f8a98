"""Comparisons and checks, a row for each difference."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from harness.comparison.guards import Guard
from harness.comparison.names import write_name
from harness.comparison.planning import Plan, round_up
from harness.comparison.wording import chance
from harness.present.board import ROWS, rows_of
from harness.present.sheet import (
    DATASET,
    MODEL,
    Column,
    Row,
    Sheet,
    by_metric,
    fixed,
    metric_title,
    number,
)

NUMBER = by_metric(fixed(2, 100), fixed(4))
SIGNED = by_metric(fixed(2, 100, "+"), fixed(4, 1, "+"))


def comparison_table(frame: pd.DataFrame) -> Sheet:
    """Return the groups of a comparison; rates in per cent, their differences in points."""
    rows = [row for row in rows_of(frame) if row["family"] == "groups"]
    rows = [row | {f"difference_{end}": row[end] for end in ("low", "high")} for row in rows]
    columns = [
        DATASET,
        Column("suite", "suite"),
        Column("metric", "metric", metric_title),
        Column("group", "condition"),
        number("value_a", str(frame["a"].iloc[0]), NUMBER, drop=3),
        number("value_b", str(frame["b"].iloc[0]), NUMBER, drop=3),
        number("difference", "difference", SIGNED, interval=2),
        number("p_holm", "p (Holm)", lambda p, row: chance(p), drop=4),
        number("mde", "detectable", _detectable, drop=7),
        number("images_a", "n", _images, drop=8),
    ]
    return Sheet(columns, rows, (), "comparison", limit=ROWS, records=rows_of(frame))


def _detectable(value: float, row: Row) -> str:
    """What would be found; of equal outcomes nothing is left to find."""
    return "" if row["identical"] else NUMBER(value, row)


def _images(n: int, row: Row) -> str:
    return " / ".join(dict.fromkeys((str(n), str(row["images_b"]))))


def check_table(guards: Sequence[Guard]) -> Sheet:
    """Return the verdicts of a check."""
    rows = [as_row(guard) for guard in guards]
    columns = [
        Column("verdict", "verdict"),
        DATASET,
        Column("suite", "suite"),
        MODEL,
        Column("metric", "metric", lambda name, row: write_name(name, row["variant"])),
        Column("group", "condition"),
        number("baseline", "before", fixed(4), drop=5),
        number("new", "now", fixed(4), drop=4),
        number("difference", "better by", fixed(4, 1, "+"), interval=2),
        number("margin", "margin", lambda value, row: f"{value:g}", drop=6),
        number("images", "n", lambda value, row: str(value or ""), drop=7),
        Column("reason", "", drop=3, prose=True),
    ]
    return Sheet(columns, rows, (), "check")


def plan_table(plans: Sequence[Plan]) -> Sheet:
    """Return which margins are within reach."""
    rows = [
        asdict(plan.key) | asdict(plan) | {"verdict": plan.verdict, "reason": plan.reason}
        for plan in plans
    ]
    for row in rows:
        del row["key"], row["problem"]
    columns = [
        DATASET,
        Column("suite", "suite", drop=7),
        MODEL,
        Column("metric", "metric", lambda name, row: write_name(name, row["variant"])),
        Column("group", "condition"),
        number("baseline", "before", fixed(4), drop=5),
        number("margin", "margin", lambda value, row: f"{value:g}"),
        number("reach", "within reach", _within),
        number("seeds", "new seeds", lambda value, row: str(value), drop=6),
        number("images", "n", lambda value, row: str(value), drop=6),
        Column("reason", "", drop=3, prose=True),
    ]
    return Sheet(columns, rows, (), "plan")


def _within(value: float, row: Row) -> str:
    return "" if math.isnan(value) else f"{round_up(value):g}"


def as_row(guard: Guard) -> Row:
    """Return all that is known of a guard, its key among the rest."""
    row = asdict(guard)
    return (
        row.pop("key")
        | row
        | {"difference_low": row.pop("low"), "difference_high": row.pop("high")}
    )
