"""What a results folder holds, and what of it can go, as sheets."""

from collections.abc import Callable, Sequence
from typing import Any

from harness.present.sheet import Column, Row, Sheet, number
from harness.storage.space import REASONS, Item, Survey

UNITS = ("B", "kB", "MB", "GB", "TB")


def readable(size: Any, row: Row) -> str:
    """Return a number of bytes as a person reads it, "1.2 GB"."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 99.95 else 0
    return f"{value:.{digits}f} {UNITS[unit]}"


def clean_sheet(gone: Sequence[Item], notes: Sequence[str], *, dry_run: bool) -> Sheet:
    """Return what is removed, or would be, a row for each reason.

    Args:
        gone: What is removed.
    """
    rows = _rows(gone, lambda item: {"what": item.why})
    rows.sort(key=lambda row: REASONS.index(row["what"]))
    total = _sum(gone)
    if rows:
        rows.append({"what": "all"} | total)
    done = "would be removed; nothing was" if dry_run else "are removed"
    size = readable(total["size"], {})
    said = f"{total['count']} files and folders, {size}, {done}."
    columns = [Column("what", "what nothing refers to"), *COUNTS]
    return Sheet(columns, rows, [said, *notes], "removed", total=bool(rows))


def usage_sheets(found: Survey) -> list[Sheet]:
    """Return the sizes by kind, and by data set and model, with what `harness clean` would free."""
    items = [item for item in found.items if item.kind != "folders"]
    kinds = _rows(items, lambda item: {"kind": item.kind})
    models = _rows(
        [item for item in items if any(item.of)],
        lambda item: {"dataset": item.of[0], "model": item.of[1]},
    )
    free = number("free", "can be freed", readable)
    note = "`harness clean` frees what nothing refers to." if found.removable else ""
    notes = [text for text in (note, *found.notes) if text]
    return [
        Sheet([Column("kind", "kind"), *COUNTS, free], [*kinds, {"kind": "all"} | _sum(items)],
              notes, "kinds", total=True),
        Sheet([Column("dataset", "data set"), Column("model", "model"), *COUNTS, free], models,
              (), "models"),
    ]  # fmt: skip


COUNTS = (number("count", "files"), number("size", "size", readable))


def _rows(items: Sequence[Item], key: Callable[[Item], Row]) -> list[Row]:
    """A row for each key, the largest first."""
    of: dict[tuple, list[Item]] = {}
    for item in items:
        of.setdefault(tuple(key(item).items()), []).append(item)
    rows = [dict(names) | _sum(own) for names, own in of.items()]
    return sorted(rows, key=lambda row: -row["size"])


def _sum(items: Sequence[Item]) -> Row:
    size, free = sum(i.size for i in items), sum(i.size for i in items if i.why)
    return {"count": len(items), "size": size, "free": free}
