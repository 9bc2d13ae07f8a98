"""A table as a value: columns, rows of full-precision numbers, notes. Its printers stand beside it.

A row may hold more than the columns show: JSON has all of it. None and NaN are
what is not known, and print as nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.suites.metrics import METRICS, full_title

Row = dict[str, Any]
Form = Callable[[Any, Row], str]


def fixed(digits: int, factor: float = 1, sign: str = "") -> Form:
    """Return the form with so many digits behind the point; `sign` "+" to print both signs."""
    return lambda value, row: f"{factor * value:{sign}.{digits}f}"


def significant(digits: int) -> Form:
    """Return the form with so many significant digits."""
    return lambda value, row: f"{value:.{digits}g}"


def by_metric(rate: Form, other: Form) -> Form:
    """Return the form that prints `rate` where the row's metric is one, `other` elsewhere."""
    return lambda value, row: (rate if METRICS[row["metric"]].is_rate else other)(value, row)


def words(value: Any, row: Row) -> str:
    """A name or a count, as it is."""
    return str(value)


def ranks(value: Any, row: Row) -> str:
    """The ranks that cannot be told apart, "2-3"; "2" for one alone."""
    low, high = row["rank_low"], row["rank_high"]
    return f"{low}" if low == high else f"{low}-{high}"


def metric_title(value: Any, row: Row) -> str:
    """A metric with its variant, "accuracy %"."""
    return full_title(value, row.get("variant") or "") + " %" * METRICS[value].is_rate


PERCENT = fixed(1, 100)
NOTES = "notes"  # name of a sheet without rows
MARK, STAR = "\u2020", "*"
TRANSDUCTIVE = "transductive: an answer depends on the other images of its batch"
VALUE = by_metric(PERCENT, significant(4))


@dataclass(frozen=True)
class Column:
    """What a column shows.

    Args:
        key: Of its value in a row; an interval is at `KEY_low` and `KEY_high`.
        title: Heading.
        form: Value and row to text.
        drop: Where space is short, columns with the largest go first; 0 stays.
        interval: Likewise of its 95 % interval; 0 where it has none.
        prose: Whether lines may break where space is short.
        right: Whether it stands on the right, as numbers do.
        over: Key of what a mean is over in rows where that is not what it is over in others: their
            numbers have a star.
    """

    key: str
    title: str
    form: Form = words
    drop: int = 0
    interval: int = 0
    prose: bool = False
    right: bool = False
    over: str = ""

    def text(self, row: Row, key: str = "") -> str:
        """Return what stands in a row, "" for what is not known; `key` for a bound."""
        value = row.get(key or self.key)
        star = STAR if self.over and row.get(self.over) and not key else ""
        return "" if is_unknown(value) else self.form(value, row) + star

    def bounds(self, row: Row) -> tuple[str, str]:
        """Return the ends of the interval, "" where there is none."""
        return self.text(row, f"{self.key}_low"), self.text(row, f"{self.key}_high")


@dataclass(frozen=True)
class Sheet:
    """A table.

    Args:
        columns: What a person sees of a row.
        rows: In the order of printing.
        notes: Sentences below the table.
        name: What it is a table of, for programs.
        total: Whether the last row is the mean of the others.
        limit: How many rows a terminal shows.
        records: What a program gets, where that is not `rows`.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    name: str = ""
    total: bool = False
    limit: int | None = None
    records: Sequence[Row] | None = None

    @property
    def filled(self) -> list[Column]:
        """The columns in which something stands."""
        return [c for c in self.columns if any(c.text(row) for row in self.rows)]

    @property
    def sentences(self) -> list[str]:
        """What is said below the table: the notes, and what the mark of a model means."""
        of: dict[str, dict[str, None]] = {}
        for row in self.rows:
            if text := describe_behavior(row):
                of.setdefault(text, {})[str(row.get("model", ""))] = None
        return [*self.notes, *(f"{MARK} {', '.join(of[text])}: {text}." for text in of)]


def marked(name: str, row: Row) -> str:
    """A model's name, with a dagger if it is no function of single images."""
    return f"{name} {MARK}" if describe_behavior(row) else name


def describe_behavior(row: Row) -> str:
    """Return in what way the model of a row is no function of single images, "" where it is."""
    if row.get("behavior"):
        return "; ".join(row["behavior"])
    return TRANSDUCTIVE if row.get("transductive") else ""


def is_unknown(value: Any) -> bool:
    """Return whether a value is None or not a number."""
    return value is None or value != value


def number(
    key: str, title: str, form: Form = words, drop: int = 0, interval: int = 0, over: str = ""
) -> Column:
    """Return a column of numbers, which stand on the right."""
    return Column(key, title, form, drop, interval, right=True, over=over)


DATASET, MODEL = Column("dataset", "data set"), Column("model", "model", marked)
COUNTS = (number("seeds", "seeds", drop=8), number("n", "n", drop=9))
