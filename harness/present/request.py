"""What the tables of a suite are made from."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.analysis.boards import open_outcomes
from harness.analysis.collect import Grouping, Groups, Key, Name, collect_samples
from harness.analysis.comparability import Model
from harness.analysis.groups import Where, groups_of
from harness.analysis.sample import Sample
from harness.present.sheet import Row
from harness.progress import Progress


@dataclass(frozen=True)
class Request:
    """The rows of one suite, and what a person wants of them.

    Args:
        results: Folder with the cells that intervals come from.
        frame: Long table, its models in the order of printing.
        progress: What to tell while cells are read.
        detail: Whether to show single corruptions of several models, too.
        reference: Model that mCE is relative to; None for the default, where all is there.
        behaviors: In what ways models are no functions of single images, where they are not.
    """

    results: Path
    frame: pd.DataFrame
    progress: Progress
    detail: bool = False
    reference: str | None = None
    behaviors: Mapping[Model, Sequence[str]] = field(default_factory=dict)

    def samples(
        self,
        part: pd.DataFrame,
        grouping: Grouping = groups_of,
        only: Callable[[Name, str], bool] = lambda metric, group: True,
    ) -> dict[Key, Sample]:
        """Return the means of a part of the rows, with the leaderboard's intervals.

        Args:
            only: Whether the mean of a metric in a group is wanted.
        """
        with open_outcomes(self.results, part, self.progress) as outcomes:
            return collect_samples(part, outcomes, grouping=grouping, keep=True, only=only)

    def runs(self) -> Iterator[tuple[Row, pd.DataFrame]]:
        """Give what names the rows of each data set and model, and these rows."""
        columns = ["dataset", "suite", "model"]
        for key, part in self.frame.groupby(columns, sort=False):
            dataset, suite, model = map(str, key)
            behavior = self.behaviors.get((dataset, suite, model))
            names = dict(zip(columns, key, strict=True))
            yield names | ({"behavior": list(behavior)} if behavior else {}), part


def each(cells: frozenset[Where]) -> Groups:
    """Return every cell as a group of its own, under `group_of_cell`."""
    return {group_of_cell(*cell): (cell,) for cell in cells}


def group_of_cell(condition: str, level: float) -> str:
    """Return the name of the group of one cell."""
    return f"{condition} {float(level)}"


Means = dict[tuple[str, str, str], Sample]  # by metric, variant and group


Shown = Mapping[str, tuple[str, str]]  # keys of a row to metric and variant


def by_run(found: Mapping[Key, Sample]) -> dict[tuple[str, str], Means]:
    """Return the samples of each (dataset, model)."""
    runs: dict[tuple[str, str], Means] = defaultdict(dict)
    for key, sample in found.items():
        runs[key.dataset, key.model][key.metric, key.variant, key.group] = sample
    return runs


def counts(*samples: Sample | None) -> Row:
    """Return the seeds and images behind the first of these that is there."""
    there = next((s for s in samples if s is not None), None)
    return {"seeds": there and there.seeds, "n": there and there.n}


def cell_row(means: Means, condition: str, level: float, shown: Shown) -> Row:
    """Return the row of one cell: its estimates under the keys of `shown`."""
    group = group_of_cell(condition, level)
    of = {key: means.get((*name, group)) for key, name in shown.items()}
    row: Row = {"condition": condition, "level": level} | counts(*of.values())
    for key, sample in of.items():
        row |= estimate(key, sample)
    return row


def estimate(key: str, sample: Sample | None) -> Row:
    """Return a sample's mean and interval as they stand in a row."""
    if sample is None:
        return {key: None, f"{key}_low": None, f"{key}_high": None}
    return {key: sample.value, f"{key}_low": sample.low, f"{key}_high": sample.high}
