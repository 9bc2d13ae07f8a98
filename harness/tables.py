"""Frames as a person reads them: rates in per cent, at most 15 rows."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich.table import Table

import models as builders  # noqa: F401  fills the registry
from harness.results import ordered, outcomes, read
from harness.statistics import by_condition, summary
from models.base import MODELS
from suites.robustness import GROUPS


def of_suite(
    results: Path,
    suite: str,
    models: Sequence[str],
    datasets: Sequence[str],
    detail: bool = False,
) -> list[Table | str]:
    """Return what a person wants to see of a suite's results, the baseline first.

    Args:
        detail: Accuracy by severity for each of several models, not for a single one alone.
    """
    frame = ordered(read(results), MODELS)
    frame = frame[
        (frame["suite"] == suite) & frame["model"].isin(models) & frame["dataset"].isin(datasets)
    ]
    conditions = set(frame["condition"])
    corrupted = conditions - {"clean"}
    named = {group: {kind.__name__ for kind in kinds} for group, kinds in GROUPS.items()}
    groups = {
        group: sorted(names & corrupted) for group, names in named.items() if names & corrupted
    }
    means = summary(frame, groups, partial(outcomes, results, conditions=corrupted or conditions))
    if not corrupted:
        return [clean_table(frame, means)]
    shown: list[Table | str] = []
    if detail or len(means) == 1:
        for _, part in frame.groupby(["dataset", "model"], sort=False):
            shown += [severity_table(part), ""]
    return [*shown, summary_table(means, list(groups))]


def percent(value: float) -> str:
    return "" if pd.isna(value) else f"{100 * value:.1f}"


def clean_table(frame: pd.DataFrame, summary: pd.DataFrame) -> Table:
    """Scores on the untouched test set, a row for each model."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model"):
        table.add_column(heading)
    for heading in ("accuracy %", "95 % interval", "top-5 %", "NLL", "Brier", "ECE", "seeds", "n"):
        table.add_column(heading, justify="right")
    scores = frame[frame["condition"] == "clean"].groupby(["dataset", "model", "metric"])
    means = scores["value"].mean()
    for _, row in summary.iterrows():
        here = means[row["dataset"], row["model"]]
        table.add_row(
            row["dataset"],
            row["model"],
            percent(row["value"]),
            f"{percent(row['low'])}-{percent(row['high'])}",
            percent(here["top5"]) if "top5" in here else "",
            *(f"{here[m]:.3f}" for m in ("nll", "brier", "ece")),
            str(row["seeds"]),
            str(row["n"]),
        )
    return table


def summary_table(summary: pd.DataFrame, groups: list[str]) -> Table:
    """Mean corruption accuracy, a row for each model."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model"):
        table.add_column(heading)
    headings = ["clean %", "corrupted %", "95 % interval", "relative %"]
    for heading in (*headings, *(f"{g} %" for g in groups), "seeds", "n"):
        table.add_column(heading, justify="right")
    for _, row in summary.iterrows():
        table.add_row(
            row["dataset"],
            row["model"],
            percent(row["clean"]),
            percent(row["value"]),
            f"{percent(row['low'])}-{percent(row['high'])}",
            percent(row["relative"]),
            *(percent(row[g]) for g in groups),
            str(row["seeds"]),
            str(row["n"]),
        )
    return table


def severity_table(frame: pd.DataFrame) -> Table:
    """Accuracy of one model by corruption and severity; the last column is the mean."""
    averaged = by_condition(frame)
    corrupted = averaged[averaged["condition"] != "clean"]
    wide = corrupted.pivot_table(index="condition", columns="level", values="value", sort=False)
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{frame['model'].iloc[0]}, accuracy %")
    for level in sorted(wide.columns):
        table.add_column(f"severity {level:g}", justify="right")
    table.add_column("mean", justify="right")
    for name, row in wide.iterrows():
        cells = [percent(row[level]) for level in sorted(wide.columns)]
        table.add_row(str(name), *cells, percent(row.mean()))
    cells = [percent(wide[level].mean()) for level in sorted(wide.columns)]
    mean = percent(corrupted["value"].mean())
    table.add_row("mean", *cells, mean, style="bold")
    return table
