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

from harness.analysis import boards
from harness.analysis.collect import Outcomes
from harness.analysis.comparability import behavior_notes, find_notes
from harness.analysis.corruption_error import REFERENCE
from harness.console import Console
from harness.models.catalog import CATALOG
from harness.progress import Progress
from harness.report import answers, board, curves, libraries, pictures, runs, training
from harness.report.content import Content
from harness.storage.files import PUBLISHED, safe, write_bytes
from harness.storage.histories import read_histories
from harness.storage.results import read_provenances, select
from harness.suites.attention_metrics import MAP_STATISTICS

PATH = Path("report") / "index.html"
LARGEST = 5_000_000  # bytes of the page


def write(results: Path, progress: Progress | None = None, out: Path | None = None) -> Path:
    """Write the page of a results folder.

    Args:
        progress: Where to say how far the reading of outcomes is.
        out: Folder to write below, where it is another.

    Returns:
        Its path.

    Raises:
        Refusal: There are no results, a file is damaged, or a library that the page is made with is
            not installed.
    """
    libraries.require()
    from harness.report.html import html  # with its libraries, which may be absent

    progress = progress or Progress(Console(stderr=True), "quiet")
    table, made = select(results, [], [], []), read_provenances(results)
    content = Content(
        table,
        boards.current(table, results, progress),
        runs.runs(results, table),
        answers.read(results),
        read_histories(results),
        notes=[*find_notes(table, made), *behavior_notes(made)],
        published=(results / PUBLISHED).is_file(),
    )
    with boards.open_outcomes(results, table, progress) as outcomes:
        numbers = facts(content, outcomes)
    page = html(content, numbers)
    found = pictures.pictures(results, _on_page(numbers), LARGEST - len(page), out)
    if found != pictures.Pictures():
        page = html(content, numbers, found)
    path = (out or results) / PATH
    write_bytes(path, page)
    return path


def facts(content: Content, outcomes: Outcomes | None = None) -> dict[str, Any]:
    """Return the numbers of the page, as its scripts read them; JSON-able.

    Args:
        outcomes: Outcomes by image, or what the leaderboard knows of them.
    """
    names = _names(content)
    place, made = {name: i for i, name in enumerate(names)}, runs.numbered(content.made)
    columns = board.columns(content.leaderboard, place, made)
    found = curves.curves(content.table, place, outcomes, made)
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
        f"{safe(of['dataset'])}-{safe(of['suite'])}.png"
        for of in (*numbers["curves"], *numbers["training"])
        if maps.isdisjoint(metric["metric"] for metric in of["metrics"])
    }


def _names(content: Content) -> list[str]:
    """All models: the baseline, those built in, in their order, then the others by name."""
    found = set(content.table["model"]) | set(content.leaderboard["model"])
    order = {name: i for i, name in enumerate((REFERENCE, *CATALOG))}
    return sorted(found, key=lambda name: (order.get(name, math.inf), name))
