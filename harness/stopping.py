"""Ctrl-C, SIGTERM and time limits: the step in hand is kept, one sentence, exit code 130 or 75.

75 is EX_TEMPFAIL of sysexits.h: not finished, run the same command again.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = "Finished work is kept; run the same command again to continue."
SENTENCE = f"Interrupted. {AGAIN}"
UNFINISHED = 75
ONCE_S = 1.0  # `timeout` and terminals send one request twice
PATIENCE_S = 5.0  # to finish what would be lost; who runs containers waits 10 s


class Stopped(BaseException):
    """The program was asked to end; no error, so that nothing which handles errors keeps it."""


_asked: tuple[int, float] | None = None  # the first signal, and when
_finishing = 0
_at_most_s = math.inf  # that the work in hand may take to finish
_overdue = False
_swallowed = False  # by Python itself, as in `__del__`
_limit = ""  # the time limit, once it is reached
_begun = time.monotonic()


def run(program: Callable[[], object]) -> None:
    """Run the whole program, so that a signal ends it with a sentence, wherever it is.

    A second signal ends it at once.

    Raises:
        SystemExit: With 130 or 75 after a signal, otherwise as `program` raises it.
    """
    listen()
    try:
        try:
            program()
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # what was to be done is done
    except (Stopped, SystemExit):
        if _asked is None:
            raise
    if _asked is not None:
        _say()
        sys.exit(_code(_asked[0]))


def _code(number: int) -> int:
    return UNFINISHED if number == signal.SIGTERM else 128 + number


def limit(seconds: float, words: str) -> None:
    """Ask the program to end that many seconds after its start; `words` say the limit."""

    def reach() -> None:
        global _limit
        if _asked is None:
            _limit = words
            os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(max(0.0, seconds - (time.monotonic() - _begun)), reach)
    timer.daemon = True
    timer.start()


def listen() -> None:
    """Let the signals raise `Stopped` in this process."""
    sys.unraisablehook = _raise_again
    for number in SIGNALS:
        signal.signal(number, _ask)


def follow_parent() -> None:
    """Let this worker end without a word when its parent asks it to, or is gone.

    What is in hand is finished, as `finishing` says; `Stopped` is raised nowhere else.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, _ask_worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _ask_worker(number: int, frame: FrameType | None) -> None:
    global _asked
    if not _finishing:
        os._exit(128 + number)
    _asked = _asked or (number, time.monotonic())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * PATIENCE_S)
        os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def for_the_parent_alone() -> Iterator[None]:
    """Start processes that a terminal's Ctrl-C does not reach, not even while they start."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _raise_again(what: "sys.UnraisableHookArgs") -> None:
    """Ask once more where Python ignores what is raised: in `__del__`, in callbacks."""
    global _swallowed
    if _asked is None or what.exc_type is not Stopped:
        sys.__unraisablehook__(what)
        return
    _swallowed = True
    threading.Timer(0.01, os.kill, (os.getpid(), _asked[0])).start()


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked, _swallowed, _overdue
    if _asked is None or _swallowed or _overdue:
        _asked, _swallowed = _asked or (number, time.monotonic()), False
        if _overdue or not _finishing:
            _overdue = False
            raise Stopped
        if _at_most_s < math.inf:
            timer = threading.Timer(_at_most_s, _ask_again)
            timer.daemon = True
            timer.start()
    elif time.monotonic() - _asked[1] > ONCE_S:
        _say()
        os._exit(_code(number))


def _ask_again() -> None:
    """Ask for the end of work that was given time to finish, and took longer."""
    global _overdue
    if _finishing and _asked is not None:
        _overdue = True
        os.kill(os.getpid(), _asked[0])


def _say() -> None:
    sentence = f"The time limit of {_limit} is reached. {AGAIN}" if _limit else SENTENCE
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        print("\n" * sys.stderr.isatty() + sentence, file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def finishing(at_most_s: float = math.inf) -> Iterator[None]:
    """Let a signal wait until `check`, since what is in hand can be kept; no longer than that."""
    global _finishing, _at_most_s
    before, _at_most_s = _at_most_s, at_most_s
    _finishing += 1
    try:
        yield
    finally:
        _finishing -= 1
        _at_most_s = before


def asked() -> bool:
    """Return whether the program was asked to end."""
    return _asked is not None


def check(patience_s: float = 0.0) -> None:
    """End the program if it was asked to, that many seconds ago.

    Raises:
        Stopped: It was.
    """
    if _asked is not None and time.monotonic() - _asked[1] >= patience_s:
        raise Stopped
