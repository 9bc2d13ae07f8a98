"""What is said while work is done, and how."""

import io
import sys

import pytest
from rich.console import Console
from rich.file_proxy import FileProxy

from harness import console, progress
from harness.encoding import Inert
from harness.progress import Level, Progress, Task, clock

WHAT = "train pde_attention on cifar10, seed 0"


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def task(time: Clock, what: str = WHAT) -> Task:
    """A quarter done, at 12 steps a second."""
    found = Task(what, 1000, "steps")
    found.to(10)
    time.now += 20
    found.to(250, "loss 1.234")
    return found


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_per_cent_and_time_left_are_there_at_any_width(width: int, time: Clock) -> None:
    for what in (WHAT, "robustness: pde_aug"):
        lines = task(time, what).text(width).splitlines()
        assert " 25 %  1:02 left" in lines[-1] and len(lines[-1]) <= width
        assert "".join(lines).startswith(what)
        assert ("12 steps/s" in lines[-1]) == (width >= 60)
        assert ("250/1000" in lines[-1]) == (width >= 100)
        assert ("loss 1.234" in lines[-1]) == (width >= 120)


def test_a_bar_is_as_long_as_there_is_room(time: Clock) -> None:
    found = task(time, "clean: m")
    bar = 8 * "=" + 22 * "-"
    line = f"clean: m  {bar}   25 %  1:02 left  12 steps/s"
    assert found.text(80, ascii_only=True) == line
    assert "\u2501" in found.text(80) and "\u2501" not in found.text(80, ascii_only=True)
    found.to(1000)
    assert "100 %  took 0:20" in found.text(40)


def test_work_that_was_done_before_is_no_speed(time: Clock) -> None:
    found = Task(WHAT, 1000, "images")
    found.to(900)
    time.now += 10
    found.to(910)
    assert found.speed == 1 and found.left == 90 and found.rate == "1.0 images/s"
    assert Task(WHAT, 10).left == float("inf") and clock(float("inf")) == "-:--"
    assert clock(3725) == "1:02:05" and Task(WHAT, 10).rate == ""


def test_plain_lines_come_every_ten_seconds_and_at_the_end(time: Clock) -> None:
    file = io.StringIO()
    with Progress(Console(file=file, width=40)).task("evaluate m", 100, "images") as found:
        for _ in range(10):
            found.advance(10)
            time.now += 4
    assert file.getvalue().splitlines() == [
        "evaluate m: 40/100, 2.5 images/s, 24 s left",
        "evaluate m: 70/100, 2.5 images/s, 12 s left",
        "evaluate m: 100/100, took 40.0 s, 2.2 images/s",
    ]


def test_levels_say_less_or_more() -> None:
    said = {}
    levels: tuple[Level, ...] = ("quiet", "normal", "verbose")
    for level in levels:
        file = io.StringIO()
        teller = Progress(Console(file=file, width=200), level)
        teller.say("done [x]")
        teller.detail("skipped")
        with teller.task("work", 1) as found:
            found.advance(1)
        said[level] = [line.partition(",")[0] for line in file.getvalue().splitlines()]
    assert said["quiet"] == []
    assert said["normal"] == ["done [x]", "work: 1/1"]
    assert said["verbose"] == ["done [x]", "skipped", "work: 1/1"]


def test_a_terminal_shows_the_task_until_it_ends(time: Clock) -> None:
    file = io.StringIO()
    console = Console(file=file, width=40, force_terminal=True)
    with Progress(console).task(WHAT, 2, "steps") as found:
        found.to(2)
    last = file.getvalue().splitlines()[-2:]
    assert WHAT in file.getvalue() and any("100 %  took 0:00" in line for line in last)


def test_a_bar_reaches_the_terminal_behind_streams_that_are_inert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", Inert(stream))
    own = console.Console(stderr=True, force_terminal=True)
    monkeypatch.setattr("sys.stderr", FileProxy(own, sys.stderr))  # as a bar does
    assert own.file is stream
