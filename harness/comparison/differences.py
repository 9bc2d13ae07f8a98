"""Two models, or one model of two result folders: what differs, by how much, and how sure that is.

Frame out, samples in. A difference is of the first minus the second. Its p value is adjusted by
Holm within its family: all groups of one comparison are a family, all single cells another.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness.analysis import Sample, difference, holm
from harness.analysis.collect import Key
from harness.analysis.families import LEVEL
from harness.analysis.groups import headline, is_cell, spoken
from harness.analysis.scores import better, in_points

COLUMNS = (
    "dataset",
    "suite",
    "metric",
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
DEFAULT = "accuracy"


def metrics_of(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """Return what is compared if nothing is asked for: accuracy, else all with a better side."""
    both = [m for m in dict.fromkeys(a) if m in set(b)]
    return [DEFAULT] if DEFAULT in both else [m for m in both if better(m)]


def comparison(
    a: Mapping[Key, Sample],
    b: Mapping[Key, Sample],
    names: tuple[str, str],
    *,
    labels: tuple[str, str] | None = None,
    same_seeds: bool = False,
) -> pd.DataFrame:
    """Return a row for each (dataset, suite, metric, group) that both models have.

    Args:
        names: Of the models, as their samples' keys have them.
        labels: What to call them.
        same_seeds: They are the same model, trained with the same seeds.

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
    heads: dict[tuple, list[str]] = {}
    for key in shared:
        heads.setdefault((key.dataset, key.suite, key.metric), []).append(key.group)
    for key in shared:
        own, other = mine[key], of_b[key]
        family = "cells" if is_cell(key.group) else "groups"
        if family == "groups" and key.group not in headline(heads[key.column[:3]]):
            continue
        d = difference(own, other, same_seeds=same_seeds)
        # A suite asks about clean images as well; the answer is the same, and stands once.
        once = (key.dataset, key.metric, key.group, own.value, other.value, float(d.p))
        if once in seen and key.group == "clean":
            continue
        seen.add(once)
        rows.append(
            (*key.column, family, *labels, own.value, other.value, own.value - other.value)
            + (float(d.low), float(d.high), float(d.p), math.nan, float(d.detectable), "")
            + (bool(d.paired), bool(d.identical), float(d.b), float(d.c))
            + (own.seeds, other.seeds, own.n, other.n)
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, part in frame.groupby("family"):
        frame.loc[part.index, "p_holm"] = holm(part["p"])
    side = frame["metric"].map(better) * frame["difference"]
    significant = (frame["p_holm"] <= LEVEL) & frame["p"].notna()
    frame.loc[significant & (side > 0), "better"] = labels[0]
    frame.loc[significant & (side < 0), "better"] = labels[1]
    return frame


def as_csv(frame: pd.DataFrame) -> bytes:
    """Return a comparison as the bytes of a CSV."""
    content = frame.copy()
    for name in frame.select_dtypes("float"):
        digits = "{:.6g}" if name.startswith(("p", "only")) else "{:.6f}"
        content[name] = ["" if math.isnan(v) else digits.format(v) for v in frame[name]]
    return content.to_csv(index=False, lineterminator="\n").encode()


def as_json(frame: pd.DataFrame, told: Sequence[str]) -> bytes:
    """Return a comparison, and what is said of it, as the bytes of a JSON file."""
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    return (json.dumps({"said": list(told), "rows": rows}, indent=2) + "\n").encode()


def amount(metric: str, value: float) -> str:
    """Return a difference as a person reads it: of rates in points, without its sign."""
    if not in_points(metric):
        return f"{abs(value):.3g}"
    return f"{100 * abs(value):.1f}" if abs(value) >= 0.0095 else f"{100 * abs(value):.2f}"


def bounds(metric: str, low: float, high: float) -> str:
    """Return an interval of a difference, in brackets."""
    if not in_points(metric):
        return f"[{low:.3g}, {high:.3g}]"
    digits = 1 if max(abs(low), abs(high)) >= 0.0095 else 2
    return f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def chance(p: float) -> str:
    """Return a p value as a person reads it."""
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def sentences(frame: pd.DataFrame) -> list[str]:
    """Say what a comparison found, a sentence for each data set, suite and metric."""
    said = []
    for (dataset, suite, metric, family), part in frame.groupby(
        ["dataset", "suite", "metric", "family"], sort=False
    ):
        if family == "groups":
            said.append(f"{dataset}, {suite}: {'; '.join(_clauses(part, str(metric)))}.")
            continue
        a, b = part["a"].iloc[0], part["b"].iloc[0]
        ahead, behind = int((part["better"] == a).sum()), int((part["better"] == b).sum())
        said.append(
            f"{dataset}, {suite}: of {len(part)} single conditions, {a} has the better {metric} in "
            f"{ahead}, {b} in {behind}, after Holm's correction."
        )
    return said


def _clauses(part: pd.DataFrame, metric: str) -> list[str]:
    """What one metric shows: the differences, then what was not found, by its size."""
    of = "" if metric == DEFAULT else f" in {metric}"
    unit = " points" if in_points(metric) else ""
    found: dict[str, list[str]] = {}
    others, none, same = [], [], []
    for _, row in part.iterrows():
        where, d, low, high = spoken(row["group"]), row["difference"], row["low"], row["high"]
        by = f"{amount(metric, d)}{unit}"
        if not math.isfinite(d):
            others.append(f"{metric} {where} was not measured")
        elif row["identical"]:
            same.append(where)
        elif math.isnan(low):
            others.append(f"nothing can be said of {metric} {where} without its images")
        elif row["better"]:
            low, high = (low, high) if d > 0 else (-high, -low)
            first, second = row["a"], row["b"]
            if row["better"] == second:
                first, second = second, first
            than = f"{'more accurate' if metric == DEFAULT else f'better{of}'} than {second}"
            where_by = f"{where} by {by} {bounds(metric, low, high)}"
            found.setdefault(f"{first} is {than}", []).append(where_by)
        elif low > 0 or high < 0:
            apart = f"{'-' if d < 0 else ''}{by} {bounds(metric, low, high)}"
            others.append(
                f"the difference{of} {where}, {apart}, is not significant beside the others"
            )
        else:
            none.append(f"{amount(metric, max(abs(low), abs(high)))}{unit} {where}")
    clauses = [f"{who} {', '.join(wheres)}" for who, wheres in found.items()] + others
    if none:
        clauses.append(f"no difference{of} larger than {', '.join(none)}")
    if same:
        clauses.append(f"equal outcomes{of} {', '.join(same)}")
    return clauses


def caveats(frame: pd.DataFrame) -> list[str]:
    """Say what the intervals of a comparison cover, and what it could not have found."""
    groups = frame[(frame["family"] == "groups") & ~frame["identical"]]
    if groups.empty:
        return []
    a, b = groups["a"].iloc[0], groups["b"].iloc[0]
    said = []
    seeds_a, seeds_b = int(groups["seeds_a"].min()), int(groups["seeds_b"].min())
    if seeds_a == 1 and seeds_b == 1:
        said.append(
            "Intervals are over images alone: with one training seed each they speak of these "
            "weights, not of the methods."
        )
    elif 1 in (seeds_a, seeds_b):
        said.append(
            f"{a if seeds_a == 1 else b} has one training seed and stands for its weights; "
            f"intervals are over images and the {max(seeds_a, seeds_b)} seeds of "
            f"{b if seeds_a == 1 else a}."
        )
    else:
        said.append(f"Intervals are over images and training seeds, {seeds_a} against {seeds_b}.")
    unpaired = groups[~groups["paired"]]
    if len(unpaired):
        which = "Nothing" if len(unpaired) == len(groups) else f"{len(unpaired)} rows are not"
        verb = " is paired" if which == "Nothing" else " paired"
        said.append(
            f"{which}{verb}: without per-image answers of both on the same images, intervals are "
            "as wide as for different images."
        )
    known = groups[groups["mde"].notna()]
    for metric, part in known.groupby("metric", sort=False):
        least, most = part["mde"].min(), part["mde"].max()
        unit = " points" if in_points(str(metric)) else ""
        said.append(
            f"A difference in {metric} of {amount(str(metric), least)} to "
            f"{amount(str(metric), most)}{unit}, by condition, would have been found in 4 of 5 "
            "such comparisons, taken alone."
        )
    return said
