"""Four commands at once in one folder: all succeed, and leave what they leave one after another."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.fire.faults import operations
from tests.fire.judge import find_difference, leftovers, snapshot
from tests.fire.trial import Fault, finish, run, start
from tests.fire.world import BOTH, COMMANDS, SUITES, Command, copy_world

ONE = f"run {SUITES} --epochs 1 --model mine.py:first"
RACES = {
    "run x 4": [COMMANDS["run"].line] * 4,
    "train x 4": [COMMANDS["train"].line] * 4,
    "study x 4": [COMMANDS["study"].line] * 4,
    "overlapping": [
        ONE, f"{ONE} --seed 0 --seed 1", f"train {BOTH} --epochs 1 --seed 1 --seed 0",
        COMMANDS["study"].line,
    ],
    "tables and pages x 4": ["table --write", "report", "plot", COMMANDS["compare"].line],
    "table --write x 4": ["table --write"] * 4,
    "plot x 4": ["plot"] * 4,
    "report x 4": ["report"] * 4,
    "publish x 4": ["publish published"] * 4,
    "reading while written": [
        COMMANDS["run more"].line, "table --json", "table --write", "report",
    ],
}  # fmt: skip
FROM_NOTHING = ("run x 4", "train x 4", "study x 4", "overlapping")
ONCE = ("rename results/cells/", "rename results/checkpoints/")  # work that takes its time


def list_trials(count: int, only: str) -> Iterator[str]:
    """Each race several times: "run x 4:3"."""
    for i in range(count):
        yield from (f"{name}:{i}" for name in RACES if only in name)


def attempt(root: Path, trial: str, place: Path) -> list[str]:
    """Let them race; return what went wrong."""
    name = trial.split(":")[0]
    lines, world = RACES[name], Command("", "raw" if name in FROM_NOTHING else "done")
    here = copy_world(root, world, place / "here")
    for line in dict.fromkeys(lines):
        said = run(["--quiet", *line.split()], here)
        assert said.code == 0, f"{line}: {said}"
    _settle(here)
    expected = snapshot(here)
    here = copy_world(root, world, place / "here")
    for log in place.glob("*.log"):
        log.unlink()
    started = [
        start(["--quiet", *line.split()], here, f"racer{i}", Fault())
        for i, line in enumerate(lines)
    ]
    found, done = [], Counter[str]()
    for i, process in enumerate(started):
        said = finish(process, here, f"racer{i}", 120)
        done.update(set(operations(here, f"racer{i}")))
        if said.hung:
            found.append(f"hung: {lines[i]}")
        elif "Traceback" in said.err:
            found.append(f"traceback: {lines[i]}: {said.err[-300:]}")
        elif said.code:
            found.append(f"lost: {lines[i]} has exit code {said.code}: {said.err[-300:]}")
    found += [
        f"twice: {what}, {n} times" for what, n in done.items() if n > 1 and what.startswith(ONCE)
    ]
    _settle(here)
    found += [f"lost: {path} is left behind" for path in leftovers(here)]
    return found + find_difference(here, expected)


def _settle(here: Path) -> None:
    """Make again what is of all runs, which is of fewer where others were still going on.

    The page is left out: it tells when each run was made.
    """
    for line in ("table --write", "plot"):
        run(line.split(), here)
    shutil.rmtree(here / "results/report", ignore_errors=True)
