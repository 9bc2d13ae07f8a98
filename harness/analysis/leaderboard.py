"""The leaderboard: means, intervals and ranks, a row for each model in each column of numbers.

    dataset, suite, metric, variant, group, model, value, low, high, seeds, images,
    rank_low, rank_high, mde, basis, runs, check

`low` to `high` is a 95 % interval, over seeds and images as `basis` says (see `analysis.sample`);
`rank_low` to `rank_high` the ranks that cannot be told apart, all pairs of a (dataset, suite,
metric, variant, group) being one family at 5 % after Holm; `mde` the smallest difference from the
best other model of the column that would be found with power 80 %. Empty is what is not known: a
metric without a better side has no ranks, a mean without an interval no `mde`.

`runs` are the keys of the runs that the mean is of, a seed each; a row whose runs are others is not
used for them. `check`, in the file alone, is a hash of the row and of the names of its neighbors:
a row that was changed, lost, added or moved is found, also in a copy.

Rows are sorted by name and numbers have six decimals, so that git shows what moved.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.analysis import Sample, pairwise, rank_intervals
from harness.analysis.collect import Key, Outcomes, collect_samples
from harness.suites.metric import is_bound
from harness.suites.metrics import METRICS

COLUMNS = (
    "dataset",
    "suite",
    "metric",
    "variant",
    "group",
    "model",
    "value",
    "low",
    "high",
    "seeds",
    "images",
    "rank_low",
    "rank_high",
    "mde",
    "basis",
    "runs",
)
CHECK = "check"  # the last column of the file
KEY = COLUMNS[:6]
NUMBERS = ("value", "low", "high", "mde")
COUNTS = ("seeds", "images", "rank_low", "rank_high")


def leaderboard(table: pd.DataFrame, outcomes: Outcomes | None = None) -> pd.DataFrame:
    """Return the leaderboard of a long table.

    Args:
        outcomes: Where per-image outcomes come from; without it intervals are wider, and models are
            compared as if they had seen different images.
    """
    # Bounds and percentiles stand beside the number that they are of; they are no means.
    means = table[~table["variant"].map(is_bound)]
    return of_samples(collect_samples(means, outcomes))


def of_samples(found: dict[Key, Sample]) -> pd.DataFrame:
    """Return the leaderboard of samples, which are in its order."""
    columns: dict[tuple, list[Key]] = {}
    for key in found:
        columns.setdefault(key.column, []).append(key)
    rows = []
    for keys in columns.values():
        here = [found[key] for key in keys]
        metric = METRICS[keys[0].metric]
        low, high, mde = _rank(here, 0 if metric.biased else metric.sign)
        for i, (key, sample) in enumerate(zip(keys, here, strict=True)):
            rows.append(
                (
                    *(*key.column, key.model, sample.value, sample.low, sample.high),
                    *(sample.seeds, sample.n, low[i], high[i], mde[i], sample.basis),
                    " ".join(sample.runs),
                )
            )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(COUNTS, "Int64"))


def _rank(here: list[Sample], side: int) -> tuple[list[int | None], list[int | None], np.ndarray]:
    """Ranks of the models of one column, None where there are none, and what could be detected."""
    nothing: list[int | None] = [None] * len(here)
    mde = np.full(len(here), np.nan)
    known = [i for i, s in enumerate(here) if np.isfinite(s.value)]
    if side == 0 or not known:
        return nothing, nothing[:], mde
    pairs = pairwise([here[i] for i in known])
    ranks = rank_intervals(side * pairs.value, pairs.p)
    low, high = nothing[:], nothing[:]
    # The best first; of equals the first by name.
    best = np.argsort([-side * here[i].value for i in known], kind="stable")
    for place, i in enumerate(known):
        low[i], high[i] = int(ranks[0][place]), int(ranks[1][place])
        other = next((int(j) for j in best if j != place), None)
        if other is not None:
            mde[i] = float(pairs.at(place, other).detectable)
    return low, high, mde


def as_csv(board: pd.DataFrame) -> bytes:
    """Return a leaderboard as the bytes of its file."""
    content = board[list(COLUMNS)].copy()
    for name in NUMBERS:
        content[name] = [f"{v:.6f}" if np.isfinite(v) else "" for v in board[name].astype(float)]
    texts = {name: ["" if pd.isna(v) else str(v) for v in content[name]] for name in COLUMNS}
    content[CHECK] = checks(texts)
    return content.to_csv(index=False, lineterminator="\n").encode()


def checks(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what `check` must be in each row.

    Args:
        columns: Texts of the file, by the names of `COLUMNS`.
    """
    rows = list(zip(*(columns[name] for name in COLUMNS), strict=True))
    names = [("start",), *(row[: len(KEY)] for row in rows), ("end",)]
    # A tab stands in no name, and parts one field from the next.
    said = ["\t".join((*names[i], *row, *names[i + 2])) for i, row in enumerate(rows)]
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in said]
