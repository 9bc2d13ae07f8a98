"""The program under fire: faults of files, kills, races and hostile files; see tests/fire.

A sample of each kind is tried here, all in one process, since it takes long to begin. `pytest -m
fire tests/test_fire.py`, or better `python -m tests.fire`, which prints what it finds, tries all,
for hours.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("faults", "kills", "races", "fuzz")
# The trials preload a library that is compiled when they start.
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which(os.environ.get("CC", "cc")),
    reason="there is no Linux, or no C compiler",
)


def fire(*words: str) -> str:
    """What the trials of a kind print; they must find nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fire", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_sample_finds_nothing() -> None:
    *rows, total = (line.split() for line in fire("--sample").splitlines() if line)
    assert total[0] == "all" and int(total[1]) > 0 and set(total[2:]) == {"0"}
    tried = {row[0] for row in rows if row[-6:] == ["0"] * 6 and int(row[-7]) > 0}
    assert tried == set(KINDS)


@pytest.mark.fire
@pytest.mark.parametrize("kind", KINDS)
def test_everything_finds_nothing(kind: str) -> None:
    fire(kind)
