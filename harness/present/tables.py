"""What a person wants to see of a suite's results: its own table, or rows of its leaderboard."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.comparability import behaviors_of, find_notes
from harness.models.catalog import CATALOG
from harness.present.accuracy import accuracy_sheets
from harness.present.adversarial import adversarial_sheets
from harness.present.attention import attention_sheets
from harness.present.board import board_sheets, sheet_of
from harness.present.families import family_sheet
from harness.present.generation import generation_sheets
from harness.present.imagenet_c import imagenet_c_sheets
from harness.present.nfe import nfe_sheets
from harness.present.ood import ood_sheets
from harness.present.request import Request
from harness.present.sheet import NOTES, Sheet
from harness.present.stability import stability_sheets
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import order_models, read, read_provenances

# By suite; any other has rows of its leaderboard.
TABLES: dict[str, Callable[[Request], list[Sheet]]] = {
    "clean": accuracy_sheets,
    "robustness": accuracy_sheets,
    "cifar10_c": accuracy_sheets,
    "imagenet_c": imagenet_c_sheets,
    "attention": attention_sheets,
    "stability": stability_sheets,
    "nfe": nfe_sheets,
    "ood": ood_sheets,
    "adversarial": adversarial_sheets,
    "generation": generation_sheets,
}


def suite_tables(
    results: Path,
    suite: str,
    models: Sequence[str],
    datasets: Sequence[str],
    progress: Progress,
    *,
    frame: pd.DataFrame | None = None,
    detail: bool = False,
    reference: str | None = None,
    table: Callable[[pd.DataFrame], Any] | None = None,
) -> list[Sheet]:
    """Return the tables of a suite, those of models that are built in first.

    Args:
        models: Which; empty for all, as `datasets`.
        frame: Long table of the results, where it is read already.
        detail: Accuracy by severity for each of several models, not for a single one alone.
        reference: Model that mCE is relative to; by default `REFERENCE`, where all is there.
        table: Of a user's suite: its rows to a sheet or a frame.

    Raises:
        Refusal: Cells of the reference that was named are missing, or `table` gives no table.
    """
    frame = read(results) if frame is None else frame
    kept = frame["suite"] == suite
    for column, names in (("model", models), ("dataset", datasets)):
        kept &= frame[column].isin(names) if names else True
    rows = order_models(frame[kept], CATALOG).sort_values("dataset", kind="stable")
    progress.detail(f"Read {len(rows)} rows of {suite}.")
    if rows.empty:
        return []
    if table is not None:
        made = table(rows)
        if not isinstance(made, Sheet | pd.DataFrame):
            raise Refusal(
                f"The `table` of the suite {suite} must return a DataFrame or a Sheet; got "
                f"{type(made).__name__}."
            )
        return [made if isinstance(made, Sheet) else sheet_of(made)]
    behaviors = behaviors_of(read_provenances(results))
    request = Request(results, rows, progress, detail, reference, behaviors)
    return TABLES.get(suite, board_sheets)(request)


def family_tables(results: Path, frame: pd.DataFrame, progress: Progress) -> list[Sheet]:
    """Return the models of each suite with answers to images by family, beside published numbers.

    Args:
        frame: Long table of the results.

    Raises:
        Refusal: No suite has any.
    """
    made, found = read_provenances(results), list[Sheet]()
    for _, part in frame.groupby("suite", sort=False):
        rows = order_models(part, CATALOG).sort_values("dataset", kind="stable")
        request = Request(results, rows, progress, behaviors=behaviors_of(made))
        found += family_sheet(request, made)
    if not found:
        raise Refusal(
            f"{results} has no accuracies. Run `harness run --suite robustness --model all`."
        )
    return found


def notes_sheets(
    results: Path,
    frame: pd.DataFrame,
    suites: Sequence[str] = (),
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> list[Sheet]:
    """Return what keeps the models of a table from being compared; nothing where nothing does.

    Args:
        frame: Long table of the results.
        suites: Which, empty for all; `models`, `datasets` likewise.
    """
    for column, names in (("suite", suites), ("model", models), ("dataset", datasets)):
        frame = frame[frame[column].isin(names)] if names else frame
    notes = find_notes(frame, read_provenances(results))
    return [Sheet([], [], notes, NOTES)] if notes else []
