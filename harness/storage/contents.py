"""The files of a results folder by kind, with their names in it: what can be handed on and merged.

Not among them is what is made of others (figures, reports), what a training that goes on keeps, and
what a process writes just now.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.refusal import Refusal
from harness.storage.cells import KEY
from harness.storage.files import list_folder
from harness.storage.packed_outcomes import SUFFIX
from harness.storage.results import CHECKPOINTS, QUICK, UNTRAINED, run_files

WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of a path, as `files.safe` makes them
INSIDE = rf"(?:{UNTRAINED}/)?(?:{QUICK}/)?"
SEED = r"seed\d+"
BOARD = "leaderboard.csv"
# Names of the files of a pack, and of nothing else.
PACKED = re.compile(
    rf"{INSIDE}{WORD}/{WORD}/{WORD}/{SEED}\.(?:csv|json|bits)"
    rf"|(?:{UNTRAINED}/)?{CHECKPOINTS}/{WORD}/{WORD}/{SEED}\.json"
    rf"|{INSIDE}{WORD}/study[A-Za-z0-9_.-]*\.json|{BOARD}",
    re.ASCII,
)
WEIGHTS = re.compile(rf"(?:old-)?{SEED}(?:-[0-9a-f]+)?\.safetensors", re.ASCII)
HISTORY = re.compile(rf"{SEED}\.json", re.ASCII)


@dataclass
class Contents:
    """Paths by their names in the folder, `digits/clean/resnet18/seed0.csv`.

    Args:
        runs: CSVs; what lies beside each is not listed.
        answers: Of studies, and their plans.
        boards: Leaderboards, which are made of runs and cells.
    """

    runs: dict[str, Path] = field(default_factory=dict)
    histories: dict[str, Path] = field(default_factory=dict)
    answers: dict[str, Path] = field(default_factory=dict)
    boards: dict[str, Path] = field(default_factory=dict)
    weights: dict[str, Path] = field(default_factory=dict)
    cells: dict[str, Path] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the folder holds nothing of a run or training."""
        return not (self.runs or self.histories or self.weights or self.cells)


def list_contents(results: Path) -> Contents:
    """Return what lies in a results folder.

    Raises:
        Refusal: There is no such folder, or a part of it cannot be read.
    """
    if not results.is_dir():
        raise Refusal(f"There is no results folder {results}. Check its name.")
    found = Contents()
    for inner in (Path(), Path(UNTRAINED)):
        _add_whole(found, results, results / inner)
        for quick in (Path(), Path(QUICK)):
            _add_tables(found, results, results / inner / quick)
    if (results / BOARD).is_file():
        found.boards[BOARD] = results / BOARD
    return found


def _add_whole(found: Contents, results: Path, folder: Path) -> None:
    """Cells, weights and histories."""
    for part in list_folder(folder / "cells"):
        for path in list_folder(part):
            if KEY.fullmatch(path.name):
                found.cells[_name(path, results)] = path
    models = [m for d in list_folder(folder / CHECKPOINTS) for m in list_folder(d)]
    for path in (path for model in models for path in list_folder(model)):
        if WEIGHTS.fullmatch(path.name):
            found.weights[_name(path, results)] = path
        elif HISTORY.fullmatch(path.name):
            found.histories[_name(path, results)] = path


def _add_tables(found: Contents, results: Path, folder: Path) -> None:
    """Runs and answers."""
    for path in run_files(folder):
        found.runs[_name(path, results)] = path
    for path in sorted(folder.glob("*/study*.json")):
        if PACKED.fullmatch(name := _name(path, results)):
            found.answers[name] = path


def _name(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


def files_of(run: Path) -> list[Path]:
    """Return the files of a run, its JSON last, which vouches for the others."""
    beside = [run, run.with_suffix(SUFFIX), run.with_suffix(".json")]
    return [path for path in beside if path.is_file()]
