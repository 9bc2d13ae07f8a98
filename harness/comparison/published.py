"""Our networks against published ones, cell by cell of CIFAR-10-C's corruptions.

The published tables have no answers to single images, so that nothing is paired: the interval of a
mean difference takes both networks' images for different ones, which is wide. Corruptions made here
are drawn anew, and the published files once; how often cells rank alike needs neither.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from harness.analysis import difference
from harness.analysis.agreement import Agreement, rank_agreement
from harness.analysis.collect import collect_samples
from harness.analysis.groups import CORRUPTED, with_corrupted
from harness.comparison.sides import Side, open_side, samples_of
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import COLUMNS, csv_path
from harness.storage.sources import describe_source
from harness.suites.catalog import COMMON
from harness.suites.published_cells import IMAGES, NETWORKS, Network

SUITES = ("robustness", "cifar10_c")
DATASET = re.compile(r"cifar10(\[image seed \d+\])?$")
WORST = 5  # cells that are named


@dataclass(frozen=True)
class Match:
    """One network of ours beside a published one.

    Args:
        cells: A row for each cell that both have: condition, level, `ours`, `published`,
            `difference`, the largest difference first.
        value: Mean difference over these cells; `low` to `high` its 95 % interval.
        clean: Accuracy on clean images, None where it is not known; `published_clean` likewise.
        seed_names: Of our trainings; `images` the test images of each.
    """

    model: str
    dataset: str
    suite: str
    network: Network
    cells: pd.DataFrame
    value: float
    low: float
    high: float
    agreement: Agreement
    clean: float | None
    published_clean: float | None
    seed_names: tuple[int, ...]
    images: int

    @property
    def seeds(self) -> int:
        """How many trainings ours is of."""
        return len(self.seed_names)


def match_published(
    path: Path, models: Sequence[str], datasets: Sequence[str], progress: Progress
) -> list[Match]:
    """Return each model of a results folder or CSV beside each published network.

    Args:
        models: Which; empty for all that were measured on CIFAR-10 under corruptions.

    Raises:
        Refusal: There are none.
    """
    side = open_side(path).only(model=models, dataset=datasets)
    if side.table is None:
        raise Refusal(f"{path} is a leaderboard, which has no cells. Give the results beside it.")
    table = side.table
    kept = table["suite"].isin(SUITES) & table["dataset"].map(lambda d: bool(DATASET.match(d)))
    kept &= table["metric"].eq("accuracy") & table["variant"].eq("")
    kept &= table["condition"].isin([*COMMON, "clean"])
    found = []
    for key, rows in table[kept].groupby(["dataset", "suite", "model"], sort=False):
        if set(rows["condition"]) - {"clean"}:
            own = replace(side, table=rows)
            found += [_match(own, (*map(str, key),), network, progress) for network in NETWORKS]
    if not found:
        raise Refusal(
            f"{path} has no accuracies under corruptions of CIFAR-10. Run `harness run --suite "
            "robustness --corruption common --dataset cifar10 --model resnet18`."
        )
    return found


def _match(own: Side, key: tuple[str, ...], network: Network, progress: Progress) -> Match:
    dataset, suite, model = key
    assert own.table is not None
    ours = own.table.groupby(["condition", "level"], sort=False)["value"].mean()
    cells = [(str(c), int(lv)) for c, lv in ours.index if c != "clean"]
    theirs = _table_of(network, key, cells)
    sample = samples_of(own, progress, with_corrupted)
    other = collect_samples(theirs, grouping=with_corrupted)
    a, b = (next(s for k, s in of.items() if k.group == CORRUPTED) for of in (sample, other))
    d = difference(a, b)
    frame = pd.DataFrame(cells, columns=["condition", "level"]).assign(
        ours=[float(ours[cell]) for cell in cells],
        published=[network.cells[kind][level - 1] for kind, level in cells],
    )
    frame["difference"] = frame["ours"] - frame["published"]
    agreement = rank_agreement(
        frame["ours"].to_numpy(), frame["published"].to_numpy(), list(frame["condition"])
    )
    order = frame["difference"].abs().sort_values(ascending=False, kind="stable").index
    clean = ours.get(("clean", 0.0))
    return Match(
        model,
        dataset,
        suite,
        network,
        frame.loc[order].reset_index(drop=True),
        float(d.value),
        float(d.low),
        float(d.high),
        agreement,
        None if clean is None else float(clean),
        network.clean,
        tuple(sorted(own.table["seed"].unique())),
        a.n,
    )


def _table_of(
    network: Network, key: tuple[str, ...], cells: Sequence[tuple[str, int]]
) -> pd.DataFrame:
    """The published cells as a long table, of the same data set and suite."""
    dataset, suite, _ = key
    names = (network.name, suite, dataset, 0)
    rows = [
        (*names, kind, float(level), "accuracy", "", network.cells[kind][level - 1], IMAGES, "pub")
        for kind, level in cells
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sentences(found: Sequence[Match]) -> list[str]:
    """Say where ours and theirs differ most, and what the comparison stands on."""
    said = []
    for one in found:
        worst = [
            f"{row['condition']} {row['level']:g} ({100 * row['difference']:+.1f})"
            for row in one.cells.head(WORST).to_dict("records")
        ]
        said.append(
            f"{one.model} against {one.network.name} ({one.network.source}): the cells that differ "
            f"most, in points: {', '.join(worst)}."
        )
    own = {(one.model, one.seeds, one.images) for one in found}
    few = [f"{m}: {n:,} of {IMAGES:,} images" for m, _, n in sorted(own) if n < IMAGES]
    if few:
        said.append(f"Ours are of a subset ({'; '.join(few)}), whose errors are large in a cell.")
    if any(one.suite == "robustness" for one in found):
        said.append(
            "Corruptions of the suite `robustness` are made here by the published recipes, with "
            "draws of their own; the suite `cifar10_c` reads the published files."
        )
    return said


def as_frame(found: Sequence[Match]) -> pd.DataFrame:
    """Return all cells as one frame, for a CSV."""
    parts = [
        one.cells.assign(
            dataset=one.dataset, suite=one.suite, model=one.model, network=one.network.name,
            seeds=one.seeds, images=one.images,
        )
        for one in found
    ]  # fmt: skip
    first = ["dataset", "suite", "model", "network", "condition", "level"]
    both = pd.concat(parts, ignore_index=True)
    return both[[*first, *(c for c in both.columns if c not in first)]]


def sources(figure: Path, path: Path, found: Sequence[Match]) -> str:
    """Return what a figure of these says of its source: the CSVs of a folder, or the one CSV."""
    if not path.is_dir():
        return describe_source(figure.name, path.parent, [path])
    runs = {(one.dataset, one.suite, one.model, seed) for one in found for seed in one.seed_names}
    return describe_source(figure.name, path, [csv_path(path, *run) for run in runs])
