"""One side of a comparison: a results folder, a leaderboard, or any CSV of numbers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from harness.analysis import Sample, boards
from harness.analysis.collect import Grouping, Key, collect_samples
from harness.analysis.comparability import Made, Run
from harness.analysis.groups import groups_of
from harness.analysis.leaderboard import COLUMNS as OF_BOARD
from harness.comparison.foreign import is_known, translate
from harness.comparison.names import Name, select_names
from harness.comparison.spreadsheets import read_spreadsheet
from harness.models.registry import spell
from harness.progress import Progress
from harness.refusal import Refusal, unknown
from harness.storage import results
from harness.storage.rows import Rows, long_rows


@dataclass(frozen=True)
class Side:
    """Results that can be compared.

    Args:
        path: Path as the user wrote it, for messages.
        table: Long table; None for a leaderboard, which has `board`.
        folder: Results folder with the cells of `table`, if any.
        notes: Assumptions that were made about it.
    """

    path: Path
    table: pd.DataFrame | None = None
    board: pd.DataFrame | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> pd.DataFrame:
        """The rows of either kind."""
        rows = self.table if self.table is not None else self.board
        assert rows is not None
        return rows

    @property
    def models(self) -> list[str]:
        return sorted(self.rows["model"].unique())

    @property
    def names(self) -> list[Name]:
        """The metrics and their variants."""
        pairs = self.rows[["metric", "variant"]].drop_duplicates()
        return list(pairs.itertuples(index=False, name=None))

    def only(self, **names: Sequence[str]) -> "Side":
        """Return what has these names, such as `suite=["clean"]`; an empty list keeps all.

        Raises:
            Refusal: A name is not there, or nothing has all of them.
        """
        names = {column: [spell(name) for name in wanted] for column, wanted in names.items()}
        for column, wanted in names.items():
            there = set(self.rows[column].unique()) if wanted else set()
            for name in wanted:
                if name not in there:
                    raise unknown(f"{column} in {self.path}", name, there)
        found = self.among({column: wanted for column, wanted in names.items() if wanted})
        if found.rows.empty and not self.rows.empty:
            asked = ", ".join(", ".join(wanted) for wanted in names.values() if wanted)
            raise Refusal(f"{self.path} has no results of {asked} together. Leave one out.")
        return found

    def of_metrics(self, wanted: Sequence[str]) -> "Side":
        """Return what has these names of metrics, written as `comparison.names` says.

        Raises:
            Refusal: A name is not there.
        """
        return self.of_names(select_names(self.names, wanted, str(self.path)))

    def of_names(self, wanted: Sequence[Name]) -> "Side":
        """Return the rows of these metrics and variants, be they there or not."""
        index = pd.MultiIndex.from_frame(self.rows[["metric", "variant"]])
        return self._with(self.rows[index.isin(wanted)])

    def among(self, names: Mapping[str, Collection[str]]) -> "Side":
        """Return the rows whose names are all among these, be they there or not."""
        rows = self.rows
        for column, wanted in names.items():
            rows = rows[rows[column].isin(wanted)]
        return self._with(rows)

    def _with(self, rows: pd.DataFrame) -> "Side":
        return replace(self, table=rows) if self.board is None else replace(self, board=rows)


def open_side(
    path: Path,
    columns: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    other: Side | None = None,
    *,
    whole: bool = False,
) -> Side:
    """Return what lies at `path`.

    Args:
        columns: Their column to ours, for a foreign CSV.
        given: What such a file does not say.
        other: The other side, which may say it.
        whole: Leave out runs on a subset of the images.

    Raises:
        Refusal: There is nothing, a folder holds no whole runs, or a file is damaged or cannot be
            understood.
    """
    if path.is_dir():
        return Side(path, table=results.select(path, [], [], [], whole=whole), folder=path)
    if not path.exists():
        raise Refusal(
            f"There is nothing at {path}. Give a results folder that is there, or a CSV file."
        )
    rows = read_spreadsheet(path, lambda name: is_known(name) or name in (columns or {}))
    if rows.columns.keys() >= set(OF_BOARD) - {"variant", "runs"} and not columns:
        return Side(path, board=boards.read_current(path))
    if rows.columns.keys() >= set(results.COLUMNS) - {"variant"} and not columns:
        table = pd.DataFrame(long_rows(rows, results.COLUMNS))
        return Side(path, table=table, notes=_vouch(rows))
    known = {}
    if other is not None:
        for name in ("dataset", "suite"):
            if other.rows[name].nunique() == 1:
                known[name] = str(other.rows[name].iloc[0])
    table, notes = translate(rows, columns or {}, given or {}, known)
    return Side(path, table=table, notes=tuple(notes))


def _vouch(rows: Rows) -> tuple[str, ...]:
    """Refuse a run's CSV that is not the one that its JSON vouches for; say if there is none."""
    beside = rows.path.with_suffix(".json")
    if not beside.is_file():
        return (f"Nothing vouches for {rows.path}: no JSON of a run lies beside it.",)
    if results.read_provenance(beside)["csv"] != rows.sha256:
        raise Refusal(
            f"{rows.path} is not the table that its JSON vouches for: it was edited. "
            f"{results.AGAIN}"
        )
    return ()


def samples_of(side: Side, progress: Progress, grouping: Grouping = groups_of) -> dict[Key, Sample]:
    """Return a sample for each mean of a side, with its outcomes by seed where they are stored."""
    if side.board is not None:
        return boards.samples_of(side.board)
    assert side.table is not None
    if side.folder is None:
        return collect_samples(side.table, grouping=grouping)
    with boards.open_outcomes(side.folder, side.table, progress) as outcomes:
        return collect_samples(side.table, outcomes, grouping=grouping, keep=True)


def of_shared_seeds(a: Side, b: Side) -> tuple[Side, Side, list[str]]:
    """Return both sides with the seeds that a model has in both, and sentences about the others.

    Runs that share no seed stay whole: their seeds are different draws of one method.
    """
    if a.table is None or b.table is None:
        return a, b, []
    mine, theirs = _runs(a.table), _runs(b.table)
    meeting = {run[:3] for run in mine & theirs}
    alone = [run for run in sorted(mine ^ theirs) if run[:3] in meeting]
    lines = [
        f"{model} on {dataset}, {suite}: seed {seed} is in {(a if run in mine else b).path} alone, "
        "and left out."
        for run in alone
        for dataset, suite, model, seed in (run,)
    ]
    kept = [table[~_index(table).isin(alone)] for table in (a.table, b.table)]
    return replace(a, table=kept[0]), replace(b, table=kept[1]), lines


def _index(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["dataset", "suite", "model", "seed"]])


def _runs(table: pd.DataFrame) -> set[tuple]:
    return set(_index(table).unique())


def made_by(side: Side) -> dict[Run, dict]:
    """Return what made the runs of a side; empty where that is not known."""
    if side.folder is None or side.table is None:
        return {}
    own = set(side.table[list(results.KEY)].drop_duplicates().itertuples(index=False, name=None))
    found = results.read_provenances(side.folder).items()
    return {(*key,): beside for key, beside in found if key in own}


def provenance_of(made: Made) -> dict[tuple[str, str, str], frozenset[tuple]]:
    """Return the images' hash, the suite's version and the image seed of runs, where known.

    By (dataset, suite, model).
    """
    found: dict[tuple[str, str, str], set[tuple]] = {}
    for (dataset, suite, model, _), beside in made.items():
        seen = tuple(str(beside.get(k)) for k in ("data", "version", "image_seed"))
        found.setdefault((dataset, suite, model), set()).add(seen)
    return {key: frozenset(seen) for key, seen in found.items()}
