"""What is being done, how far, and the time left: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

import rich.console
from rich.cells import cell_len
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.console import Console
from harness.encoding import inert

LINE_EVERY_S = 10.0  # between plain lines
BAR = 10  # characters of a bar, at least
Level = Literal["quiet", "normal", "verbose"]


class Task:
    """Something with a known amount of work.

    Args:
        what: What is being done.
        total: Amount of work.
        unit: What is counted, "images"; "" for things whose rate says nothing.
        console: Where plain lines go; None to print none.
    """

    def __init__(
        self, what: str, total: int, unit: str = "", console: Console | None = None
    ) -> None:
        self.what, self.total, self.unit = inert(what, keep=""), total, unit
        self.done, self.note = 0, ""
        self._console = console
        self._start = self._line_at = time.monotonic()
        # What was done before, by a run that this one continues, is no measure of speed.
        self._first: tuple[float, int] | None = None

    def to(self, done: int, note: str = "") -> None:
        """Set how much of the total is done; `note` is shown behind it."""
        self.done, self.note = done, inert(note, keep="")
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._line_at >= LINE_EVERY_S and done < self.total:
            self._line_at = now
            parts = (f"{done}/{self.total} {note}".strip(), self.rate, f"{self.left:.0f} s left")
            self._line(", ".join(part for part in parts if part))

    def advance(self, amount: int) -> None:
        """Add to what is done."""
        self.to(self.done + amount, self.note)

    def finish(self) -> None:
        """Say how long it took, in a plain line."""
        took = f"took {time.monotonic() - self._start:.1f} s"
        parts = (f"{self.done}/{self.total} {self.note}".strip(), took, self.rate)
        self._line(", ".join(part for part in parts if part))

    def _line(self, text: str) -> None:
        if self._console is not None:
            line = f"{self.what}: {text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @property
    def speed(self) -> float:
        """Amount of work a second; 0 where it is not known yet."""
        if self._first is None or self.done <= self._first[1]:
            return self.done / max(time.monotonic() - self._start, 1e-9)
        return (self.done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)

    @property
    def rate(self) -> str:
        """The speed in words; "" where there is none."""
        if not self.unit or not 0 < self.speed < 1e6:
            return ""
        return f"{self.speed:,.{0 if self.speed >= 10 else 1}f} {self.unit}/s"

    @property
    def left(self) -> float:
        """Seconds left; infinite where nothing is done yet."""
        return (self.total - self.done) / self.speed if self.speed else float("inf")

    def text(self, width: int, ascii_only: bool = False) -> str:
        """Return a line of at most `width` characters; two where what is done needs its own.

        Per cent and time left are always there. What else is depends on the width alone, so that
        nothing comes and goes.
        """
        share = min(1.0, self.done / self.total) if self.total else 1.0
        spent = time.monotonic() - self._start
        ends = f"took {clock(spent)}" if share == 1 else f"{clock(self.left)} left"
        tail = [f"{100 * share:3.0f} %", ends]
        room = width - len("100 %  0:00:00 left")
        for wide, reserved, part in (
            (60, len("12,345 /s") + len(self.unit), self.rate),
            (100, 2 * len(str(self.total)) + 1, f"{self.done}/{self.total}"),
            (120, max(len(self.note), 20), self.note),
        ):
            if width >= wide:
                tail, room = [*tail, part], room - reserved - 2
        own_line = cell_len(self.what) > room - 2
        length = min(30, room - 2 - (0 if own_line else cell_len(self.what) + 2))
        if length >= BAR:
            full, rest = ("=", "-") if ascii_only else ("\u2501", "\u2500")
            filled = round(share * length)
            tail = [full * filled + rest * (length - filled), *tail]
        return (self.what + ("\n" if own_line else "  ")) + "  ".join(filter(None, tail))

    def __rich_console__(
        self, console: rich.console.Console, options: ConsoleOptions
    ) -> RenderResult:
        yield Text(self.text(options.max_width, options.ascii_only))


def clock(seconds: float) -> str:
    """Return a time as "1:02", "1:00:02"; "-:--" where it is not known."""
    if seconds == float("inf"):
        return "-:--"
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


class Progress:
    """Tells a person what is being done, on stderr.

    Args:
        console: Where to.
        level: "quiet" says nothing, "verbose" also what is read and skipped.
    """

    def __init__(self, console: Console, level: Level = "normal") -> None:
        self.console, self.level = console, level

    def say(self, text: str) -> None:
        """Print one line, unless quiet."""
        if self.level != "quiet":
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """Print one line if verbose."""
        if self.level == "verbose":
            self.say(text)

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "") -> Iterator[Task]:
        """Show a task until the block ends.

        Args:
            unit: What the total counts, such as "images".
        """
        if self.level == "quiet":
            yield Task(what, total, unit)
        elif self.console.is_terminal:
            task = Task(what, total, unit)
            with Live(task, console=self.console, refresh_per_second=4):
                yield task
        else:
            task = Task(what, total, unit, self.console)
            yield task
            task.finish()
