"""Rows of a CSV file, checked before anything is made of them.

A table may come from anybody: cut off, edited by hand, or made to harm. So a row is refused, with
its file and line, unless every name is printable and starts no spreadsheet formula, and every
number is one; two rows that say the same thing are refused as well.
"""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.spelling import LEAST, kind_of, problem_of_name, read_whole
from harness.suites.metrics import METRICS, span_of

SLACK = 1e-3  # of float32 rounding beyond the ends of a range
AGAIN = "Run it again, or make it again from stored cells with `harness table --rescore`."
NAMES = ("model", "suite", "dataset", "condition", "metric", "variant", "run")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how spreadsheets begin what they call Unicode text
Row = tuple[int, list[str]]  # number of a line, and its fields
EMPTY = ("value", "low", "high", "mde", "rank_low", "rank_high")  # may be absent


@dataclass(frozen=True)
class Rows:
    """Rows as text, column by column.

    Args:
        cure: What a person should do about the file if it is damaged.
        lines: Where each row stands in the file.
        sha256: Of the bytes that were read.
    """

    path: Path
    cure: str
    columns: dict[str, list[str]]
    lines: list[int]
    sha256: str = ""

    def need(self, columns: Sequence[str]) -> None:
        """Refuse a table without these columns; without variants it has none.

        Raises:
            Refusal: Names the first that is not there.
        """
        # A table of metrics without families need not have it.
        self.columns.setdefault("variant", [""] * len(self.lines))
        missing = [c for c in columns if c not in self.columns]
        if missing:
            raise Refusal(f"{self.path} lacks the column `{missing[0]}`. {self.cure}")

    def names(self, column: str) -> list[str]:
        """Return a column of names that can be shown anywhere.

        Raises:
            Refusal: Says what is wrong in which line.
        """
        given = self.columns[column]
        distinct = {name: name for name in given}
        asked = distinct.keys() - ({""} if column == "variant" else set())
        bad = [given.index(name) for name in asked if problem_of_name(name)]
        if bad:
            raise self.error(min(bad), f"`{column}` {problem_of_name(given[min(bad)])}")
        return [distinct[name] for name in given]  # one text for all that are equal

    def numbers(self, column: str) -> list[float]:
        """Return a column of numbers, of the kind that its name says.

        Raises:
            Refusal: Says what is no number, and in which line.
        """
        given = self.columns[column]
        known = {text: _number(column, text) for text in set(given)}
        bad = [given.index(text) for text, number in known.items() if number is None]
        if bad:
            kind = kind_of(column)
            got = ascii(given[min(bad)])[:60]
            raise self.error(min(bad), f"`{column}` must be {kind}; got {got}")
        return [known[text] for text in given]  # type: ignore[misc]

    def distinct(self, *key: Sequence, of: str) -> None:
        """Refuse two rows of one key.

        Raises:
            Refusal: Names both lines.
        """
        if len(set(zip(*key, strict=True))) == len(self.lines):
            return
        seen: dict[tuple, int] = {}
        for i, row in enumerate(zip(*key, strict=True)):
            if row in seen:
                raise Refusal(
                    f"{self.path}: lines {self.lines[seen[row]]} and {self.lines[i]} are of the "
                    f"same {of}. {self.cure}"
                )
            seen[row] = i

    def error(self, row: int, fact: str) -> Refusal:
        """Return the error of a row."""
        return Refusal(f"{self.path}, line {self.lines[row]}: {fact}. {self.cure}")


def read_rows(path: Path, cure: str = AGAIN, *, ended: bool = False) -> Rows:
    """Return the rows of a CSV file as text.

    Args:
        ended: Whether the last line must have an end, as those that we write have.

    Raises:
        Refusal: There is no such file.
        Refusal: It is not UTF-8, or no CSV; says where.
    """
    text, sha256 = read_text(path, cure)
    numbered = split_rows(path, text, cure)
    rows = as_columns(path, numbered, cure, sha256)
    if ended and not text.endswith("\n"):
        raise Refusal(f"{path} is damaged: line {numbered[-1][0]} is cut off. {cure}")
    return rows


def read_text(path: Path, cure: str, *, wide: bool = False) -> tuple[str, str]:
    """Return the text of a file and the SHA-256 of its bytes.

    Args:
        wide: Whether UTF-16 will do, as spreadsheets write it.

    Raises:
        Refusal: There is no such file, or it is not UTF-8; says where.
    """
    if not path.is_file():
        raise Refusal(f"There is no file {path}. Check the path.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if wide and raw.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Refusal(f"{path} is damaged: line {line} is not UTF-8. {cure}") from None
    return text, hashlib.sha256(raw).hexdigest()


def split_rows(path: Path, text: str, cure: str, delimiter: str = ",") -> list[Row]:
    """Return the fields of each line that is not empty, with its number.

    Raises:
        Refusal: It is no CSV; says where.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        numbered = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise Refusal(f"{path} is damaged: line {reader.line_num}: {error}. {cure}") from None
    if not numbered:
        raise Refusal(f"{path} is damaged: it is empty. {cure}")
    return numbered


def as_columns(path: Path, numbered: Sequence[Row], cure: str, sha256: str) -> Rows:
    """Return rows, of which the first is the header, column by column.

    Raises:
        Refusal: Two columns have one name, or a line has more or fewer fields than the header.
    """
    (_, header), *rest = numbered
    twice = next((c for i, c in enumerate(header) if c in header[:i]), None)
    if twice is not None:
        raise Refusal(f"{path} has the column {twice!a} twice. {cure}")
    for line, row in rest:
        if len(row) != len(header):
            raise Refusal(
                f"{path} is damaged: line {line} has {len(row)} fields, the header "
                f"{len(header)}. {cure}"
            )
    values = (
        map(list, zip(*(row for _, row in rest), strict=True)) if rest else ([] for _ in header)
    )
    columns = dict(zip(header, values, strict=True))
    return Rows(path, cure, columns, [line for line, _ in rest], sha256)


def long_rows(rows: Rows, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return rows of text as those of the long table, column by column.

    Args:
        columns: Of the long table, in their order; others are left out.

    Raises:
        Refusal: Says what is wrong in which line.
    """
    rows.need(columns)
    made: dict[str, list[Any]] = {
        column: rows.names(column) if column in NAMES else rows.numbers(column)
        for column in columns
    }
    _check_spans(rows, made)
    key = [column for column in columns if column not in ("value", "n", "run")]
    rows.distinct(*(made[column] for column in key), of=", ".join(key))
    return made


def _check_spans(rows: Rows, made: dict[str, list[Any]]) -> None:
    """Refuse a value that its metric cannot take."""
    spans = {
        name: span_of(*name) for name in set(zip(made["metric"], made["variant"], strict=True))
    }
    slack = {name: 0.0 if METRICS[name[0]].is_rate else SLACK for name in spans}
    bounds = {name: (low - slack[name], high + slack[name]) for name, (low, high) in spans.items()}
    named = zip(made["metric"], made["variant"], made["value"], strict=True)
    for i, (metric, variant, value) in enumerate(named):
        low, high = bounds[metric, variant]
        if value < low or value > high:
            low, high = spans[metric, variant]
            raise rows.error(
                i,
                f"`{metric}` must lie in [{low:g}, {high:g}]; got {value:g}"
                + ". Rates are fractions" * METRICS[metric].is_rate,
            )


def _number(column: str, text: str) -> float | int | None:
    """A number, NaN for one that may be absent and is, None for what is no number.

    A value may be infinite, as a growth that overflowed is; nothing else may.
    """
    if column in EMPTY and text.strip().lower() in ("", "nan"):
        return math.nan
    if column in LEAST:
        return read_whole(text, LEAST[column])
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) or (column == "value" and math.isinf(number)) else None
