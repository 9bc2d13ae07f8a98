"""Progress of several processes in one view: workers tell, the parent shows a line for each.

On a terminal each worker has a line of its own; elsewhere plain lines come as from one process.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.console import Console
from harness.progress import Level, Progress, Task

EVERY_S = 0.2  # between two messages of one task
Send = Callable[[tuple], None]


class Teller(Progress):
    """Progress in a worker, which goes to the parent.

    Args:
        send: Called with ("say", text), ("begin", what, total, unit), ("to", done, note) or
            ("finish",).
    """

    def __init__(self, send: Send, level: Level) -> None:
        super().__init__(Console(quiet=True), level)
        self._lock = threading.Lock()
        self._send = send

    def send(self, *said: object) -> None:
        """Send one message, whole."""
        with self._lock:
            self._send(said)

    def say(self, text: str) -> None:
        """Let the parent print one line, unless quiet."""
        if self.level != "quiet":
            self.send("say", text)

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "") -> Iterator[Task]:
        """Let the parent show a task until the block ends."""
        if self.level == "quiet":
            yield Task(what, total, unit)
            return
        self.send("begin", what, total, unit)
        task = _Told(what, total, unit, self)
        yield task
        self.send("to", task.done, task.note)
        self.send("finish")


class _Told(Task):
    """A task of which the parent is told."""

    def __init__(self, what: str, total: int, unit: str, teller: Teller) -> None:
        super().__init__(what, total, unit)
        self._teller, self._told_at = teller, 0.0

    def to(self, done: int, note: str = "") -> None:
        """Set how much of the total is done."""
        super().to(done, note)
        if time.monotonic() - self._told_at >= EVERY_S:
            self._told_at = time.monotonic()
            self._teller.send("to", self.done, self.note)


class View:
    """What all workers do, as the parent shows it; a context during which it is shown."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._tasks: dict[int, list[Task]] = {}
        self._live: Live | None = None
        if progress.console.is_terminal and progress.level != "quiet":
            self._live = Live(
                self,
                console=progress.console,
                refresh_per_second=4,
                redirect_stdout=False,
                transient=True,
            )

    def __enter__(self) -> "View":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def hear(self, worker: int, kind: str, *said: Any) -> None:
        """Take one message of a worker, as of `Teller`."""
        own = self._tasks.setdefault(worker, [])
        if kind == "say":
            self.progress.say(said[0])
        elif kind == "begin":
            console = self.progress.console if self._live is None else None
            what, total, unit = said
            own.append(Task(what, total, unit, console))
        elif kind == "to":
            done, note = said
            own[-1].to(done, note)
        elif kind == "finish":
            own.pop().finish()

    def forget(self, worker: int) -> None:
        """Show nothing more of a worker, which has ended what it did."""
        self._tasks.pop(worker, None)

    def __rich_console__(
        self, console: rich.console.Console, options: ConsoleOptions
    ) -> RenderResult:
        for tasks in [tasks for _, tasks in sorted(self._tasks.items()) if tasks]:
            yield Text(tasks[-1].text(options.max_width, options.ascii_only))
