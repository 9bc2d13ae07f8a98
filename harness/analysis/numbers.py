"""Numbers as figures, tables and reports show them: each mean with its one 95 % interval.

A number is a row. Its group is a single cell, "fog 3", or "clean"; a mean of several conditions at
one level, "noise 3"; or one over all levels, "fog" or "noise". The last has no level. Intervals are
over seeds and images: those of the leaderboard.
"""

import math
from collections.abc import Mapping

import pandas as pd

from harness.analysis.collect import Grouping, Groups, Key, Outcomes, collect_samples
from harness.analysis.groups import Where, groups_of
from harness.analysis.pairs import difference
from harness.analysis.sample import Sample
from harness.suites.catalog import COMMON, FAMILIES

CLEAN, MEAN = "clean", "mean"
KEY = ("dataset", "suite", "model", "metric", "variant", "group")
COLUMNS = (*KEY, "condition", "level", "value", "low", "high", "seeds", "n", "basis", "runs")
Samples = Mapping[Key, Sample]


def shared_corruptions(table: pd.DataFrame) -> list[str]:
    """Return the common corruptions that all models of a table have, in its order.

    They enter the mean over corruptions; those of validation and of users never do.
    """
    of_model = [set(own) for _, own in table.groupby("model")["condition"]]
    here = dict.fromkeys(c for c in table["condition"] if c in COMMON)
    return [c for c in here if all(c in own for own in of_model)]


def means_of(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the means of a suite's table: families, and `MEAN` of all shared corruptions."""
    families = {name: FAMILIES[name] for name in FAMILIES if name != "validation"}
    shared = tuple(shared_corruptions(table))
    return families | ({MEAN: shared} if shared else {})


def with_means(means: Mapping[str, tuple[str, ...]]) -> Grouping:
    """Return a grouping of single cells, single corruptions, and `means` of several of these.

    Means are at every level and over all levels; one whose conditions are not all there, at the
    same levels, is left out.
    """

    def grouping(cells: frozenset[Where]) -> Groups:
        order = sorted(cells)
        found: dict[str, tuple[Where, ...]] = {
            CLEAN if c == CLEAN else f"{c} {lv:g}": ((c, lv),) for c, lv in order
        }
        for where in groups_of(cells).values():
            if len({c for c, _ in where}) == 1 < len(where):
                found[where[0][0]] = where
        for name, conditions in means.items():
            levels = {tuple(lv for c, lv in order if c == own) for own in conditions}
            if len(levels) == 1 and (here := levels.pop()):
                found |= {f"{name} {lv:g}": tuple((c, lv) for c in conditions) for lv in here}
                found[name] = tuple((c, lv) for c in conditions for lv in here)
        return found

    return grouping


def cell_samples(
    table: pd.DataFrame,
    outcomes: Outcomes | None = None,
    metric: str | None = "accuracy",
    variant: str | None = "",
    grouping: Grouping | None = None,
) -> dict[Key, Sample]:
    """Return the samples that `intervals_of` and `differences_of` show.

    Args:
        table: Long table.
        outcomes: Where per-image outcomes come from.
        metric: None for all; `variant` likewise.
        grouping: None for single cells and the means of each suite.
    """
    if metric is not None:
        table = table[table["metric"] == metric]
    if variant is not None:
        table = table[table["variant"] == variant]
    found: dict[Key, Sample] = {}
    for _, part in table.groupby(["dataset", "suite"], sort=False):
        own = grouping or with_means(means_of(part))
        found |= collect_samples(part, outcomes, grouping=own)
    return found


def intervals_of(samples: Samples) -> pd.DataFrame:
    """Return samples as rows of `COLUMNS`."""
    rows = [
        (*_names(key), s.value, float(s.low), float(s.high), s.seeds, s.n, s.basis, s.runs)
        for key, s in samples.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def differences_of(samples: Samples, baseline: str) -> pd.DataFrame:
    """Return each model's mean less that of the baseline, as rows of `COLUMNS`, `p`, `paired`.

    What the baseline has not is left out. `p` is two-sided and not adjusted for other rows;
    `paired` says that the two were compared image by image.
    """
    of_baseline = {key.column: s for key, s in samples.items() if key.model == baseline}
    rows = []
    for key, sample in samples.items():
        base = of_baseline.get(key.column)
        if base is None or key.model == baseline:
            continue
        d = difference(sample, base)
        numbers = sample.value - base.value, float(d.low), float(d.high)
        counts = min(sample.seeds, base.seeds), min(sample.n, base.n), sample.basis, sample.runs
        rows.append((*_names(key), *numbers, *counts, float(d.p), bool(d.paired)))
    return pd.DataFrame(rows, columns=[*COLUMNS, "p", "paired"])


def cell_intervals(
    table: pd.DataFrame,
    outcomes: Outcomes | None = None,
    metric: str | None = "accuracy",
    variant: str | None = "",
    grouping: Grouping | None = None,
) -> pd.DataFrame:
    """Return the mean and interval of every cell and group; see `cell_samples`."""
    return intervals_of(cell_samples(table, outcomes, metric, variant, grouping))


def cell_differences(
    table: pd.DataFrame,
    outcomes: Outcomes | None,
    baseline: str,
    metric: str | None = "accuracy",
    variant: str | None = "",
    grouping: Grouping | None = None,
) -> pd.DataFrame:
    """Return models less the baseline in every cell and group; see `differences_of`."""
    return differences_of(cell_samples(table, outcomes, metric, variant, grouping), baseline)


def _names(key: Key) -> tuple[str, str, str, str, str, str, str, float]:
    """What names a number, and its condition and level."""
    condition, _, level = key.group.rpartition(" ")
    try:
        where = condition or key.group, float(level)
    except ValueError:
        where = key.group, 0.0 if key.group == CLEAN else math.nan
    return (key.dataset, key.suite, key.model, key.metric, key.variant, key.group, *where)
