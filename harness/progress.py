"""What is being done, how far, and the time left: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

LINE_EVERY_S = 10.0  # between plain lines


class Task:
    """Something with a known amount of work."""

    def __init__(self, what: str, total: int, console: Console, bars: Bars | None) -> None:
        self.what, self.total, self.done, self.note = what, total, 0, ""
        self._console, self._bars = console, bars
        self._bar = bars.add_task(what, total=total, note="") if bars else None
        self._start = self._last = time.monotonic()

    def to(self, done: int, note: str = "") -> None:
        """Say that `done` of the total is done; `note` is shown behind it."""
        self.done, self.note = done, note
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S and done < self.total:
            self._last = now
            left = (now - self._start) / max(done, 1) * (self.total - done)
            self._line(f"{done}/{self.total} {note}, {left:.0f} s left".replace(" ,", ","))

    def advance(self, amount: int) -> None:
        self.to(self.done + amount, self.note)

    def finish(self) -> None:
        if self._bars is None:
            took = time.monotonic() - self._start
            self._line(
                f"{self.done}/{self.total} {self.note}, took {took:.1f} s".replace(" ,", ",")
            )

    def _line(self, text: str) -> None:
        self._console.print(f"{self.what}: {text}", markup=False, highlight=False, soft_wrap=True)


class Progress:
    """Tells a person what is being done, on stderr."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, what: str, total: int) -> Iterator[Task]:
        """Show a task until the block ends."""
        if not self.console.is_terminal:
            task = Task(what, total, self.console, None)
            yield task
            task.finish()
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Bars(*columns, console=self.console) as bars:
            yield Task(what, total, self.console, bars)
