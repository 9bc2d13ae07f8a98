"""The leaderboard, column by column: who is best at one thing, and how sure that is.

A column is a (dataset, suite, metric, variant, group); its rows are the models, best first. Nothing
is computed here but where a number is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis.belief import BELIEVED, BOUND
from harness.analysis.groups import describe_group
from harness.analysis.leaderboard import COUNTS, KEY
from harness.analysis.verdicts import Run, verdicts
from harness.report.numbers import convert, count_decimals, find_scale, unit_of
from harness.report.runs import Place, numbers_of
from harness.suites.adversarial_metrics import MINIMAL_DISTANCE, ROBUST_ACCURACY
from harness.suites.metric import Metric, is_bound, parts_of
from harness.suites.metrics import METRICS

Row = Mapping[Any, Any]
NUMBERS = ("value", "low", "high")
HEADLINE = ("common", "noise+blur", "clean")  # groups to open with, the first that is there
MOST_ROWS = 40_000  # beyond these, what is of single classes stays in the CSV alone


def is_of_class(variant: str) -> bool:
    """Return whether a variant is of the images of one class."""
    return any(part.startswith("class ") for part in parts_of(variant))


def columns(
    board: pd.DataFrame, place: Mapping[str, int], runs: Place | None = None
) -> list[dict[str, Any]]:
    """Return the columns of a leaderboard in its order, as the page has them.

    Args:
        board: With the columns of `harness.analysis.leaderboard`.
        place: Number of each model in the page.
        runs: Number of each run in the page.

    Returns:
        Of each column its names, `conditions` (the group in words), `title`, `unit`, `better`,
        `places` (decimals), `axis` (ends of the scale that intervals are drawn on), `says` (who
        leads) and `rows`; see `_row`. Numbers are in the unit in which they are printed.
    """
    board = board[~board["variant"].map(is_bound)]
    if len(board) > MOST_ROWS:
        board = board[~board["variant"].map(is_of_class)]
    found: dict[tuple, list[Row]] = {}
    for row in board.to_dict("records"):
        found.setdefault(tuple(row[name] for name in KEY[:5]), []).append(row)
    believed = verdicts(board)
    return [_column(key, rows, place, runs or {}, believed) for key, rows in found.items()]


def _column(
    key: tuple,
    part: list[Row],
    place: Mapping[str, int],
    runs: Place,
    believed: Mapping[Run, str],
) -> dict[str, Any]:
    dataset, suite, name, variant, group = key
    metric = METRICS[name]
    worst = math.inf if metric.sign < 0 else -math.inf
    values = [worst if math.isnan(row["value"]) else row["value"] for row in part]
    order = sorted(range(len(part)), key=values.__getitem__, reverse=metric.sign >= 0)
    best_first = [part[i] for i in order]
    places = count_decimals(metric, [row["value"] for row in part])
    rows = [
        [
            *_row(metric, row, places, place),
            numbers_of(runs, dataset, suite, row["model"], row["runs"].split()),
        ]
        for row in best_first
    ]
    low, high = find_scale([number for row in rows for number in row[1:4]])
    return {
        "dataset": dataset,
        "suite": suite,
        "metric": name,
        "variant": variant,
        "group": group,
        "conditions": describe_group(group),
        "title": metric.title,
        "unit": unit_of(metric),
        "better": metric.sign,
        "places": places,
        "axis": [max(low, 0.0), min(high, 100.0)] if metric.is_rate else [low, high],
        "says": " ".join(filter(None, [_leader(best_first), _bounds(best_first, believed)])),
        "rows": rows,
    }


def _leader(best_first: Sequence[Row]) -> str:
    """Who leads, as far as the ranks tell."""
    first = [
        row["model"] for row in best_first if not pd.isna(row["rank_low"]) and row["rank_low"] == 1
    ]
    if not first or len(best_first) == 1:
        return ""
    if len(first) == len(best_first):
        return "No model is significantly worse than another."
    return f"{first[0]} leads." if len(first) == 1 else f"{len(first)} models may be the best."


def _bounds(rows: Sequence[Row], believed: Mapping[Run, str]) -> str:
    """Which robust accuracies are upper bounds, and why; "" for other metrics."""
    if rows[0]["metric"] not in (ROBUST_ACCURACY.name, MINIMAL_DISTANCE.name):
        return ""
    told = [(row["model"], believed[row["dataset"], row["suite"], row["model"]]) for row in rows]
    bad = [f"{model} ({text.removeprefix(BOUND)})" for model, text in told if text != BELIEVED]
    return f"Upper bounds only: {'; '.join(bad)}." if bad else ""


def _row(metric: Metric, row: Row, places: int, place: Mapping[str, int]) -> list[Any]:
    """A row: model, value, low, high, seeds, images, rank_low, rank_high, mde, basis, [runs]."""
    numbers = [convert(metric, row[name], places) for name in NUMBERS]
    counts = [None if pd.isna(row[name]) else int(row[name]) for name in COUNTS]
    return [
        place[row["model"]],
        *numbers,
        *counts,
        convert(metric, row["mde"], places),
        row["basis"],
    ]


def opening(found: Sequence[Mapping[str, Any]]) -> int:
    """Return which column the page opens with: accuracy under the most corruptions."""

    def worth(i: int) -> tuple[bool, int, int]:
        group = found[i]["group"]
        place = HEADLINE.index(group) if group in HEADLINE else len(HEADLINE)
        return (found[i]["metric"], found[i]["variant"]) != ("accuracy", ""), place, i

    return min(range(len(found)), key=worth)
