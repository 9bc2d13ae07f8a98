"""Work that several processes share: the same bytes as of one, whatever happens to a process."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console as Plain
from typer.testing import CliRunner

from harness.cli import app
from harness.console import Console
from harness.progress import Progress
from harness.refusal import Failure, Refusal
from harness.running import workers
from harness.running.relay import Teller, View
from harness.running.workers import devices_for, number_of_workers, share
from tests.test_stopping import children

TINY = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""
RUN = ("run", "--suite", "clean", "--model", "mine.py:tiny", "--epochs", "10", "--limit", "20")
SEEDS = ("--seed", "0", "--seed", "1", "--seed", "2", "--seed", "3")
DOING = """
import os, signal
from pathlib import Path
from harness.refusal import Failure

def do(item, device, progress):
    name, folder = item
    yield name, device
    with progress.task(name, 2) as task:
        task.advance(1)
        marks = Path(folder, name)
        with marks.open("a") as file:
            file.write("x")
        if name == "always":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "failing":
            raise Failure("failing: it diverged.")
        task.advance(1)
    yield name, 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(TINY)
    return tmp_path


def numbers(results: Path) -> dict[str, str]:
    """Everything that may not depend on who made it: digests by name."""
    kinds = ("*/seed*.csv", "*/seed*.bits", "cells/*/*", "*.safetensors")
    return {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in kinds
        for path in results.rglob(kind)
    }


def leftovers(results: Path) -> list[Path]:
    """Locks, half files, states of trainings that are done, empty folders."""
    return [
        path
        for path in results.rglob("*")
        if path.name.startswith(".")
        or path.suffix == ".partial"
        or (path.is_dir() and not any(path.iterdir()))
    ]


def harness(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result.stdout


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it finds workers in /proc")
def test_one_process_two_workers_of_which_one_is_killed_and_four_shards_give_the_same_bytes(
    here: Path,
) -> None:
    program = start(*RUN, *SEEDS, "--results", "two", "--workers", "2", cwd=here)
    assert program.stderr is not None
    while "training 10 epochs" not in (line := program.stderr.readline()):
        assert line, "it ended"
    os.kill(children(program.pid)[0], signal.SIGKILL)
    said, told = program.communicate(timeout=120)
    assert program.returncode == 0, told
    assert "its worker was ended from outside (SIGKILL). Another one goes on with it." in told
    alone = harness(*RUN, *SEEDS, "--results", "one")
    assert said.split() == alone.replace("one/", "two/").split()
    for i in (3, 1, 4, 2):
        harness(*RUN, *SEEDS, "--results", f"part{i}", "--shard", f"{i}/4")
    harness("merge", "part2", "part4", "part1", "part3", "--to", "merged")
    expected = numbers(here / "one")
    assert len(expected) == 4 * 4  # weights, cell, CSV and bits of each seed
    for name in ("two", "merged"):
        assert numbers(here / name) == expected and leftovers(here / name) == []


@pytest.mark.slow
def test_two_writers_on_one_folder_are_as_one(here: Path) -> None:
    program = start(*RUN, *SEEDS[:4], "--results", "both", cwd=here)
    assert program.stderr is not None
    while "training 10 epochs" not in (line := program.stderr.readline()):
        assert line, "it ended"
    harness(*RUN, *SEEDS[:4], "--results", "both")
    _, told = program.communicate(timeout=120)
    assert program.returncode == 0, told
    harness(*RUN, *SEEDS[:4], "--results", "one")
    assert numbers(here / "both") == numbers(here / "one")
    assert leftovers(here / "both") == []


@pytest.mark.slow
def test_what_dies_again_and_again_is_said_and_the_others_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "doing.py").write_text(DOING)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr(workers, "AGAIN", 1)
    import doing  # type: ignore[import-not-found]

    names = ["always", "failing", "plain"]
    told = Console(file=(here / "told").open("w"), force_terminal=False, width=200)
    made, failed = share(
        [(name, str(here)) for name in names], names, doing.do, ["cpu"], Progress(told)
    )
    told.file.close()
    first = [(name, "cpu") for name in names]
    assert made == [*first, ("plain", 1)]
    texts = sorted(map(str, failed))
    assert texts[0].startswith(
        "always: its worker was ended from outside (SIGKILL), 2 times, perhaps since the memory"
    )
    assert texts[1:] == ["failing: it diverged."] and (here / "always").read_text() == "xx"
    said = (here / "told").read_text()
    assert said.count("Another one goes on with it.") == 1 and "plain: 2/2" in said
    assert children(os.getpid()) == []


@pytest.mark.parametrize("words", ["two", "", "1.5", "-1", "100000000", "auto2"])
def test_a_number_of_workers_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(Refusal, match="`--workers` must be"):
        number_of_workers(words, "cpu")


def test_auto_takes_one_worker_for_each_core_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_cores", lambda: 64)
    assert [number_of_workers(w, "cpu") for w in ("auto", "0", "3")] == [8, 8, 3]
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    assert number_of_workers("auto", "cpu") == 2 and devices_for("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(workers, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert number_of_workers("auto", "cuda") == 4 and number_of_workers("auto", "cuda:1") == 1
    assert devices_for("cuda", 6) == [f"cuda:{i}" for i in (0, 1, 2, 3, 0, 1)]
    assert devices_for("cuda:1", 2) == ["cuda:1", "cuda:1"]


@pytest.mark.parametrize("terminal", [True, False])
def test_one_view_shows_all_workers(terminal: bool, tmp_path: Path) -> None:
    with (tmp_path / "told").open("w") as file:
        console = Console(file=file, force_terminal=terminal, width=100)
        view = View(Progress(console))
        tellers = [
            Teller(lambda said, i=i: view.hear(i, *said), "normal")  # type: ignore[misc]
            for i in range(2)
        ]
        with view:
            with tellers[0].task("train a", 4, "steps") as a, tellers[1].task("train b", 8) as b:
                a.advance(3)
                b.advance(2)
                tellers[1].say("b: a note")
                shown = Plain(width=100, file=(tmp_path / "lines").open("w"))
                shown.print(view)
            view.forget(0)
        shown.file.close()
    lines = (tmp_path / "lines").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["train", "a"], ["train", "b"]]
    assert "75 %" in lines[0] and "25 %" in lines[1]
    told = (tmp_path / "told").read_text()
    assert "b: a note" in told and ("train a: 3/4" in told) == (not terminal)


def test_a_quiet_worker_says_nothing() -> None:
    heard: list[tuple] = []
    teller = Teller(heard.append, "quiet")
    teller.say("a")
    with teller.task("b", 2) as task:
        task.advance(2)
    assert heard == []


def test_a_bug_is_sent_with_its_traceback() -> None:
    class Own(Exception):
        """One that cannot be pickled."""

    def break_down(item: type[Exception], device: str, progress: Progress) -> list[int]:
        raise item("low")

    teller = Teller([].append, "normal")
    for kind, sent in ((KeyError, KeyError), (Own, RuntimeError)):
        error = workers._attempt(kind, break_down, "cpu", teller)
        assert type(error) is sent and "low" in str(pickle.loads(pickle.dumps(error)))
        assert "In a worker" in error.__notes__[0] and "break_down" in error.__notes__[0]


def test_a_failure_is_sent_as_it_is() -> None:
    def fail(item: object, device: str, progress: Progress) -> list[int]:
        raise Failure("It diverged.")

    heard: list[tuple] = []
    error = workers._attempt(0, fail, "cpu", Teller(heard.append, "normal"))
    assert type(error) is Failure and str(error) == "It diverged."
