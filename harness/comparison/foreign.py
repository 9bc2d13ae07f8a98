"""CSVs of other programs as our long table.

A published table names things otherwise: `corruption`, `severity`, `accuracy`; or it has a column
for each severity. Columns are mapped by `--columns THEIRS=OURS`, what the file does not say is
given by `--given OURS=VALUE`, and what was assumed is said.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.analysis.groups import KINDS
from harness.comparison.spreadsheets import CORRECT
from harness.refusal import Refusal, unknown
from harness.storage.results import COLUMNS
from harness.storage.rows import Rows, long_rows
from harness.suites.metrics import BUILT_IN

OURS = tuple(name for name in COLUMNS if name != "run")
PERCENT = "percent"  # a value in per cent
ALIASES = {
    "corruption": "condition",
    "severity": "level",
    "images": "n",
} | dict.fromkeys((*BUILT_IN, "acc"), "value")
# As TFDS calls them.
CONDITIONS = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}
MEANS = ("average", "avg", "mean", "all", "total")  # rows and columns that repeat others
SEVERITY = re.compile(r"(?:s|sev|severity)?[ _-]?([1-5])", re.IGNORECASE)


def is_known(column: str) -> bool:
    """Return whether a column of that name is read without being mapped."""
    return column in OURS or column.lower() in ALIASES or SEVERITY.fullmatch(column) is not None


def read_pairs(option: str, text: str, known: Sequence[str], side: int) -> dict[str, str]:
    """Return an option's `a=b,c=d` as a dict.

    Args:
        known: What may stand on one side: 0 the left, 1 the right.

    Raises:
        Refusal: Something else stands there, or it is not written so.
    """
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        left, equals, right = (word.strip() for word in part.partition("="))
        if not (left and equals and right):
            raise Refusal(f"`{option} {text}` is not of the form a=b,c=d.")
        if (left, right)[side] not in known:
            raise unknown("column of ours", (left, right)[side], known)
        found[left] = right
    return found


def translate(
    theirs: Rows,
    columns: Mapping[str, str],
    given: Mapping[str, str],
    known: Mapping[str, str],
) -> tuple[pd.DataFrame, list[str]]:
    """Return rows of a foreign CSV as our long table, and the assumptions made.

    Args:
        columns: Their name to ours, or to "percent" for a value in per cent.
        given: Our name to a constant, for what the file does not say, or says otherwise.
        known: Constants that the other side of a comparison suggests.

    Raises:
        Refusal: A column that is mapped is not there, something is missing, or is no such thing;
            says where.
    """
    path = theirs.path
    text = pd.DataFrame(theirs.columns, index=theirs.lines, dtype=object)
    for name in columns:
        if name not in text:
            raise unknown(f"column in {path}", name, text.columns)
    mapped = {"value" if name == PERCENT else name for name in columns.values()}
    aliases = {c: ALIASES[c.lower()] for c in theirs.columns if c.lower() in ALIASES}
    aliases |= {c: c for c in theirs.columns if c in OURS}
    names = {c: name for c, name in aliases.items() if name not in mapped} | dict(columns)
    rows, metric = _long(text, names, theirs)
    notes = []
    said = {"seed": "0", "level": "0", "variant": ""} | (
        {} if metric is None else {"metric": metric}
    )
    assumed = {"model": path.stem, "metric": "accuracy"} | dict(known)
    # Equal runs have equal outcomes.
    rows["run"] = hashlib.sha256(text.to_csv().encode()).hexdigest()[:12]
    for column in OURS:
        if column in given:
            rows[column] = given[column]
        elif column in rows:
            continue
        elif column in said or column in assumed:
            rows[column] = said.get(column, assumed.get(column, ""))
            if column not in said:
                notes.append(f"{column} {assumed[column]}")
        else:
            raise Refusal(
                f"{path} does not say its `{column}`. Give `--given {column}=...`, or map one of "
                f"its columns ({', '.join(map(ascii, text.columns))}) with `--columns "
                f"THEIRS={column}`."
            )
    rows["condition"] = [_condition(c) for c in rows["condition"]]
    repeated = rows["condition"].str.lower().isin(MEANS)
    rows = rows[~repeated]
    ours_now = {name: rows[name].tolist() for name in COLUMNS}
    table = pd.DataFrame(long_rows(Rows(path, CORRECT, ours_now, list(rows.index)), COLUMNS))
    wrong = table["metric"] == "error"
    table.loc[wrong, "value"] = 1 - table.loc[wrong, "value"]
    table.loc[wrong, "metric"] = "accuracy"
    notes = [f"{path} does not say it, so this is assumed: {', '.join(notes)}."] if notes else []
    return table, notes


def _long(
    text: pd.DataFrame, names: Mapping[str, str], theirs: Rows
) -> tuple[pd.DataFrame, str | None]:
    """Rows under our names, a row for each number, and the metric if a column's name says it."""
    path, taken = theirs.path, dict[str, str]()
    for column, name in names.items():
        if name in taken:
            raise Refusal(
                f"{path}: both `{taken[name]}` and `{column}` would be `{name}`. Map one of them "
                "to another column with `--columns`, or remove it."
            )
        taken[name] = column
    kept = {column: name for column, name in names.items() if name in OURS}
    valued = [t for t, name in names.items() if name in ("value", PERCENT)]
    metrics = {name: name for name in BUILT_IN} | {"acc": "accuracy"}
    metric = next((metrics[t.lower()] for t in valued if t.lower() in metrics), None)
    rows = text[list(kept)].rename(columns=kept)
    wide = {c: SEVERITY.fullmatch(c.strip()) for c in theirs.columns if c not in names}
    levels = {c: match[1] for c, match in wide.items() if match}
    if not valued and levels and "level" not in rows:
        parts = [rows.assign(level=lv, value=text[c]) for c, lv in levels.items()]
        return pd.concat(parts), metric
    if names and PERCENT in names.values():
        rows = rows.assign(value=[_fraction(v) for v in text[taken[PERCENT]]])
    if not valued:
        raise Refusal(
            f"{path} has no column of values. Map one of its columns ("
            f"{', '.join(map(ascii, text.columns))}) with `--columns THEIRS=value`, or "
            f"`THEIRS={PERCENT}`."
        )
    return rows.copy(), metric


def _fraction(text: str) -> str:
    """A number in per cent as a fraction; text that is no number stays, to be refused."""
    try:
        return repr(float(text.strip().removesuffix("%")) / 100)
    except ValueError:
        return text


def _condition(name: str) -> str:
    plain = re.sub(r"[ -]+", "_", name.strip()).lower()
    plain = CONDITIONS.get(plain, plain)
    return plain if plain in KINDS or plain == "clean" else name
