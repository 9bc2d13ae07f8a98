"""What would be done, and about how long, as a table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.present.sheet import DATASET, Column, Row, Sheet, number

if TYPE_CHECKING:
    from harness.running.forecast import Step


def about(seconds: float) -> str:
    """Return a time in words, "12 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


COLUMNS = (
    DATASET,
    Column("model", "model"),
    number("seed", "seed"),
    Column("work", "work"),
    number("missing", "to do"),
    number("stored", "stored", drop=1),
    number("seconds", "about", lambda value, row: about(value)),
)


def forecast_sheet(steps: "Sequence[Step]") -> Sheet:
    """A row for each training and each suite of a model; epochs and conditions are counted."""
    rows: list[Row] = [asdict(step) | {"missing": step.total - step.stored} for step in steps]
    left = [step for step in steps if step.total > step.stored]
    known = [step.seconds for step in left if step.seconds is not None]
    if not left:
        time = "Everything is stored"
    elif len(known) < len(left):
        time = f"The time of {len(left) - len(known)} of {len(left)} steps is not known"
        time += ": no earlier run of its kind on this device is in the results"
        time += f". The others take about {about(sum(known))}" * bool(known)
    else:
        time = f"About {about(sum(known))} in one process, by earlier runs on this device"
    return Sheet(COLUMNS, rows, (f"{time}. Nothing was written.",), name="forecast")
