"""Sheets and frames for programs: one JSON list of records, numbers in full precision."""

import json
import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.present.sheet import NOTES, Row, Sheet

if TYPE_CHECKING:
    import pandas as pd


def to_json(*tables: "Sheet | pd.DataFrame") -> str:
    """Return the records of all tables as one JSON list; null is what is not known.

    The records of a sheet with a name say it as `table`.
    """
    return dumps([row for table in tables for row in records_of(table)])


def dumps(content: Any) -> str:
    """Return JSON that stdout can encode and that is inert: other characters as their escapes."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(as_json(content), indent=2, allow_nan=False, ensure_ascii=ascii_only)
    unseen = {c for c in set(text) if not c.isprintable() and c != "\n"}
    return text.translate({ord(c): json.dumps(c)[1:-1] for c in unseen})


def records_of(table: "Sheet | pd.DataFrame") -> Iterable[Row]:
    """Return the rows of a table as mappings."""
    if not isinstance(table, Sheet):
        return ({str(k): v for k, v in row.items()} for row in table.to_dict("records"))
    rows = table.rows if table.records is None else table.records
    if table.name == NOTES and not rows:
        rows = [{"note": note} for note in table.notes]
    return ({"table": table.name} | dict(row) for row in rows) if table.name else rows


def as_json(value: Any) -> Any:
    """Return a value as JSON has it, NumPy's numbers and pandas' NA among them."""
    if isinstance(value, dict):
        return {key: as_json(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        return as_json(value.item())
    return value if isinstance(value, float) and math.isfinite(value) else None
