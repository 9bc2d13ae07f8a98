"""Processes that share work items. One that is killed does not end the others.

No file claims an item. The parent hands items out, and where two commands would do the same work at
the same time, locks of the system keep them apart (`storage.locks.alone`): such a lock ends with
the process that holds it, whatever ends it. A claim file needs a heartbeat instead, and whoever
finds one must guess whether its owner is dead or slow.

Each worker has a pipe of its own, since a process that is killed while it writes to a shared queue
would keep the queue's lock.
"""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from harness import stopping
from harness.encoding import make_streams_inert
from harness.progress import Level, Progress
from harness.refusal import Failure, Refusal
from harness.running.options import resolve_device
from harness.running.relay import Teller, View
from harness.storage.spelling import MOST, problem_of_whole

AGAIN = 2  # how often an item is taken up again after its worker has died
MOST_CORES = 8  # that `auto` takes
AUTO = "auto"
# Does one item on a device, and yields what it made.
Do = Callable[[Any, str, Progress], Iterable[Any]]


def workers_for(device: torch.device) -> int:
    """Return how many items to do at once: one for each CPU core, up to 8; one for each GPU."""
    if device.type == "cpu":
        return min(MOST_CORES, _cores())
    several = device.type == "cuda" and device.index is None
    return max(1, torch.cuda.device_count()) if several else 1


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def number_of_workers(words: str, device: str) -> int:
    """Return the number that `--workers` says; "auto", and 0, take what suits the device.

    Raises:
        Refusal: It says something else.
    """
    try:
        number = 0 if words == AUTO else int(words)
    except ValueError:
        raise Refusal(
            f"`--workers` must be a whole number or `auto`; got {words!r}. Give for example 2."
        ) from None
    if problem := problem_of_whole(number, 0, MOST):
        raise Refusal(f"`--workers` {problem}.")
    return number or workers_for(resolve_device(device))


def devices_for(device: str, workers: int) -> list[str]:
    """Return the device of each worker: GPUs in turn, unless one is named."""
    found = resolve_device(device)
    if found.type != "cuda" or found.index is not None:
        return [device] * workers
    return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]


def share(
    items: Sequence[Any],
    names: Sequence[str],
    do: Do,
    devices: Sequence[str],
    progress: Progress,
) -> tuple[list[Any], list[Failure]]:
    """Do all items, each in one of several processes.

    Args:
        names: What each item is called in messages.
        do: A function of a module, which is called in the workers; items and what it yields can be
            pickled.
        devices: One for each worker.

    Returns:
        What was made, in the order of the items, and what failed.

    Raises:
        Refusal: An item was refused; all workers have ended.
    """
    pool = _Pool(items, names, do, devices, progress)
    try:
        with pool.view:
            pool.work()
    except BaseException:
        pool.end()
        raise
    pool.dismiss()
    return [one for of_item in pool.made for one in of_item], pool.failed


@dataclass(eq=False)
class _Worker:
    """A process, and the item that it does; None while it has none."""

    place: int
    process: SpawnProcess
    connection: Connection
    item: int | None = None


class _Pool:
    def __init__(
        self,
        items: Sequence[Any],
        names: Sequence[str],
        do: Do,
        devices: Sequence[str],
        progress: Progress,
    ) -> None:
        self._items, self._names, self._do = items, names, do
        self._devices, self._progress = devices[: len(items)], progress
        self._threads = max(1, torch.get_num_threads() // max(1, len(self._devices)))
        self._waiting, self._died = deque(range(len(items))), [0] * len(items)
        self._team: list[_Worker] = []
        self.view = View(progress)
        self.made: list[list[Any]] = [[] for _ in items]
        self.failed: list[Failure] = []

    def work(self) -> None:
        """Do all items."""
        while self._waiting or any(worker.item is not None for worker in self._team):
            self._hand_out()
            # In short waits: a signal just before one begins is heard after it.
            ready = wait([worker.connection for worker in self._team], stopping.ONCE_S)
            for worker in [w for w in self._team if w.connection in ready]:
                self._hear(worker)

    def _hand_out(self) -> None:
        for worker in [w for w in self._team if w.item is None]:
            self._give(worker)
        while self._waiting and len(self._team) < len(self._devices):
            taken = {worker.place for worker in self._team}
            place = next(i for i in range(len(self._devices)) if i not in taken)
            self._give(self._start(place))

    def _give(self, worker: _Worker) -> None:
        if not self._waiting:
            return
        worker.item = self._waiting.popleft()
        self.made[worker.item] = []
        try:
            worker.connection.send(self._items[worker.item])
        except OSError:
            self._lose(worker)

    def _start(self, place: int) -> _Worker:
        # Spawned, since threads and CUDA do not survive a fork.
        context = multiprocessing.get_context("spawn")
        own, theirs = context.Pipe()
        told = (theirs, self._do, self._devices[place], self._threads, self._progress.level)
        process = context.Process(target=_work, args=told)
        worker = _Worker(place, process, own)
        self._team.append(worker)
        with stopping.for_the_parent_alone():
            process.start()
        theirs.close()  # so that its end is seen here
        return worker

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, *said = worker.connection.recv()
        except (EOFError, OSError):
            self._lose(worker)
            return
        if worker.item is None or kind not in ("made", "end"):
            self.view.hear(worker.place, kind, *said)
        elif kind == "made":
            self.made[worker.item] += said
        else:
            self.view.forget(worker.place)
            worker.item = None
            (error,) = said
            if isinstance(error, Failure):
                self.failed.append(error)
            elif error is not None:
                raise error

    def _lose(self, worker: _Worker) -> None:
        """Take up again what a worker did that has died."""
        worker.process.join()
        worker.connection.close()
        self._team.remove(worker)
        self.view.forget(worker.place)
        if worker.item is None:
            return
        name = self._names[worker.item]
        self._died[worker.item] += 1
        fact = f"{name}: its worker was ended from outside{_cause(worker.process.exitcode)}"
        if self._died[worker.item] <= AGAIN:
            self._progress.say(f"{fact}. Another one goes on with it.")
            self._waiting.appendleft(worker.item)
        else:
            self.failed.append(
                Failure(
                    f"{fact}, {self._died[worker.item]} times, perhaps since the memory was full. "
                    "Give fewer `--workers`, and run the same command again; finished work is kept."
                )
            )
            self._progress.say(str(self.failed[-1]))

    def dismiss(self) -> None:
        """Let all workers end, which have nothing to do."""
        for worker in self._team:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        self._await()

    def end(self) -> None:
        """End all workers; they finish what is in hand."""
        for worker in self._team:
            if worker.process.pid is not None:
                worker.process.terminate()
        self._await()

    def _await(self) -> None:
        until = time.monotonic() + 2 * stopping.PATIENCE_S
        for worker in self._team:
            if worker.process.pid is not None:
                worker.process.join(max(0.0, until - time.monotonic()))
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _cause(code: int | None) -> str:
    """What ended a process, by its exit code."""
    if code is None or code >= 0:
        return "" if code is None else f" (exit code {code})"
    try:
        return f" ({signal.Signals(-code).name})"
    except ValueError:
        return f" (signal {-code})"


def _work(connection: Connection, do: Do, device: str, threads: int, level: Level) -> None:
    """Do one item after the other, in a process of its own."""
    stopping.follow_parent()
    make_streams_inert()
    torch.set_num_threads(threads)
    progress = Teller(connection.send, level)
    try:
        while (item := connection.recv()) is not None:
            progress.send("end", _attempt(item, do, device, progress))
    except stopping.Stopped:
        os._exit(0)  # with nobody to tell
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _attempt(item: Any, do: Do, device: str, progress: Teller) -> Exception | None:
    """Do one item; return what was raised, so that it can be sent."""
    try:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        for made in do(item, device, progress):
            progress.send("made", made)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Refusal as refusal:
        return type(refusal)(str(refusal))
    except OSError as error:
        return error
    except Exception as error:
        # An exception of somebody's own may be one that cannot be pickled.
        known = type(error).__module__ == "builtins"
        sent = error if known else RuntimeError(f"{type(error).__name__}: {error}")
        sent.add_note(f"In a worker:\n{traceback.format_exc()}")
        return sent
    return None
