"""What would be done, and about how long, as a table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.present.sheet import DATASET, Column, Row, Sheet, number

if TYPE_CHECKING:
    from harness.running.forecast import Step


def about(seconds: float) -> str:
    """Return a time in words, "12 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(value: int, row: Row) -> str:
    """An amount with what is counted."""
    return f"{value} {'epochs' if row['work'] == 'train' else 'conditions'}"


COLUMNS = (
    DATASET,
    Column("model", "model"),
    number("seeds", "seeds", drop=2),
    Column("work", "work"),
    number("missing", "to do", count),
    number("stored", "stored", drop=1),
    number("seconds", "about", lambda value, row: about(value)),
)


def forecast_sheet(steps: "Sequence[Step]") -> Sheet:
    """Return what is left to do: for a person all seeds in a row, for a program one."""
    groups: dict[tuple[str, ...], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.dataset, step.model, step.work), []).append(step)
    records: list[Row] = [asdict(step) | {"missing": step.total - step.stored} for step in steps]
    rows = [_of_seeds(part) for part in groups.values()]
    note = f"{_time(steps)}. Nothing was written."
    return Sheet(COLUMNS, rows, (note,), name="forecast", records=records)


def _of_seeds(steps: "Sequence[Step]") -> dict[str, Any]:
    """The row of one training or suite with several seeds."""
    unknown = any(step.seconds is None for step in steps)
    return {
        "dataset": steps[0].dataset,
        "model": steps[0].model,
        "seeds": len(steps),
        "work": steps[0].work,
        "missing": sum(step.total - step.stored for step in steps),
        "stored": sum(step.stored for step in steps),
        "seconds": None if unknown else sum(step.seconds or 0 for step in steps),
    }


def _time(steps: "Sequence[Step]") -> str:
    """How long all of it takes, as far as that is known."""
    left = [step for step in steps if step.total > step.stored]
    known = [step.seconds for step in left if step.seconds is not None]
    if not left:
        return "Everything is stored"
    if len(known) == len(left):
        return f"About {about(sum(known))} in one process, by earlier runs on this device"
    others = f". The others take about {about(sum(known))}" if known else ""
    return (
        f"The time of {len(left) - len(known)} of {len(left)} steps is not known: no earlier run "
        f"of its kind on this device is in the results{others}"
    )
