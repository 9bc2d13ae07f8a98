"""The page as text: templates, styles and scripts, filled with what it shows."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.encoding import inert, inert_values
from harness.models.catalog import CATALOG
from harness.report import answers, libraries, runs
from harness.report.content import Content
from harness.report.numbers import format_number, unit_of
from harness.report.pictures import Pictures
from harness.study.stored import say_stale
from harness.suites.metrics import METRICS

TEMPLATES = Path(__file__).parent / "templates"
NO_PICTURES = Pictures()
SCRIPTS = ("page.js", "board.js", "curves.js")


def pack(numbers: Mapping[str, Any]) -> str:
    """Return `numbers` as JSON, gzip, base64: a quarter of the size, and no character of HTML."""
    content = json.dumps(numbers, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def unpack(text: str) -> dict[str, Any]:
    """Return what was packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def html(content: Content, numbers: Mapping[str, Any], pictures: Pictures = NO_PICTURES) -> bytes:
    """Return the page.

    Args:
        numbers: What `page.facts` returns for the content.
    """
    numbers = inert_values(numbers)
    own = libraries.inline("\n".join((TEMPLATES / s).read_text(encoding="utf-8") for s in SCRIPTS))
    scripts = [*_libraries(), (own, libraries.source_hash(own), "module")]
    table, rows = content.table, runs.rows(content.made)
    names = [model["name"] for model in numbers["models"]]
    opening = numbers["opening"]
    text = (
        _environment()
        .get_template("page.html")
        .render(
            numbers=numbers,
            packed=pack(numbers),
            opening=None if opening is None else numbers["boards"][opening],
            studies=[
                (s, answers.questions(s, content.made["runs"], stale), say_stale(s, stale))
                for s, stale in content.studies
            ],
            notes=content.notes,
            published=content.published,
            pictures=pictures.shown,
            left_out=pictures.too_large,
            stale_pictures=pictures.stale,
            models=names,
            entries=[(name, CATALOG[name]) for name in names if name in CATALOG],
            metrics=[m for name in _metrics(content, numbers) if (m := METRICS[name]).meaning],
            variants=set(table["variant"]),
            rows=rows,
            datasets=list(table["dataset"].unique()),
            suites=list(table["suite"].unique()),
            seeds=table["seed"].nunique(),
            images=int(table["n"].max()),
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
def _libraries() -> list[tuple[str, str, str]]:
    """The libraries with their names in the policy and kinds; bundling them takes a second."""
    charts, tables = libraries.charts(), libraries.tables()
    return [
        (charts, libraries.source_hash(charts), ""),
        (tables, libraries.source_hash(tables), "module"),
    ]


def _metrics(content: Content, numbers: Mapping[str, Any]) -> dict[str, None]:
    """Names of the metrics that the page shows, each once, in its order."""

    def shown() -> Iterator[str]:
        for study, _ in content.studies:
            yield from (e.metric for answer in study.questions for e in answer.effects)
        yield from (column["metric"] for column in numbers["boards"])
        yield from (metric["metric"] for c in numbers["curves"] for metric in c["metrics"])

    return dict.fromkeys(shown())


def _single(table: pd.DataFrame) -> int:
    """How many (dataset, suite, model) have one training seed."""
    seeds = table.groupby(["dataset", "suite", "model"])["seed"].nunique()
    return int((seeds == 1).sum())


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: inert(value) if type(value) is str else value,  # no Markup of ours
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["unit"] = unit_of
    environment.filters["breakable"] = lambda text: re.split(r"(?<=[_/.:-])", text)
    return environment
