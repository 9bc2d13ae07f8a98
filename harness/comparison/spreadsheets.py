"""CSVs as spreadsheets write them: semicolons, tabs, decimal commas, columns without a name.

What can be read in one way only is read so; what can be read in two ways is refused, since 1,234 is
a thousand in one country and a little more than one in another.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.rows import Row, Rows, as_columns, read_text, split_rows

CORRECT = "Correct the file, or map its columns with `--columns THEIRS=OURS`."
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SEPARATOR = re.compile(r'"?sep=([,;|\t])"?\r?\n', re.IGNORECASE)  # a first line for Excel
NUMBER = r"[+-]?(?:\d+{0}?\d*|{0}\d+)(?:[eE][+-]?\d+)?\s*%?"
POINT, COMMA = re.compile(NUMBER.format(r"\.")), re.compile(NUMBER.format(","))
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}\s*%?")  # or three decimals

IsKnown = Callable[[str], bool]


def read_spreadsheet(path: Path, is_known: IsKnown) -> Rows:
    """Return the rows of a CSV of another program, numbers with decimal points.

    Args:
        is_known: Whether a column of that name will be read; others may hold anything.

    Raises:
        Refusal: There is no such file, it is no CSV, or can be read in two ways; says where.
    """
    text, sha256 = read_text(path, CORRECT, wide=True)
    given = SEPARATOR.match(text)
    if given:
        text = "\n" + text[given.end() :]  # lines keep their numbers
    delimiter = given[1] if given else _delimiter(path, text, is_known)
    table = _trim(split_rows(path, text, CORRECT, delimiter))
    rows = as_columns(path, table, CORRECT, sha256)
    used = {
        name: cells
        for name, cells in rows.columns.items()
        if is_known(name) and all(map(_is_number, cells))
    }
    if _has_decimal_commas(path, [c for cells in used.values() for c in cells], delimiter):
        for name, cells in used.items():
            rows.columns[name] = [cell.replace(",", ".") for cell in cells]
    return rows


def _delimiter(path: Path, text: str, is_known: IsKnown) -> str:
    """What stands between the fields: gives a table, with the most columns that are known."""
    found: dict[str, tuple[bool, int]] = {}
    for delimiter in DELIMITERS:
        try:
            (_, header), *rest = _trim(split_rows(path, text, CORRECT, delimiter))
        except Refusal:
            continue
        if len(header) > 1:
            whole = all(len(row) == len(header) for _, row in rest)
            found[delimiter] = whole, sum(map(is_known, header))
    best = [delimiter for delimiter, score in found.items() if score == max(found.values())]
    if len(best) > 1 and found[best[0]][0]:
        ways = " or by ".join(DELIMITERS[delimiter] for delimiter in best)
        raise Refusal(f"{path} can be read as separated by {ways}. Save it with commas alone.")
    return best[0] if best else ","


def _trim(table: Sequence[Row]) -> list[Row]:
    """Rows without spaces around fields, empty lines, and columns without a name or content."""
    rows = [(line, [field.strip() for field in fields]) for line, fields in table]
    rows = [row for row in rows if any(row[1])] or rows[:1]
    width = max(len(fields) for _, fields in rows)
    filled = [any(i < len(fields) and fields[i] for _, fields in rows) for i in range(width)]
    return [
        (line, [field for field, there in zip(fields, filled, strict=False) if there])
        for line, fields in rows
    ]


def _is_number(text: str) -> bool:
    return text.lower() in ("", "nan") or any(p.fullmatch(text) for p in (POINT, COMMA))


def _has_decimal_commas(path: Path, numbers: Sequence[str], delimiter: str) -> bool:
    """Whether numbers are written with decimal commas; refuse what can be read in two ways."""
    commas, points = ([n for n in numbers if sign in n] for sign in ",.")
    if commas and points:
        raise Refusal(
            f"{path} has numbers with a comma and with a point, such as {commas[0]} and "
            f"{points[0]}. Write all with a decimal point."
        )
    signed = commas or (points if delimiter == ";" else [])
    if signed and all(map(THOUSANDS.fullmatch, signed)):
        raise Refusal(
            f"{path} has numbers such as {signed[0]}, in thousands or with three decimals: nothing "
            "in it says which. Write numbers with a decimal point, and separate fields by commas."
        )
    return bool(commas)
