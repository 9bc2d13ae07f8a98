"""What there is: models, suites, data sets, corruptions, metrics."""

import math

from harness.models.catalog import CATALOG, Entry
from harness.present.sheet import MODEL, Column, Row, Sheet, number
from harness.refusal import unknown
from harness.suites.catalog import CORRUPTIONS, DATASETS, FAMILIES, SUITES
from harness.suites.metrics import METRICS

SIZES = "Weights and multiply-adds: width 64, 10 classes, one image of 32 pixels."
OTHERS = "Also timm/NAME for any model of timm, and path/to/file.py:NAME for your own."
MORE = "`--long` adds equations, sizes, papers and null models; `harness cite NAME` the BibTeX."
FOLDERS = "Also imagefolder:PATH or NAME=PATH for your own images, one folder a class."


def models_sheet(long: bool = False, family: str | None = None) -> Sheet:
    """Return the models that are built in: a row for each family, or for each model.

    Raises:
        Refusal: There is no such family.
    """
    families = {entry.family: list[str]() for entry in CATALOG.values()}
    if family is not None and family not in families:
        raise unknown("family of models", family, families)
    entries = {n: e for n, e in CATALOG.items() if family in (None, e.family)}
    for name, entry in entries.items():
        families[entry.family].append(name)
    records = [_record(name, entry) for name, entry in entries.items()]
    if not long:
        columns = [Column("family", "family", prose=True), Column("models", "models", prose=True)]
        # Nulls last: they stand beside another model.
        named = sorted((f for f in families if families[f]), key=lambda f: f == "null")
        rows = [{"family": f, "models": ", ".join(families[f])} for f in named]
        return Sheet(columns, rows, (MORE, OTHERS), "models", records=records)
    columns = [
        MODEL,
        Column("family", "family", drop=4),
        Column("equation", "equation", drop=3, prose=True),
        number("parameters", "weights", lambda value, row: f"{value / 1e6:.2f} M", drop=1),
        number("macs", "MACs", lambda value, row: f"{value / 1e6:.0f} M", drop=2),
        Column("paper", "paper", drop=5),
        Column("nulls", "null models", lambda value, row: ", ".join(value), drop=6, prose=True),
    ]
    matched = "; ".join(f"{n} in {', '.join(e.matched)}" for n, e in entries.items() if e.matched)
    notes = [f"Null models equal their idea, as tests measure: {matched}."] if matched else []
    return Sheet(columns, records, (SIZES, *notes, OTHERS), "models")


def _record(name: str, entry: Entry) -> Row:
    return {
        "model": name,
        "family": entry.family,
        "summary": entry.summary,
        "equation": entry.equation,
        "parameters": entry.parameters,
        "macs": entry.macs,
        "paper": entry.papers[0].short if entry.papers else "",
        "nulls": list(entry.nulls),
        "matched": list(entry.matched),
        "capabilities": list(entry.capabilities),
        "transductive": entry.transductive,
        "reported": [one.record() for one in entry.reported],
    }


def names_sheet(kind: str) -> Sheet:
    """Return the "suites", "datasets", "corruptions" or "metrics" by name, and what they are."""
    summary = Column("summary", "", prose=True)
    if kind == "metrics":
        columns = [
            Column("name", "metric"),
            Column("title", "title", drop=5),
            Column("unit", "unit", drop=4),
            Column("better", "better", drop=3),
            Column("meaning", "meaning", prose=True),
        ]
        rows: list[Row] = [_metric(name) for name in METRICS]
        return Sheet(columns, rows, (), kind)
    registry = {"suites": SUITES, "datasets": DATASETS, "corruptions": CORRUPTIONS}[kind]
    rows = [{"name": name, "summary": registry.summary(name)} for name in registry]
    if kind != "corruptions":
        notes = (FOLDERS,) if kind == "datasets" else ()
        return Sheet([Column("name", kind), summary], rows, notes, kind)
    family = {name: family for family, names in FAMILIES.items() for name in names}
    rows = [row | {"family": family.get(row["name"], "")} for row in rows]
    return Sheet(
        [Column("name", kind), Column("family", "family", drop=3), summary], rows, (), kind
    )


def _metric(name: str) -> Row:
    found = METRICS[name].describe()
    bounds = {end: found.get(end, math.nan) for end in ("low", "high")}
    return {"unit": "", "meaning": "", "reference": ""} | found | bounds
