"""Sheets as GitHub's Markdown: a table each, intervals in brackets, notes below."""

import re
from typing import TYPE_CHECKING

from harness.encoding import encodable
from harness.present.sheet import STAR, Column, Row, Sheet

if TYPE_CHECKING:
    import pandas as pd

SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&@]|:(?=\S)|^-|(?<=^\d)\.|(?<=^\d\d)\.)")  # ^: lists


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, in one line."""
    return SPECIAL.sub(r"\\\1", encodable(text, "utf-8"))


def to_markdown(*tables: "Sheet | pd.DataFrame") -> str:
    """Return a table for each sheet."""
    from harness.present.board import sheet_of

    sheets = [t if isinstance(t, Sheet) else sheet_of(t) for t in tables]
    return "\n\n".join(_table(sheet) for sheet in sheets if sheet.rows or sheet.notes)


def _table(sheet: Sheet) -> str:
    notes = [escape(" ".join(note.split())) for note in sheet.sentences]
    if not sheet.rows:
        return "\n\n".join(notes)
    lines = [
        _line([escape(column.title) for column in sheet.filled]),
        _line(["---:" if column.right else "---" for column in sheet.filled]),
        *(_line([_cell(column, row) for column in sheet.filled]) for row in sheet.rows),
    ]
    return "\n\n".join(["\n".join(lines), *notes])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, row: Row) -> str:
    """A number with its interval; the star of a mean over less behind it."""
    text, (low, high) = column.text(row), column.bounds(row)
    if not column.right:
        return escape(text)
    star = "\\*" if column.over and text.endswith(STAR) else ""
    text = text.removesuffix(STAR) if star else text
    text = text if re.fullmatch(r"[-+.\de ]*", text) else escape(text)
    bounds = f" [{low}, {high}]" if column.interval and low and high else ""
    return f"{text}{star}{bounds}"
