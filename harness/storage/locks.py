"""Locks that end with the process that holds them, whatever ends it, also across machines.

The system's `flock`, on a file system that has it. Elsewhere nothing is locked: two processes may
do the same work, and what a killed one left behind stays until `harness clean`.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

POLL_S = 0.5
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # by another process


def try_lock(file: int) -> bool | None:
    """Lock an open file, which must be writable; return whether, None where files have no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in HELD else None
    return True


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time pass; the lock is a file that is removed in the end.

    So are folders that were made for it, if nothing else came to lie there.

    Args:
        path: Of the lock.
        waiting: Called once if another process is in there.
    """
    made: dict[Path, None] = {}
    file = _acquire(path, waiting, made)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # first, so that no other locks a file that is removed then
                for folder in made:
                    folder.rmdir()
            os.close(file)


def _acquire(path: Path, waiting: Callable[[], None], made: dict[Path, None]) -> int | None:
    """Wait for the lock; return its open file, None where there are no locks.

    Args:
        made: Gets the folders that were made for it, the innermost first.
    """
    told = False
    while True:
        try:
            made.update((folder, None) for folder in path.parents if not folder.exists())
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _open(path)
        except OSError:  # a folder that cannot be written; who writes there will say so
            return None
        if file is None:
            continue
        keep = False
        try:
            locked = try_lock(file)
            if locked is None:
                return None
            if locked and is_at(file, path):
                keep = True
                return file
        finally:
            if not keep:
                os.close(file)
        if not locked:
            if not told:
                waiting()
                told = True
            time.sleep(POLL_S)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # the folder was there, and was removed just now
        return None


def is_at(file: int, path: Path) -> bool:
    """Return whether an open file is still that at `path`."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
