"""Frames as a person reads them: rates in per cent, at most 15 rows."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from harness import models as builders  # noqa: F401  fills the registry
from harness.analysis import by_condition
from harness.analysis.boards import reading
from harness.analysis.collect import samples
from harness.analysis.corruption_error import REFERENCE, is_complete, mean_corruption_error
from harness.analysis.groups import CORRUPTED, FAMILIES, KINDS, headline, spoken, with_corrupted
from harness.analysis.leaderboard import leaderboard, of_samples, summary
from harness.analysis.outcomes import StoredOutcomes
from harness.analysis.scores import in_points
from harness.comparison.differences import bounds, chance
from harness.comparison.guards import Guard
from harness.models.base import MODELS, card_of
from harness.present.diagnostic_tables import attention_table, stability_table
from harness.progress import Progress
from harness.storage.results import ordered, read
from harness.suites.robustness import GROUPS

ROWS = 15  # of a table that is printed
SCORES = {"accuracy", "nll", "brier", "ece"}


def of_suite(
    results: Path,
    suite: str,
    models: Sequence[str],
    datasets: Sequence[str],
    progress: Progress,
    detail: bool = False,
    reference: str | None = None,
) -> list[Table | str]:
    """Return what a person wants to see of a suite's results, the baseline first.

    Args:
        detail: Accuracy by severity for each of several models, not for a single one alone.
        reference: Of mCE; by default `REFERENCE`, where all is there.

    Raises:
        ValueError: Cells of the reference that was named are missing.
    """
    frame = ordered(read(results), MODELS)
    frame = frame[
        (frame["suite"] == suite) & frame["model"].isin(models) & frame["dataset"].isin(datasets)
    ]
    corrupted = set(frame["condition"]) - {"clean"}
    if frame["metric"].str.startswith("entropy_").any():
        return [attention_table(frame)]
    if frame["metric"].str.startswith("log10_growth_").any():
        return [stability_table(frame)]
    if not set(frame["metric"]) >= SCORES or not corrupted <= set(KINDS):
        with reading(results, frame, progress) as outcomes:
            return board_tables(leaderboard(frame, outcomes))
    accuracy = frame[frame["metric"] == "accuracy"]
    with reading(results, accuracy, progress) as outcomes:
        found = samples(accuracy, outcomes, grouping=with_corrupted)
    means = ordered(summary(found), MODELS)
    if not corrupted:
        return [clean_table(frame, means)]
    shown: list[Table | str] = []
    if detail or len(means) == 1:
        for _, part in frame.groupby(["dataset", "model"], sort=False):
            shown += [severity_table(part), ""]
    families = [group for group in GROUPS if group in means]
    shown.append(summary_table(means, families))
    if detail:
        shown += ["", calibration_table(frame)]
    if any(marked(name) != name for name in means["model"]):
        shown.append(f"{MARK} transductive: an answer depends on the other images of its batch.")
    board = of_samples({key: s for key, s in found.items() if key.group != CORRUPTED})
    for dataset, part in accuracy.groupby("dataset", sort=False):
        shown += rank_lines(board[board["dataset"] == dataset])
        complete = is_complete(part, REFERENCE) and part["model"].nunique() > 1
        if reference is not None or complete:
            with reading(results, part, progress) as outcomes:
                shown += mce_lines(part, reference or REFERENCE, outcomes)
    return shown


MARK = "\u2020"


def marked(name: str) -> str:
    """Return a model's name, with a dagger if it is transductive."""
    builder = name.partition("(")[0]
    return f"{name} {MARK}" if builder in MODELS and card_of(MODELS[builder]).transductive else name


def calibration_table(frame: pd.DataFrame) -> Table:
    """Proper scores and calibration, clean and as means over the corrupted cells and seeds."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model"):
        table.add_column(heading)
    scores = ("nll", "brier", "ece")
    for score in scores:
        table.add_column(f"{score.upper() if score != 'brier' else 'Brier'} clean", justify="right")
        table.add_column("corrupted", justify="right")
        table.add_column("ratio", justify="right")
    for (dataset, model), part in frame.groupby(["dataset", "model"], sort=False):
        row = []
        for score in scores:
            here = part[part["metric"] == score]
            clean = here.loc[here["condition"] == "clean", "value"].mean()
            corrupted = here.loc[here["condition"] != "clean", "value"].mean()
            row += [f"{clean:.3f}", f"{corrupted:.3f}", f"{corrupted / clean:.2f}"]
        table.add_row(str(dataset), marked(str(model)), *row)
    return table


def percent(value: float) -> str:
    return "" if pd.isna(value) else f"{100 * value:.1f}"


def interval(low: float, high: float) -> str:
    return f"{percent(low)}-{percent(high)}" if pd.notna(low) else ""


def rank(low: int, high: int) -> str:
    """The ranks that cannot be told apart, "2-3"; "2" for one alone."""
    return "" if pd.isna(low) else f"{low}" if low == high else f"{low}-{high}"


def rank_lines(board: pd.DataFrame) -> list[Table | str]:
    """Who is better than whom, in the largest group that several models have."""
    several = board[board.groupby("group")["model"].transform("size") > 1]
    for group in ("common", "noise+blur", *several["group"].unique()):
        here = several[several["group"] == group].sort_values(["rank_low", "rank_high", "model"])
        if not here.empty and group != "clean":
            ranks = (f"{rank(r.rank_low, r.rank_high)} {r.model}" for r in here.itertuples())
            where = f"{spoken(group)} on {here['dataset'].iloc[0]}"
            return [f"Ranks of accuracy {where}, ties as ranges: {', '.join(ranks)}."]
    return []


def mce_lines(frame: pd.DataFrame, reference: str, outcomes: StoredOutcomes) -> list[Table | str]:
    """mCE and relative mCE against a reference, with the difference of accuracies beside them."""
    means = mean_corruption_error(frame, reference, outcomes)
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "model"):
        table.add_column(heading)
    columns = [f"mce[ref={reference}]", f"relative_mce[ref={reference}]"]
    for column in columns:
        table.add_column(column, justify="right")
        table.add_column("95 % interval", justify="right")
    for heading in ("accuracy less its", "seeds", "n"):
        table.add_column(heading, justify="right")
    for _, row in ordered(means, MODELS).iterrows():
        cells = []
        for column in columns:
            low, high = row[f"{column} low"], row[f"{column} high"]
            cells += [f"{row[column]:.1f}", f"{low:.1f}-{high:.1f}" if pd.notna(low) else ""]
        apart = f"{100 * row['difference']:+.1f} points"
        table.add_row(row["dataset"], row["model"], *cells, apart, str(row["seeds"]), str(row["n"]))
    return ["", table]


def board_tables(board: pd.DataFrame) -> list[Table | str]:
    """The first rows of a leaderboard of any suite, its headline groups alone."""
    kept = board[board["group"].isin(headline(board["group"].unique()))]
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "metric", "condition", "model"):
        table.add_column(heading)
    for heading in ("value", "95 % interval", "rank", "seeds", "n"):
        table.add_column(heading, justify="right")
    for _, row in kept.head(ROWS).iterrows():
        table.add_row(
            row["dataset"],
            row["metric"],
            row["group"],
            row["model"],
            f"{row['value']:.4g}",
            f"{row['low']:.4g} to {row['high']:.4g}" if pd.notna(row["low"]) else "",
            rank(row["rank_low"], row["rank_high"]),
            str(row["seeds"]),
            str(row["images"]),
        )
    left = len(kept) - ROWS
    more = f"{left} more rows: `harness table --write` writes all of them."
    return [table, more] if left > 0 else [table]


def comparison_table(frame: pd.DataFrame) -> Table:
    """The groups of a comparison, a row each; rates in per cent, their differences in points."""
    groups = frame[frame["family"] == "groups"].head(ROWS)
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("data set", "suite", "metric", "condition"):
        table.add_column(heading)
    a, b = frame["a"].iloc[0], frame["b"].iloc[0]
    for heading in (a, b, "difference", "95 % interval", "p (Holm)", "detectable", "n"):
        table.add_column(heading, justify="right")
    for _, row in groups.iterrows():
        metric, known = row["metric"], pd.notna(row["low"])
        factor, digits = (100, 2) if in_points(metric) else (1, 4)
        number = "{:." + str(digits) + "f}"
        table.add_row(
            row["dataset"],
            row["suite"],
            metric + (" %" if in_points(metric) else ""),
            row["group"],
            *(number.format(factor * row[v]) for v in ("value_a", "value_b")),
            f"{factor * row['difference']:+.{digits}f}",
            bounds(metric, row["low"], row["high"]) if known else "",
            chance(row["p_holm"]) if known else "",
            number.format(factor * row["mde"]) if known and not row["identical"] else "",
            " / ".join(dict.fromkeys((str(row["images_a"]), str(row["images_b"])))),
        )
    return table


def check_table(guards: Sequence[Guard]) -> Table:
    """The verdicts of a check, a row for each guard."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("verdict", "data set", "suite", "model", "metric", "condition"):
        table.add_column(heading)
    for heading in ("before", "now", "better by", "95 % interval", "margin", "n"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for guard in guards:
        key, known = guard.key, pd.notna(guard.difference)
        table.add_row(
            guard.verdict,
            *(key.dataset, key.suite, key.model, key.metric, key.group),
            *(f"{v:.4f}" if pd.notna(v) else "" for v in (guard.baseline, guard.new)),
            f"{guard.difference:+.4f}" if known else "",
            f"{guard.low:+.4f} to {guard.high:+.4f}" if known else "",
            f"{guard.margin:g}",
            str(guard.images or ""),
            guard.reason,
        )
    return table


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
            interval(row["low"], row["high"]),
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
            marked(row["model"]),
            percent(row["clean"]),
            percent(row["value"]),
            interval(row["low"], row["high"]),
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
    # Validation corruptions never enter a mean, unless there is nothing else.
    common = [name for name in wide.index if name in FAMILIES["common"]]
    whole = wide.loc[common or list(wide.index)]
    cells = [percent(whole[level].mean()) for level in sorted(wide.columns)]
    table.add_row("mean", *cells, percent(whole.stack().mean()), style="bold")
    return table
