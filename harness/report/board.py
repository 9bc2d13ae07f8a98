"""The leaderboard, column by column: who is best at one thing, and how sure that is.

A column is a (dataset, suite, metric, group); its rows are the models, best first. Nothing is
computed here but where a number is drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from harness.analysis import boards
from harness.analysis.leaderboard import COUNTS, KEY
from harness.report.glossary import Metric, decimals, ends, metric, rounded

NUMBERS = ("value", "low", "high")
HEADLINE = ("common", "noise+blur", "clean")  # groups to open with, the first that is there
SPOKEN = {"common": "the 15 common corruptions", "noise+blur": "noise and blur"}
MOST_ROWS = 40_000  # beyond these, accuracy by class stays in the CSV alone


def read(results: Path) -> pd.DataFrame | None:
    """Return the leaderboard of a results folder, None where there is none.

    Raises:
        ValueError: It is damaged; says where.
    """
    path = results / boards.FILE
    return boards.read(path) if path.is_file() else None


def columns(board: pd.DataFrame, place: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the columns of a leaderboard in its order, as the page has them.

    Args:
        board: With the columns of `harness.analysis.leaderboard`.
        place: Number of each model in the page.

    Returns:
        Of each column its names, `conditions` (the group in words), `title`, `unit`, `better`,
        `places` (decimals), `axis` (ends of the scale that intervals are drawn on), `says` (who
        leads) and `rows`; see `_rows`. Numbers are in the unit in which they are printed.
    """
    board = board[~board["metric"].isin(ends(board["metric"]))]
    if len(board) > MOST_ROWS:
        board = board[~board["metric"].str.startswith("accuracy_class_")]
    return [_column(key, part, place) for key, part in board.groupby(list(KEY[:4]), sort=False)]


def _column(key: tuple, part: pd.DataFrame, place: Mapping[str, int]) -> dict[str, Any]:
    dataset, suite, name, group = key
    about = metric(name)
    best_first = part.sort_values("value", ascending=about.better < 0, kind="stable")
    places = decimals(about, best_first["value"])
    return {
        "dataset": dataset,
        "suite": suite,
        "metric": name,
        "group": group,
        "conditions": SPOKEN.get(group, group.replace("_", " ")),
        "title": about.title,
        "unit": about.unit,
        "better": about.better,
        "places": places,
        "axis": _axis(about, best_first, places),
        "says": _says(best_first),
        "rows": _rows(about, best_first, places, place),
    }


def _says(part: pd.DataFrame) -> str:
    """Who leads, as far as the ranks tell."""
    first = part.loc[part["rank_low"] == 1, "model"].tolist()
    if not first or len(part) == 1:
        return ""
    if len(first) == len(part):
        return "No model can be told from the best."
    return f"{first[0]} leads." if len(first) == 1 else f"{len(first)} models may be the best."


def _rows(
    about: Metric, part: pd.DataFrame, places: int, place: Mapping[str, int]
) -> list[list[Any]]:
    """Rows: model, value, low, high, seeds, images, rank_low, rank_high, mde, basis."""
    rows = []
    for row in part.to_dict("records"):
        numbers = [rounded(about, float(row[name]), places) for name in NUMBERS]
        counts = [_count(row[name]) for name in COUNTS]
        mde = rounded(about, float(row["mde"]), places)
        rows.append([place[row["model"]], *numbers, *counts, mde, row["basis"]])
    return rows


def _count(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _axis(about: Metric, part: pd.DataFrame, places: int) -> list[float]:
    """Ends of the scale that holds all intervals of a column, at round numbers."""
    ends = [rounded(about, float(v), places) for name in NUMBERS for v in part[name]]
    known = [v for v in ends if isinstance(v, float)]
    if not known:
        return [0.0, 1.0]
    ticks = MaxNLocator(4).tick_values(min(known), max(known))
    low, high = float(ticks[0]), float(ticks[-1])
    return [max(low, 0.0), min(high, 100.0)] if about.rate else [low, high]


def opening(found: Sequence[Mapping[str, Any]]) -> int:
    """Return which column the page opens with: accuracy under the most corruptions."""

    def worth(i: int) -> tuple[int, int, int]:
        group = found[i]["group"]
        place = HEADLINE.index(group) if group in HEADLINE else len(HEADLINE)
        return (found[i]["metric"] != "accuracy", place, i)

    return min(range(len(found)), key=worth)
