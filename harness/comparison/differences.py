"""Differences of two models, or of one model in two result folders, with intervals and tests.

Frame out, samples in. A difference is of the first minus the second. Its p value is adjusted by
Holm within its family: all groups of one comparison are a family, all single cells another.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from harness.analysis import Sample, difference, holm
from harness.analysis.collect import Key
from harness.analysis.families import LEVEL
from harness.analysis.groups import headline, single_cells
from harness.comparison.names import UNSAID, Better, Name, sign_of
from harness.suites.metric import is_bound

COLUMNS = (
    "dataset",
    "suite",
    "metric",
    "variant",
    "group",
    "family",
    "a",
    "b",
    "value_a",
    "value_b",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "mde",
    "better",
    "paired",
    "identical",
    "only_a",
    "only_b",
    "seeds_a",
    "seeds_b",
    "images_a",
    "images_b",
)
ACCURACY: Name = ("accuracy", "")


def default_names(a: Iterable[Name], b: Iterable[Name], better: Better = UNSAID) -> list[Name]:
    """Return what is compared if nothing is asked for: accuracy, else all with a better side."""
    both = [name for name in dict.fromkeys(a) if name in set(b) and not is_bound(name[1])]
    return [ACCURACY] if ACCURACY in both else [n for n in both if sign_of(n[0], better)]


def differences(
    a: Mapping[Key, Sample],
    b: Mapping[Key, Sample],
    names: tuple[str, str],
    *,
    labels: tuple[str, str] | None = None,
    same_seeds: bool = False,
    better: Better = UNSAID,
) -> pd.DataFrame:
    """Return a row for each (dataset, suite, metric, variant, group) that both models have.

    Args:
        names: Names of the models in the keys of their samples.
        labels: Names to print, the same by default.
        same_seeds: Whether they are the same model, trained with the same seeds.
        better: Which way is better, of metrics that do not say it themselves.

    Returns:
        `COLUMNS`; `family` is "groups" or "cells"; `better` is the label of the model that is
        significantly better after Holm, or empty; `mde` the difference that would be found at 5 %
        with power 80 %; `identical` says that all outcomes are known to be the same; `only_a` and
        `only_b` are the images on which only one of two networks is right.
    """
    labels = labels or names
    of_b = {replace(key, model=""): sample for key, sample in b.items() if key.model == names[1]}
    rows, seen = [], set()
    mine = {replace(key, model=""): sample for key, sample in a.items() if key.model == names[0]}
    shared = sorted((key for key in mine if key in of_b), key=lambda key: key.order)
    groups: dict[tuple, list[str]] = {}
    for key in shared:
        groups.setdefault(key.column[:4], []).append(key.group)
    heads = {column: headline(here) for column, here in groups.items()}
    cells = {column: single_cells(here) for column, here in groups.items()}
    for key in shared:
        own, other = mine[key], of_b[key]
        family = "cells" if key.group in cells[key.column[:4]] else "groups"
        if family == "groups" and key.group not in heads[key.column[:4]]:
            continue
        d = difference(own, other, same_seeds=same_seeds)
        # A suite asks about clean images as well; the answer is the same, and stands once.
        once = (key.dataset, key.name, key.group, own.value, other.value, float(d.p))
        if once in seen and key.group == "clean":
            continue
        seen.add(once)
        rows.append(
            (
                *(*key.column, family, *labels, own.value, other.value, own.value - other.value),
                *(float(d.low), float(d.high), float(d.p), math.nan, float(d.detectable), ""),
                *(bool(d.paired), bool(d.identical), float(d.b), float(d.c)),
                *(own.seeds, other.seeds, own.n, other.n),
            )
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, part in frame.groupby("family"):
        frame.loc[part.index, "p_holm"] = holm(part["p"])
    side = frame["metric"].map(lambda metric: sign_of(metric, better)) * frame["difference"]
    significant = (frame["p_holm"] <= LEVEL) & frame["p"].notna()
    frame.loc[significant & (side > 0), "better"] = labels[0]
    frame.loc[significant & (side < 0), "better"] = labels[1]
    return frame


def as_csv(frame: pd.DataFrame) -> bytes:
    """Return a comparison as the bytes of a CSV."""
    content = frame.copy()
    for name in map(str, frame.select_dtypes("float")):
        digits = "{:.6g}" if name.startswith(("p", "only")) else "{:.6f}"
        content[name] = ["" if math.isnan(v) else digits.format(v) for v in frame[name]]
    return content.to_csv(index=False, lineterminator="\n").encode()
