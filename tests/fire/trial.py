"""One command in a process of its own, forked from this one, in which everything is imported.

So a trial takes tenths of a second and not the seconds that importing PyTorch takes.
"""

import ctypes
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.__main__ import main

LIMIT = 20.0  # seconds, after which a command hangs
MEMORY = 8 << 30  # bytes; what a hostile file makes a command ask for must not stop the machine
HOWS = ("count", "once", "short", "die before", "die after", "full", "forbidden")  # of faults.c


@dataclass(frozen=True)
class Fault:
    """What happens to a command's file operations below its folder.

    Args:
        how: One of `HOWS`.
        at: Which operation, from 1.
        error: Its `errno`.
    """

    how: str = "count"
    at: int = 0
    error: int = 0


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit code, or less the number of a signal, and what it printed."""

    code: int
    out: str
    err: str
    hung: bool
    seconds: float


def start(argv: Sequence[str], folder: Path, name: str = "said", fault: Fault | None = None) -> int:
    """Start `harness ARGV` in a folder; return its process.

    What it prints goes to files beside the folder, NAME.out and NAME.err; with a fault, the file
    operations that it does go to NAME.log.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        try:
            _become(argv, folder, folder.with_name(name), fault)
        finally:
            os._exit(99)
    return process


def _become(argv: Sequence[str], folder: Path, said: Path, fault: Fault | None) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ |= {"HARNESS_DATA": str(folder / "data")}
    for stream, path in ((0, "/dev/null"), (1, f"{said}.out"), (2, f"{said}.err")):
        flags = os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags)
        os.dup2(opened, stream)
        os.close(opened)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.argv = ["harness", *argv]
    code = 1
    if fault is not None:
        arm = ctypes.CDLL(None).fire_arm
        where, log = (os.fsencode(path) for path in (folder, f"{said}.log"))
        arm(where, log, ctypes.c_long(fault.at), HOWS.index(fault.how), fault.error)
    try:
        main()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def finish(process: int, folder: Path, name: str = "said", limit: float = LIMIT) -> Said:
    """Wait for a command that was started; kill it where it takes longer than `limit` seconds."""
    begun, handle = time.monotonic(), os.pidfd_open(process)
    hung = not select.select([handle], [], [], limit)[0]
    os.close(handle)
    if hung:
        os.killpg(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    out, err = (
        folder.with_name(f"{name}.{end}").read_text(errors="replace") for end in ("out", "err")
    )
    return Said(code, out, err, hung, time.monotonic() - begun)


def run(
    argv: Sequence[str],
    folder: Path,
    *,
    fault: Fault | None = None,
    stop: tuple[int, float] | None = None,
) -> Said:
    """Run a command to its end.

    Args:
        stop: A signal that it gets, and the seconds after which it does.
    """
    process = start(argv, folder, fault=fault)
    if stop is not None:
        stop_after(process, *stop)
    return finish(process, folder)


def stop_after(process: int, number: int, seconds: float) -> None:
    """Send a signal to a process, so many seconds after it listens to signals, unless it ended.

    Before, in the first hundredths of a second, it is Python that ends and not the program.
    """
    handle = os.pidfd_open(process)
    while not select.select([handle], [], [], 0.001)[0]:
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
        if caught is not None and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            break
    if not select.select([handle], [], [], seconds)[0]:
        os.kill(process, number)
    os.close(handle)


def operations(folder: Path, name: str = "said") -> list[str]:
    """The file operations of a command that ran with a fault, "rename results/leaderboard.csv"."""
    return folder.with_name(f"{name}.log").read_text(errors="replace").splitlines()
