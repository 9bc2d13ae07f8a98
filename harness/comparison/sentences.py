"""Sentences about a comparison: its result, and what its intervals cover."""

import math

import pandas as pd

from harness.analysis.families import LEVEL
from harness.analysis.groups import describe_group
from harness.comparison.differences import ACCURACY
from harness.comparison.names import write_name
from harness.comparison.wording import amount, bounds, unit


def sentences(frame: pd.DataFrame) -> list[str]:
    """Say what a comparison found, a sentence for each data set, suite and metric."""
    said = []
    key = ["dataset", "suite", "metric", "variant", "family"]
    for names, part in frame.groupby(key, sort=False):
        dataset, suite, metric, variant, family = map(str, names)
        if family == "groups":
            clauses = _clauses(part, metric, variant)
            said.append(f"{dataset}, {suite}: {'; '.join(clauses)}.")
            continue
        a, b = part["a"].iloc[0], part["b"].iloc[0]
        ahead, behind = int((part["better"] == a).sum()), int((part["better"] == b).sum())
        said.append(
            f"{dataset}, {suite}: of {len(part)} single conditions, {a} has the better "
            f"{write_name(metric, variant)} in {ahead}, {b} in {behind}, after Holm's correction."
        )
    return said


def _clauses(part: pd.DataFrame, metric: str, variant: str) -> list[str]:
    """What one metric shows: the differences, then what was not found, by its size."""
    name, plain = write_name(metric, variant), (metric, variant) == ACCURACY
    of = "" if plain else f" in {name}"
    found: dict[str, list[str]] = {}
    others, none, same = [], [], []
    for _, row in part.iterrows():
        d, low, high = row["difference"], row["low"], row["high"]
        where, by = describe_group(row["group"]), f"{amount(metric, d)}{unit(metric)}"
        if not math.isfinite(d):
            others.append(f"{name} {where} was not measured")
        elif row["identical"]:
            same.append(where)
        elif math.isnan(low):
            others.append(f"{name} {where} has no interval without its per-image answers")
        elif row["better"]:
            low, high = (low, high) if d > 0 else (-high, -low)
            first, second = row["a"], row["b"]
            if row["better"] == second:
                first, second = second, first
            than = f"{'more accurate' if plain else f'better{of}'} than {second}"
            where_by = f"{where} by {by} {bounds(metric, low, high)}"
            found.setdefault(f"{first} is {than}", []).append(where_by)
        elif low > 0 or high < 0:
            apart = f"{'-' if d < 0 else ''}{by} {bounds(metric, low, high)}"
            doubt = "" if row["p_holm"] <= LEVEL else ", not significant after Holm's correction"
            others.append(f"the difference{of} {where} is {apart}{doubt}")
        else:
            none.append(f"{amount(metric, max(abs(low), abs(high)))}{unit(metric)} {where}")
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
    for names, part in known.groupby(["metric", "variant"], sort=False):
        metric, variant = map(str, names)
        least, most = (amount(metric, v) for v in (part["mde"].min(), part["mde"].max()))
        said.append(
            f"A difference in {write_name(metric, variant)} of {least} to {most}"
            f"{unit(metric)}, by condition, would have been found in 4 of 5 such comparisons, "
            "taken alone."
        )
    return said
