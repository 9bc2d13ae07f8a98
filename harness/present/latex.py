"""Sheets for papers: `tabular` of the package booktabs, intervals as x_{-a}^{+b}."""

import math
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.present.sheet import STAR, Column, Row, Sheet

if TYPE_CHECKING:
    import pandas as pd

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2020": r"$^{\dagger}$",
    "\u00b2": "$^{2}$",
}


def escape(text: str) -> str:
    """Return `text` so that LaTeX prints it as it is; characters that it may lack as their code."""
    return "".join(SPECIAL.get(c, c if _is_printed(c) else f"U+{ord(c):04X}") for c in text)


def _is_printed(c: str) -> bool:
    """Whether every LaTeX has a character: ASCII, and the accented letters of Latin-1."""
    accented = ord(c) < 256 and len(unicodedata.normalize("NFD", c)) == 2
    return c.isprintable() and (c.isascii() or accented or c in "\u00df\u00e6\u00f8\u00c6\u00d8")


def to_latex(*tables: "Sheet | pd.DataFrame") -> str:
    """Return one `tabular` for each table; needs `\\usepackage{booktabs}` alone."""
    from harness.present.board import sheet_of

    sheets = [t if isinstance(t, Sheet) else sheet_of(t) for t in tables]
    return "\n\n".join(_tabular(sheet) for sheet in sheets if sheet.rows or sheet.notes)


def _tabular(sheet: Sheet) -> str:
    lines = [
        r"\begin{tabular}{" + "".join("r" if c.right else "l" for c in sheet.filled) + "}",
        r"\toprule",
        " & ".join(escape(c.title) for c in sheet.filled) + r" \\",
        r"\midrule",
    ]
    body = [" & ".join(_cell(c, row) for c in sheet.filled) + r" \\" for row in sheet.rows]
    if sheet.total:
        body.insert(-1, r"\midrule")
    notes = [f"% {' '.join(note.split())}" for note in sheet.sentences]
    if not sheet.rows:
        return "\n".join(notes)
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", *notes])


def _cell(column: Column, row: Row) -> str:
    """A number with its interval, the minus sign being one; words as they are."""
    text, (low, high) = column.text(row), column.bounds(row)
    if not column.right:
        return escape(text)
    if column.over and text.endswith(STAR):
        return _cell(replace(column, over=""), row) + r"$^{*}$"
    if column.interval and low and high:
        value = row[column.key]
        down, up = value - row[f"{column.key}_low"], row[f"{column.key}_high"] - value
        if math.isfinite(down) and math.isfinite(up):
            below, above = (column.form(v, row).lstrip("+-") for v in (down, up))
            return f"${escape(text)}_{{-{below}}}^{{+{above}}}$"
    try:
        return f"${text}$" if float(text) < 0 or text.startswith("+") else escape(text)
    except ValueError:
        return escape(text)
