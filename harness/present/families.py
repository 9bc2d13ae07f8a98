"""Accuracy of all models by family, each beside what its paper reports."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis.groups import describe_group, with_corrupted
from harness.analysis.leaderboard import of_samples
from harness.models.catalog import CATALOG
from harness.models.reported import CORRUPTED as PUBLISHED_CELLS
from harness.present.accuracy import largest_group, summary_sheet
from harness.present.request import Request, by_run
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    STAR,
    Column,
    Row,
    Sheet,
    number,
    ranks,
)

OTHER, NULL = "other", "null"
FAMILIES = sorted(dict.fromkeys(e.family for e in CATALOG.values()), key=lambda f: f == NULL)


def family_of(model: str) -> str:
    """Return the family of a model, whatever its arguments; `OTHER` of a user's."""
    entry = CATALOG.get(_plain(model))
    return entry.family if entry else OTHER


def _plain(model: str) -> str:
    """A model's name without arguments and marks: "ode_block" of "ode_block(T=2)[bfloat16]"."""
    return re.split(r"[(\[]", model, maxsplit=1)[0]


def family_sheet(request: Request, made: Mapping[tuple, Mapping[str, Any]]) -> list[Sheet]:
    """Return a row for each model, by family as in `harness list models`; nothing without accuracy.

    Args:
        made: Provenance of each run, by (dataset, suite, model, seed).
    """
    frame = request.frame[request.frame["variant"].eq("") & request.frame["metric"].eq("accuracy")]
    if not set(frame["condition"]) & {"clean"}:
        return []
    found = request.samples(frame, with_corrupted)
    alone = {k: s for k, s in found.items() if k.group == "clean"}
    board = of_samples(largest_group(found) or alone)
    summary = summary_sheet(request, by_run(found), board)
    scales = _scales(made)
    rows = [_row(row, scales) for row in summary.rows]
    place = {name: i for i, name in enumerate([*FAMILIES, OTHER])}
    rows.sort(key=lambda row: (row["dataset"], place[row["family"]]))
    columns = [
        DATASET,
        Column("family", "family", drop=3),
        MODEL,
        number("clean", "clean %", PERCENT, interval=4),
        number("corrupted", "corrupted %", PERCENT, interval=2, over="over"),
        number("rank_low", "rank", ranks),
        Column("scale", "trained at", drop=5),
        Column("published", "published %", lambda value, row: say(value, row["dataset"])),
        *COUNTS,
    ]
    stars = [note for note in summary.notes if note.startswith(STAR)]
    notes = [*_ranked(board), *stars, *_sources(rows)]
    return [Sheet(columns, rows, notes, "families")]


def _ranked(board: pd.DataFrame) -> Iterator[str]:
    """What models are ranked by on each data set."""
    for dataset, part in board.groupby("dataset", sort=False):
        where = describe_group(str(part["group"].iloc[0]))
        yield (
            f"Ranks on {dataset}: accuracy {where}; models that cannot be told apart share them."
        )


def _row(row: Row, scales: Mapping[tuple[str, str, str], str]) -> Row:
    entry = CATALOG.get(_plain(row["model"]))
    reported = entry.reported if entry and entry.name == row["model"].partition("[")[0] else ()
    names = row["dataset"], row["suite"], row["model"]
    return row | {
        "family": family_of(row["model"]),
        "scale": scales.get(names, ""),
        "published": [one.record() for one in reported],
    }


def say(reported: Sequence[Row], dataset: str) -> str:
    """Return published accuracies in words: of the data set at hand, else of others, named so."""
    here = [r for r in reported if r["dataset"] == dataset]
    return ", ".join(_number(r, dataset) for r in here or reported)


def _number(reported: Row, dataset: str) -> str:
    what = "corrupted" if reported["group"] == PUBLISHED_CELLS else ""
    what = f"top-{reported['top']}" if reported["top"] > 1 else what
    where = "" if reported["dataset"] == dataset else f"on {reported['dataset']}"
    return " ".join(filter(None, (f"{100 * reported['accuracy']:.1f}", what, where)))


def _scales(made: Mapping[tuple, Mapping[str, Any]]) -> dict[tuple[str, str, str], str]:
    """How the networks of each (dataset, suite, model) were trained, "width 16, 26 epochs"."""
    found: dict[tuple[str, str, str], str] = {}
    for (dataset, suite, model, _), run in made.items():
        width = (run.get("arguments") or {}).get("width")
        recipe = (run.get("training") or {}).get("recipe") or {}
        epochs = recipe.get("epochs")
        untrained = epochs and not recipe.get("peak_lr", 1)
        words = [f"width {width}"] if width else []
        words += [f"{epochs} epoch{'s' * (epochs > 1)}"] if epochs and not untrained else []
        words += ["untrained"] if untrained else []
        found[dataset, suite, model] = ", ".join(words)
    return found


def _sources(rows: Sequence[Row]) -> Iterator[str]:
    """Where the published numbers come from, and of which networks they are."""
    of: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        for r in row["published"]:
            key = r["source"], r["link"], r["scale"]
            of.setdefault(key, {})[row["model"]] = None
    if of:
        yield (
            "Published numbers are of other trainings, and where it says so of other data: they "
            "stand beside ours, and nothing is concluded."
        )
    for (source, link, scale), models in of.items():
        yield f"{source} ({link}), {', '.join(models)}: {scale}."
