"""The leaderboard's file, results/leaderboard.csv: written from what is stored, and read again."""

import contextlib
import functools
import itertools
import logging
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis.belief import BELIEVED
from harness.analysis.collect import Key, collect_samples, known_alone, span
from harness.analysis.leaderboard import (
    CHECK,
    COLUMNS,
    COUNTS,
    KEY,
    as_csv,
    checks,
    leaderboard,
    of_samples,
)
from harness.analysis.outcomes import StoredOutcomes
from harness.analysis.pairs import ROUNDED
from harness.analysis.sample import Sample, from_row
from harness.analysis.verdicts import verdicts
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.files import refuse_published, write_bytes
from harness.storage.results import cells_root, read_provenances, select
from harness.storage.rows import read_rows
from harness.suites.metric import is_bound
from harness.suites.metrics import METRICS

FILE = "leaderboard.csv"
MADE = "Make it again with `harness table --write`."
NAMES = (*KEY, "basis")
LOG = logging.getLogger(__name__)
MANY = 500  # cells take longer than two seconds to read


def write(results: Path, progress: Progress) -> pd.DataFrame:
    """Write the leaderboard of all whole runs; leave a file that already says so untouched.

    Raises:
        Refusal: There are no results.
        Refusal: A file is damaged.
    """
    refuse_published(results / FILE)
    table = select(results, [], [], [], whole=True)
    with open_outcomes(results, table, progress, alone=True) as outcomes:
        board = leaderboard(table, outcomes)
    content, path = as_csv(board), results / FILE
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
    return board


def current(table: pd.DataFrame, results: Path, progress: Progress) -> pd.DataFrame:
    """Return the leaderboard of a table as it is now: of its rows and of the answers behind them.

    Where not all answers are stored, a column of the folder's leaderboard has its intervals and
    ranks instead, if that is of the very same runs.
    """
    parts = []
    # One suite at a time, which needs less memory.
    for _, part in table[~table["variant"].map(is_bound)].groupby(["dataset", "suite"]):
        with open_outcomes(results, part, progress) as outcomes:
            found = collect_samples(part, outcomes)
        parts.append(of_samples(found))
        blind = {key.column for key, own in found.items() if not known_alone(key.name, own)}
        parts[-1] = _sharpen(parts[-1], blind, _stored(results))
    return pd.concat(parts, ignore_index=True) if parts else of_samples({})


def _sharpen(
    board: pd.DataFrame, blind: Collection[tuple], stored: pd.DataFrame | None
) -> pd.DataFrame:
    """A leaderboard with what a stored one knows of the columns `blind`, where it is of its runs.

    What it knows are intervals and ranks; numbers are those of the table.
    """
    if stored is None or board.empty:
        return board
    both = board.merge(stored, "left", list(KEY), suffixes=("", " stored"))
    columns = pd.MultiIndex.from_frame(board[list(KEY[:5])])
    same = (both["runs"] == both["runs stored"]) & (both["images"] == both["images stored"])
    same &= (both["value"] - both["value stored"]).abs() <= ROUNDED
    # Ranks are among all models of a column.
    counts = stored.groupby(list(KEY[:5])).size().reindex(columns).to_numpy()
    agreeing = same.groupby(columns).transform("sum").to_numpy()
    here = same.groupby(columns).transform("size").to_numpy()
    taken = columns.isin(list(blind)) & (agreeing == here) & (here == counts)
    for name in ("low", "high", "rank_low", "rank_high", "mde", "basis"):
        board[name] = board[name].where(~taken, both[f"{name} stored"])
    return board.astype(dict.fromkeys(COUNTS, "Int64"))


def outcomes_of(
    results: Path,
    advance: Callable[[int], None] = lambda n: None,
    *,
    alone: bool = False,
    remember: bool = False,
) -> StoredOutcomes:
    """Return the outcomes of a results folder.

    A mean whose outcomes are not stored has the interval that the folder's leaderboard, made where
    they were, has of it.

    Args:
        advance: Called with 1 after each cell.
        alone: Leave the leaderboard out.
        remember: Keep what whole runs give, so that their cells need not be opened again.
    """

    def known() -> dict[Key, Sample]:
        board = None if alone else _stored(results)
        return {} if board is None else samples_of(board[board["basis"] == "images"])

    return StoredOutcomes(results, advance, known, remember=remember)


@contextlib.contextmanager
def open_outcomes(
    results: Path, table: pd.DataFrame, progress: Progress, *, alone: bool = False
) -> Iterator[StoredOutcomes]:
    """Give `outcomes_of` a table's runs, and show how far their reading is if it takes long.

    What many cells give is remembered among them.
    """
    key = ["dataset", "suite", "model", "seed", "condition", "level"]
    count = len(table[key].drop_duplicates())
    if count < MANY or not cells_root(results).is_dir():
        yield outcomes_of(results, alone=alone)
        return
    with progress.task(f"read {results}", count) as task:
        yield outcomes_of(results, task.advance, alone=alone, remember=True)


def _stored(results: Path) -> pd.DataFrame | None:
    """The leaderboard of a folder; None where there is none, or a damaged one."""
    path = results / FILE
    return _read_once(path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, written: int) -> pd.DataFrame | None:
    try:
        return read(path)
    except Refusal as refusal:
        LOG.warning("%s Its intervals are not used.", refusal)
        return None


def samples_of(board: pd.DataFrame) -> dict[Key, Sample]:
    """Return a leaderboard's means, of which no outcomes are known."""
    keys = board[list(KEY)].itertuples(index=False, name=None)
    numbers = board[["value", "low", "high", "seeds", "images", "basis", "runs"]]
    rows = numbers.itertuples(index=False, name=None)
    return {
        key: replace(from_row(*row), span=span(key.name, METRICS[key.metric].is_rate))
        for key, row in zip(itertools.starmap(Key, keys), rows, strict=True)
    }


def unbelieved(board: pd.DataFrame) -> list[str]:
    """Say which robust accuracies of a leaderboard are upper bounds, and why; one line each."""
    return [
        f"{model} on {dataset}: its robust accuracy is an {text}."
        for (dataset, _, model), text in verdicts(board).items()
        if text != BELIEVED
    ]


def sentence(board: pd.DataFrame) -> str:
    """Say what the intervals of a leaderboard stand on."""
    stored = int((board["basis"] == "images").sum())
    if stored == len(board) - int(board["metric"].map(_biased).sum()):
        return f"{len(board)} rows, models compared image by image."
    return (
        f"{len(board)} rows, {stored} of them with per-image answers. The others have wider "
        "intervals or none, and nothing is paired: their cells are not here, or they are no means "
        "over images."
    )


def _biased(metric: str) -> bool:
    return METRICS[metric].biased


def read_current(path: Path) -> pd.DataFrame:
    """Return a leaderboard from its file, which must be of the runs beside it, where there are any.

    Raises:
        Refusal: As `read`; or a run beside it is not in it, or is not there any more.
    """
    board, there = read(path), dict[tuple, set[str]]()
    for (dataset, suite, model, _), beside in read_provenances(path.parent, whole=True).items():
        there.setdefault((dataset, suite, model), set()).add(beside["run"])
    known = {
        name: set(" ".join(of["runs"]).split())
        for name, of in board.groupby(["dataset", "suite", "model"])
    }
    other = [n for n in sorted(there.keys() | known.keys()) if there.get(n) != known.get(n)]
    if there and other:
        dataset, suite, model = other[0]
        raise Refusal(
            f"{path} is older than the results beside it: the runs of {model} on {dataset}, "
            f"{suite}, are others. {MADE}"
        )
    return board


def read(path: Path) -> pd.DataFrame:
    """Return a leaderboard from its file.

    Raises:
        Refusal: There is no such file.
        Refusal: It is no leaderboard, is not what was written, or is damaged; says where.
    """
    rows = read_rows(path, MADE, ended=True)
    rows.need(COLUMNS[: COLUMNS.index("runs")])
    if not rows.columns.keys() >= {"runs", CHECK}:
        raise Refusal(f"{path} does not say what runs it is of: an older version wrote it. {MADE}")
    if not rows.lines:
        raise Refusal(f"{path} is damaged: it has no rows. {MADE}")
    for i, check in enumerate(checks(rows.columns)):
        if rows.columns[CHECK][i] != check:
            fact = "it is not what was written, or its neighbors are not; `check` says so"
            raise rows.error(i, fact)
    for i, runs in enumerate(rows.columns["runs"]):
        if not re.fullmatch(r"[\w-]+( [\w-]+)*", runs, re.ASCII):
            raise rows.error(i, "`runs` are no keys of runs")
    kinds = dict.fromkeys(NAMES, rows.names) | {"runs": rows.columns.__getitem__}
    frame = pd.DataFrame({name: kinds.get(name, rows.numbers)(name) for name in COLUMNS})
    rows.distinct(*(rows.columns[name] for name in KEY), of=", ".join(KEY))
    for low, high in (("low", "high"), ("rank_low", "rank_high")):
        wrong = (frame[low] > frame[high]).to_numpy()
        if wrong.any():
            raise rows.error(int(wrong.argmax()), f"`{low}` exceeds `{high}`")
    # An older version gave intervals, which did not cover, to metrics that have none.
    unsure = ["low", "high", "rank_low", "rank_high", "mde"]
    frame.loc[frame["metric"].map(_biased), unsure] = np.nan
    return frame.astype(dict.fromkeys(COUNTS, "Int64"))
