"""Networks of ours beside published ones, a row for each pair, and a row for each corruption."""

from collections.abc import Sequence

from harness.comparison.published import Match
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    Column,
    Row,
    Sheet,
    fixed,
    number,
)

SIGNED = fixed(1, 100, "+")


def published_sheets(found: Sequence[Match]) -> list[Sheet]:
    """Return the pairs; and of one model its corruptions, each a mean over severities."""
    rows = [_row(one) for one in found]
    columns = [
        DATASET,
        MODEL,
        Column("network", "published network"),
        number("cells", "cells"),
        number("clean", "clean %", PERCENT, drop=5),
        number("published_clean", "published clean %", PERCENT, drop=6),
        number("corrupted", "corrupted %", PERCENT),
        number("published", "published corrupted %", PERCENT),
        number("difference", "difference", SIGNED, interval=2),
        number("rho", "rank correlation", fixed(2), interval=1),
        *COUNTS,
    ]
    sheets = [Sheet(columns, rows, (), "published")]
    if len({(one.dataset, one.suite, one.model) for one in found}) == 1:
        sheets.append(_by_kind(found))
    return sheets


def _row(one: Match) -> Row:
    return {
        "dataset": one.dataset,
        "suite": one.suite,
        "model": one.model,
        "network": one.network.name,
        "source": one.network.source,
        "cells": len(one.cells),
        "clean": one.clean,
        "published_clean": one.published_clean,
        "corrupted": float(one.cells["ours"].mean()),
        "published": float(one.cells["published"].mean()),
        "difference": one.value,
        "difference_low": one.low,
        "difference_high": one.high,
        "rho": one.agreement.rho,
        "rho_low": one.agreement.low,
        "rho_high": one.agreement.high,
        "seeds": one.seeds,
        "n": one.images,
        "worst": one.cells.to_dict("records"),
    }


def _by_kind(found: Sequence[Match]) -> Sheet:
    """A row for each corruption, in the order of the published tables."""
    kinds = [kind for kind in found[0].network.cells if kind in set(found[0].cells["condition"])]
    means = {one.network.name: one.cells.groupby("condition")["difference"].mean() for one in found}
    ours = found[0].cells.groupby("condition")["ours"].mean()
    rows: list[Row] = [
        {"condition": kind, "ours": float(ours[kind])}
        | {f"{n} less": float(of[kind]) for n, of in means.items()}
        for kind in kinds
    ]
    columns = [
        Column("condition", f"{found[0].model}, mean over severities"),
        number("ours", "accuracy %", PERCENT),
        *(number(f"{name} less", f"less {name}", SIGNED) for name in means),
    ]
    return Sheet(columns, rows, (), "published by corruption")
