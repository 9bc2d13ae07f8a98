"""Any suite: the first rows of its leaderboard; and any frame as a sheet."""

import pandas as pd

from harness.analysis.boards import current
from harness.analysis.groups import headline
from harness.present.request import Request
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    VALUE,
    Column,
    Row,
    Sheet,
    metric_title,
    number,
    ranks,
    significant,
    words,
)

ROWS = 15  # of a table that a terminal shows
COLUMNS = (
    DATASET,
    Column("metric", "metric", metric_title),
    Column("group", "condition"),
    MODEL,
    number("value", "value", VALUE, interval=2),
    number("rank_low", "rank", ranks, drop=4),
    *COUNTS,
)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame; None is what is not known."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def board_sheets(request: Request) -> list[Sheet]:
    """Return the leaderboard of a suite, its headline groups alone."""
    board = current(request.frame, request.results, request.progress)
    kept = [
        part[part["group"].isin(headline(part["group"]))]
        for _, part in board.groupby(["dataset", "metric", "variant"], sort=False)
    ]
    named = {"low": "value_low", "high": "value_high", "images": "n"}
    behaviors = {names["model"]: names.get("behavior") for names, _ in request.runs()}
    rows = [
        row | ({"behavior": behaviors[row["model"]]} if behaviors[row["model"]] else {})
        for row in rows_of(pd.concat(kept).rename(columns=named))
    ]
    limit = max(ROWS, board["model"].nunique())
    return [Sheet(COLUMNS, rows, name="leaderboard", limit=limit)]


def sheet_of(frame: pd.DataFrame) -> Sheet:
    """Return any frame as a sheet: numbers on the right, with four digits."""
    columns = []
    for name in map(str, frame.columns):
        kind = frame[name]
        if pd.api.types.is_float_dtype(kind):
            columns.append(number(name, name, significant(4)))
        elif pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
            columns.append(number(name, name))
        else:
            columns.append(Column(name, name, words))
    return Sheet(columns, rows_of(frame))
