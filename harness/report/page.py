"""results/report/index.html: everything that is in a results folder, on one page.

The page needs no network: libraries, numbers and pictures are inside. Names and numbers reach it
as text, in HTML that escapes them and in packed JSON; scripts put them into the page as text again.
Its content security policy lets nothing run but its own scripts, and nothing load at all.

The page is a function of the folder: the same results give the same page.
"""

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import models as builders  # noqa: F401  fills the registry
from harness.models.base import MODELS, card_of
from harness.plots.figures import BASELINE
from harness.report import answers, board, curves, glossary, libraries, pictures, runs
from harness.storage.checkpoints import safe
from harness.storage.files import write_bytes
from harness.storage.results import chosen

PATH = Path("report") / "index.html"
TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("page.js", "board.js", "curves.js")
LARGEST = 5_000_000  # bytes of the page


@dataclass(frozen=True)
class Content:
    """What the page is made of.

    Args:
        table: Long table.
        leaderboard: With the columns of `harness.analysis.leaderboard`; None where it has not been written.
        made: What `runs.runs` returns for the table.
        studies: What `answers.read` returns.
    """

    table: pd.DataFrame
    leaderboard: pd.DataFrame | None
    made: Mapping[str, Any]
    studies: Sequence[Mapping[str, Any]] = ()


def write(results: Path) -> Path:
    """Write the page of a results folder.

    Returns:
        Its path.

    Raises:
        LookupError: There are no results.
        ValueError: A file is damaged.
        ImportError: A library that the page is made with is not installed.
    """
    table, leaderboard = chosen(results, [], [], []), board.read(results)
    made = runs.runs(results, table)
    content = Content(table, leaderboard, made, answers.read(results))
    numbers = facts(content)
    page = html(content, numbers)
    # The page draws the curves itself.
    pairs = table[["dataset", "suite"]].drop_duplicates().itertuples(index=False)
    drawn = {f"{safe(dataset)}-{suite}.png" for dataset, suite in pairs}
    found, left_out = pictures.pictures(results, drawn, LARGEST - len(page))
    if found or left_out:
        page = html(content, numbers, found, left_out)
    write_bytes(results / PATH, page)
    return results / PATH


def facts(content: Content) -> dict[str, Any]:
    """Return the numbers of the page, as its scripts read them; JSON-able."""
    names = _names(content)
    place = {name: i for i, name in enumerate(names)}
    boards = [] if content.leaderboard is None else board.columns(content.leaderboard, place)
    return {
        "models": [{"name": name, "baseline": name == BASELINE} for name in names],
        "boards": boards,
        "opening": board.opening(boards) if boards else None,
        "curves": curves.curves(content.table, place),
        "runs": [run | {"model": place[run["model"]]} for run in content.made["runs"]],
        "shared": content.made["shared"],
    }


def _names(content: Content) -> list[str]:
    """All models: the baseline, those built in, in their order, then the others by name."""
    found = set(content.table["model"])
    if content.leaderboard is not None:
        found |= set(content.leaderboard["model"])
    order = {name: i for i, name in enumerate((BASELINE, *MODELS))}
    return sorted(found, key=lambda name: (order.get(name, math.inf), name))


def pack(numbers: Mapping[str, Any]) -> str:
    """Return `numbers` as JSON, gzip, base64: a quarter of the size, and no character of HTML."""
    content = json.dumps(numbers, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def unpack(text: str) -> dict[str, Any]:
    """Return what was packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def html(
    content: Content,
    numbers: Mapping[str, Any],
    shown: Sequence[pictures.Picture] = (),
    left_out: Sequence[str] = (),
) -> bytes:
    """Return the page.

    Args:
        numbers: What `facts` returns for the content.
        shown: Pictures to embed; `left_out` the names of those that do not fit.
    """
    own = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = [(*_libraries()[0], ""), (*_libraries()[1], "module")]
    scripts.append((libraries.inline(own), libraries.source_hash(libraries.inline(own)), "module"))
    table = content.table
    metrics = dict.fromkeys(table["metric"])
    if content.leaderboard is not None:
        metrics |= dict.fromkeys(content.leaderboard["metric"])
    known = [glossary.metric(name) for name in metrics]
    names = [model["name"] for model in numbers["models"]]
    rows = runs.rows(content.made)
    text = (
        _environment()
        .get_template("page.html")
        .render(
            numbers=numbers,
            packed=pack(numbers),
            opening=None if numbers["opening"] is None else numbers["boards"][numbers["opening"]],
            studies=content.studies,
            pictures=shown,
            left_out=left_out,
            models=names,
            cards=[(name, card_of(MODELS[name])) for name in names if name in MODELS],
            metrics=[about for about in known if about.meaning],
            other=[about.name for about in known if not about.meaning and about.better == 0],
            rows=rows,
            datasets=list(table["dataset"].unique()),
            suites=list(table["suite"].unique()),
            seeds=sorted(int(s) for s in table["seed"].unique()),
            images=int(table["n"].max()),
            measured=len(table),
            finished=max((row["finished"] for row in rows), default="")[:10],
            dirty=sum(row["dirty"] for row in rows),
            subset=sum(row["subset"] for row in rows),
            single=_single(table),
            css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            scripts=[(Markup(script), kind) for script, _, kind in scripts],
            sources=Markup(" ".join(name for _, name, _ in scripts)),
        )
    )
    return text.encode("utf-8", errors="replace")


@lru_cache(maxsize=1)
def _libraries() -> list[tuple[str, str]]:
    """The libraries and their names in the policy; bundling them takes seconds."""
    return [(s, libraries.source_hash(s)) for s in (libraries.charts(), libraries.tables())]


def _single(table: pd.DataFrame) -> int:
    """How many (dataset, suite, model) have one training seed."""
    seeds = table.groupby(["dataset", "suite", "model"])["seed"].nunique()
    return int((seeds == 1).sum())


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = glossary.shown
    environment.filters["breakable"] = lambda text: re.split(r"(?<=[_/.:-])", text)
    return environment
