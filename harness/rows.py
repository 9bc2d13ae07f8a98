"""Rows of a CSV file, checked before anything is made of them.

A table may come from anybody: cut off, edited by hand, or made to harm. So a row is refused, with
its file and line, unless every name is printable and starts no spreadsheet formula, and every
number is one; two rows that say the same thing are refused as well.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.scores import SPANS

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet executes
LONGEST = 200  # characters of a name
AGAIN = "Remove it and run it again."
NAMES = ("model", "suite", "dataset", "condition", "metric", "run")
KINDS = {"seed": "a whole number >= 0"} | dict.fromkeys(
    ("n", "seeds", "images", "rank_low", "rank_high"), "a whole number >= 1"
)
EMPTY = ("value", "low", "high", "mde", "rank_low", "rank_high")  # may be absent


def problem_of_name(text: str) -> str | None:
    """Return what is wrong with a name from a file, None for one that can be shown anywhere."""
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"has {len(text)} characters, more than {LONGEST}"
    if not text.isprintable():
        return f"has characters that cannot be shown: {ascii(text)}"
    if text.startswith(FORMULA):
        return f"starts like a spreadsheet formula: {ascii(text)}"
    if text != text.strip():
        return f"has spaces around it: {ascii(text)}"
    return None


def read_rows(path: Path, cure: str = AGAIN, *, ended: bool = False) -> pd.DataFrame:
    """Return the rows of a CSV file as text, the index being their lines.

    Args:
        cure: What a person should do about a damaged file.
        ended: Whether the last line must have an end, as those that we write have.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or no CSV; says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is damaged: line {line} is not UTF-8. {cure}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: line {reader.line_num}: {error}. {cure}") from None
    if not rows:
        raise ValueError(f"{path} is damaged: it is empty. {cure}")
    header = rows[0]
    twice = next((c for i, c in enumerate(header) if c in header[:i]), None)
    if twice is not None:
        raise ValueError(f"{path} has the column {ascii(twice)} twice. {cure}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"{path} is damaged: line {line} has {len(row)} fields, the header "
                f"{len(header)}. {cure}"
            )
    if ended and not text.endswith("\n"):
        raise ValueError(f"{path} is damaged: line {lines[-1]} is cut off. {cure}")
    return pd.DataFrame(rows[1:], columns=header, index=lines[1:], dtype=object)


def long_table(text: pd.DataFrame, columns: Sequence[str], path: Path, cure: str) -> pd.DataFrame:
    """Return rows of text as the long table that they are.

    Args:
        columns: Of the long table, in their order; others are left out.

    Raises:
        ValueError: Says what is wrong in which line.
    """
    missing = [c for c in columns if c not in text]
    if missing:
        raise ValueError(f"{path} lacks the column `{missing[0]}`. {cure}")
    made: dict[str, Sequence] = {}
    for column in columns:
        given = text[column]
        if column in NAMES:
            check_names(given, path, cure)
            made[column] = given.tolist()
        else:
            made[column] = numbers(given, path, cure)
    frame = pd.DataFrame(made, columns=list(columns))
    check_spans(frame["metric"], frame["value"], text.index, path, cure)
    check_twice(
        frame, [c for c in columns if c not in ("value", "n", "run")], text.index, path, cure
    )
    return frame


def check_names(given: pd.Series, path: Path, cure: str) -> None:
    """Refuse names that cannot be shown.

    Raises:
        ValueError: Says what is wrong in which line.
    """
    for name in given.unique():
        wrong = problem_of_name(name)
        if wrong:
            line = given.index[(given == name).argmax()]
            raise ValueError(f"{path}, line {line}: `{given.name}` {wrong}. {cure}")


def numbers(given: pd.Series, path: Path, cure: str) -> list:
    """Return a column of text as numbers, of the kind that its name says.

    Raises:
        ValueError: Says what is no number, and in which line.
    """
    column = str(given.name)
    known = {t: _number(column, t) for t in given.unique()}
    for line, t in zip(given.index, given, strict=True):
        if known[t] is None:
            raise ValueError(
                f"{path}, line {line}: `{column}` must be {KINDS.get(column, 'a number')}; got "
                f"{ascii(t)[:60]}. {cure}"
            )
    return [known[t] for t in given]


def _number(column: str, text: str) -> float | int | None:
    """A number, NaN for one that may be absent and is, None for what is no number.

    A value may be infinite, as a growth that overflowed is; nothing else may.
    """
    if column in EMPTY and text.strip().lower() in ("", "nan"):
        return math.nan
    if column in KINDS:
        plain = text.isascii() and text.isdigit() and len(text) < 16
        return int(text) if plain and (column == "seed" or int(text) > 0) else None
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) or (column == "value" and math.isinf(number)) else None


def check_spans(
    metrics: pd.Series, values: pd.Series, lines: pd.Index, path: Path, cure: str
) -> None:
    """Refuse values that their metric cannot have, such as an accuracy in per cent.

    Raises:
        ValueError: Says which, and in which line.
    """
    for name in metrics.unique():
        low, high = SPANS.get(name, (-math.inf, math.inf))
        outside = ((metrics == name) & ((values < low) | (values > high))).to_numpy()
        if outside.any():
            i = int(outside.argmax())
            raise ValueError(
                f"{path}, line {lines[i]}: `{name}` must lie in [{low:g}, {high:g}]; got "
                f"{values.iloc[i]:g}. Rates are fractions. {cure}"
            )


def check_twice(
    frame: pd.DataFrame, key: Sequence[str], lines: pd.Index, path: Path, cure: str
) -> None:
    """Refuse two rows of one key.

    Raises:
        ValueError: Names both lines.
    """
    again = frame.duplicated(list(key)).to_numpy()
    if again.any():
        i = int(again.argmax())
        same = (frame[list(key)] == frame[list(key)].iloc[i]).all(axis=1).to_numpy()
        raise ValueError(
            f"{path}: lines {lines[int(same.argmax())]} and {lines[i]} are of the same "
            f"{', '.join(key)}. {cure}"
        )
