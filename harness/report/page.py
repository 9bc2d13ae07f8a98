"""results/report/index.html: everything that is in a results folder, on one page.

The page needs no network: libraries, numbers and pictures are inside. Names and numbers reach it
as text, in HTML that escapes them and in packed JSON; scripts put them into the page as text again.
Its content security policy lets nothing run but its own scripts, and nothing load at all.

The page is a function of the folder: the same results give the same page.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.analysis import boards
from harness.analysis.corruption_error import REFERENCE
from harness.models.catalog import CATALOG
from harness.progress import Progress
from harness.report import answers, board, curves, libraries, pictures, runs, training
from harness.report.content import Content
from harness.storage.files import safe, write_bytes
from harness.storage.histories import read_histories
from harness.storage.results import select
from harness.suites.metrics import MAP_STATISTICS

PATH = Path("report") / "index.html"
LARGEST = 5_000_000  # bytes of the page


def write(results: Path, progress: Progress | None = None) -> Path:
    """Write the page of a results folder.

    Args:
        progress: Where to say how far the reading of outcomes is.

    Returns:
        Its path.

    Raises:
        Refusal: There are no results, a file is damaged, or a library that the page is made with is
            not installed.
    """
    libraries.require()
    from harness.report.html import html  # with its libraries, which may be absent

    table, leaderboard = select(results, [], [], []), board.read(results)
    studies, made = answers.read(results), runs.runs(results, table)
    quiet = Progress(Console(stderr=True), "quiet")
    with boards.open_outcomes(results, table, progress or quiet) as outcomes:
        histories = read_histories(results)
        content = Content(table, leaderboard, made, studies, histories, outcomes)
        numbers = facts(content)
    page = html(content, numbers)
    found, left_out = pictures.pictures(results, _on_page(numbers), LARGEST - len(page))
    if found or left_out:
        page = html(content, numbers, found, left_out)
    write_bytes(results / PATH, page)
    return results / PATH


def facts(content: Content) -> dict[str, Any]:
    """Return the numbers of the page, as its scripts read them; JSON-able."""
    names = _names(content)
    place = {name: i for i, name in enumerate(names)}
    columns = [] if content.leaderboard is None else board.columns(content.leaderboard, place)
    found = curves.curves(content.table, place, content.outcomes)
    opening = board.opening(columns) if columns else None
    if opening is not None:  # the suite that the leaderboard opens with comes first
        found.sort(key=lambda c: any(c[k] != columns[opening][k] for k in ("dataset", "suite")))
    return {
        "models": [{"name": name, "baseline": name == REFERENCE} for name in names],
        "boards": columns,
        "opening": opening,
        "curves": found,
        "training": training.training(content.histories, place),
        "runs": [run | {"model": place[run["model"]]} for run in content.made["runs"]],
        "shared": content.made["shared"],
    }


def _on_page(numbers: Mapping[str, Any]) -> set[str]:
    """Names of the figures that the page draws itself: curves, but no statistics of maps."""
    maps = {metric.name for metric in MAP_STATISTICS}
    return {
        f"{safe(of['dataset'])}-{of['suite']}.png"
        for of in (*numbers["curves"], *numbers["training"])
        if maps.isdisjoint(metric["metric"] for metric in of["metrics"])
    }


def _names(content: Content) -> list[str]:
    """All models: the baseline, those built in, in their order, then the others by name."""
    found = set(content.table["model"])
    if content.leaderboard is not None:
        found |= set(content.leaderboard["model"])
    order = {name: i for i, name in enumerate((REFERENCE, *CATALOG))}
    return sorted(found, key=lambda name: (order.get(name, math.inf), name))
