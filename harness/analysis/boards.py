"""The leaderboard's file, results/leaderboard.csv: written from what is stored, and read again."""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from harness.analysis.collect import Key
from harness.analysis.leaderboard import (
    CHECK,
    COLUMNS,
    COUNTS,
    KEY,
    as_csv,
    checks,
    leaderboard,
)
from harness.analysis.outcomes import StoredOutcomes
from harness.analysis.sample import Sample, from_row
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.files import write_bytes
from harness.storage.results import cells_root, select
from harness.storage.rows import read_rows

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
    table = select(results, [], [], [], whole=True)
    with open_outcomes(results, table, progress, alone=True) as outcomes:
        board = leaderboard(table, outcomes)
    content, path = as_csv(board), results / FILE
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
    return board


def outcomes_of(
    results: Path, advance: Callable[[int], None] = lambda n: None, *, alone: bool = False
) -> StoredOutcomes:
    """Return the outcomes of a results folder.

    A mean whose outcomes are not stored has the interval that the folder's leaderboard, made where
    they were, has of it.

    Args:
        advance: Called with 1 after each cell.
        alone: Leave the leaderboard out.
    """

    def known() -> dict[Key, Sample]:
        path = results / FILE
        return {} if alone or not path.is_file() else _of_images(path, path.stat().st_mtime_ns)

    return StoredOutcomes(results, advance, known)


@contextlib.contextmanager
def open_outcomes(
    results: Path, table: pd.DataFrame, progress: Progress, *, alone: bool = False
) -> Iterator[StoredOutcomes]:
    """Give `outcomes_of` a table's runs, and show how far their reading is if it takes long."""
    key = ["dataset", "suite", "model", "seed", "condition", "level"]
    count = len(table[key].drop_duplicates())
    if count < MANY or not cells_root(results).is_dir():
        yield outcomes_of(results, alone=alone)
        return
    with progress.task(f"read {results}", count) as task:
        yield outcomes_of(results, task.advance, alone=alone)


@functools.lru_cache(maxsize=4)
def _of_images(path: Path, written: int) -> dict[Key, Sample]:
    """The means of a leaderboard that its images are behind; none where it is damaged."""
    try:
        return {k: s for k, s in samples_of(read(path)).items() if s.basis == "images"}
    except Refusal as refusal:
        LOG.warning("%s Its intervals are not used.", refusal)
        return {}


def samples_of(board: pd.DataFrame) -> dict[Key, Sample]:
    """Return a leaderboard's means, of which no outcomes are known."""
    keys = board[list(KEY)].itertuples(index=False, name=None)
    numbers = board[["value", "low", "high", "seeds", "images", "basis", "runs"]]
    rows = numbers.itertuples(index=False, name=None)
    return {Key(*key): from_row(*row) for key, row in zip(keys, rows, strict=True)}


def sentence(board: pd.DataFrame) -> str:
    """Say what the intervals of a leaderboard stand on."""
    stored = int((board["basis"] == "images").sum())
    if stored == len(board):
        return f"{len(board)} rows, models compared image by image."
    return (
        f"{len(board)} rows, {stored} of them with per-image answers. The intervals of the others "
        "are wider, and nothing is paired: their cells are not here, or they are no means over "
        "images."
    )


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
    return frame.astype(dict.fromkeys(COUNTS, "Int64"))
