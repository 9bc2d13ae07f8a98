"""The program under fire: faults of files, kills, races and hostile files; see tests/fire.

A sample of each kind is tried here. `pytest -m fire tests/test_fire.py`, or better
`python -m tests.fire`, which prints what it finds, tries all, for hours.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = {
    "faults": ("--only", "publish more", "--share", "80"),
    "kills": ("--only", "compare", "--kills", "4"),
    "races": ("--only", "table --write", "--races", "1"),
    "fuzz": ("--files", "8"),
}
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
@pytest.mark.parametrize("kind", SAMPLES)
def test_a_sample_finds_nothing(kind: str) -> None:
    total = fire(kind, *SAMPLES[kind]).splitlines()[-1].split()
    assert total[0] == "all" and int(total[1]) > 0 and set(total[2:]) == {"0"}


@pytest.mark.fire
@pytest.mark.parametrize("kind", SAMPLES)
def test_everything_finds_nothing(kind: str) -> None:
    fire(kind)
