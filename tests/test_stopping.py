"""Signals sent to the real program, and to a small one that runs as it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.options import seconds_of
from harness.refusal import Refusal
from harness.stopping import AGAIN, SENTENCE, UNFINISHED

PROGRAM = """
import sys, time
from harness import stopping

def work(*at_most_s):
    with stopping.finishing(*at_most_s):
        for step in range(600):
            print(step, flush=True)
            time.sleep(0.05)
            if {checked}:
                stopping.check()

def wait():
    print("ready", flush=True)
    for _ in range(1200):  # a signal just before a long sleep begins would wait for its end
        time.sleep(0.05)

def swallow():
    try:
        wait()
    except BaseException:
        print("went on")

class Deleted:
    def __del__(self):
        wait()

def delete():
    Deleted()
    time.sleep(60)

def broken():
    try:
        wait()
    except BaseException:
        raise SystemExit(3)

stopping.run({name})
"""


def start(name: str, checked: bool = True) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(name=name, checked=checked)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None and program.stdout.readline()
    return program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["work", "wait", "swallow", "delete", "broken"])
def test_a_signal_is_one_sentence_wherever_the_program_is(
    name: str, number: signal.Signals
) -> None:
    program = start(name)
    program.send_signal(number)
    _, told = program.communicate(timeout=60)
    code = UNFINISHED if number == signal.SIGTERM else 130
    assert (program.returncode, told) == (code, SENTENCE + "\n")


def test_work_that_takes_longer_than_it_may_is_left() -> None:
    program = start("lambda: work(1.5)", checked=False)
    begun = time.monotonic()
    program.send_signal(signal.SIGTERM)
    _, told = program.communicate(timeout=60)
    assert 1.4 < time.monotonic() - begun < 12
    assert (program.returncode, told) == (UNFINISHED, SENTENCE + "\n")


def test_a_second_signal_ends_work_that_takes_long() -> None:
    program = start("work", checked=False)
    program.send_signal(signal.SIGTERM)
    program.send_signal(signal.SIGTERM)  # as `timeout` does: one request
    time.sleep(1.5)
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    _, told = program.communicate(timeout=60)
    assert (program.returncode, told) == (UNFINISHED, SENTENCE + "\n")


@pytest.mark.parametrize("name", ["work", "wait"])
def test_a_time_limit_is_one_sentence_and_says_run_again(name: str) -> None:
    begun = time.monotonic()
    program = start(f"lambda: (stopping.limit(1.5, '1.5s'), {name}())")
    _, told = program.communicate(timeout=60)
    assert time.monotonic() - begun < 12
    assert program.returncode == UNFINISHED == 75
    assert told == f"The time limit of 1.5s is reached. {AGAIN}\n"


def test_a_program_that_is_done_before_its_limit_does_not_hear_of_it() -> None:
    program = start("lambda: (stopping.limit(60, '60s'), print('ready'))")
    _, told = program.communicate(timeout=30)
    assert (program.returncode, told) == (0, "")


@pytest.mark.parametrize(
    "words, seconds", [("55m", 3300), ("1h30m", 5400), ("90", 90), ("90s", 90), ("2h", 7200)]
)
def test_times(words: str, seconds: float) -> None:
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["", "0", "5x", "-3m", "1m30x", "1e3", "99999h", "m"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(Refusal, match="`--time-limit` must be a time .*Give for example 55m"):
        seconds_of(words)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """The spawned workers of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            line = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in line:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it finds workers in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "harness", "study", "--dataset", "digits", "--question", "1",
         "--seeds", "2", "--epochs", "200", "--workers", "2", "--results", "r"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert program.stderr is not None
    told = ""
    while "step" not in told:
        told = program.stderr.readline()
        assert told, "it ended"
    workers = children(program.pid)
    assert len(workers) == 2
    program.send_signal(number)
    _, rest = program.communicate(timeout=60)
    until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers))
    assert "Traceback" not in rest
    if number != signal.SIGKILL:  # which leaves no time to write anything
        assert program.returncode == 128 + number
        assert rest.splitlines()[-1] == SENTENCE and rest.count(SENTENCE) == 1
        assert list((tmp_path / "r").rglob("*.partial"))
        assert not list((tmp_path / "r").rglob(".*.part"))
