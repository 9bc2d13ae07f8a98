"""What a person asked for and cannot have: the one thing that commands turn into a sentence."""

import contextlib
import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.models import registry

# How PyTorch says it, on a CPU and on a GPU.
OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "bad allocation")
FAILING = {
    errno.ENOSPC: "Make room",
    errno.EDQUOT: "Make room",
    errno.EIO: "Check the disk",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it readable and writable",
    errno.EPERM: "Make it readable and writable",
    errno.EMFILE: "Let a process open more files, `ulimit -n`",
    errno.ENFILE: "Close other programs",
    errno.ENOMEM: "Free some memory",
}


class Refusal(Exception):
    """Says the fact, the value and the cure, in whole sentences. A command prints it, exit 2.

    Everything else that is raised is a bug, and keeps its traceback.
    """

    code = 2


class Failure(Refusal):
    """Work that was asked for rightly and could not be finished, such as a training that diverged;
    exit 1."""

    code = 1


def unknown(kind: str, name: str, known: Iterable[str]) -> Refusal:
    """Return the refusal of a name that is not there: the nearest name, else all of them."""
    return Refusal(str(registry.unknown(kind, name, known)))


@contextlib.contextmanager
def user_input() -> Iterator[None]:
    """Turn what `models` and `suites` raise over a user's input into a refusal.

    To be put around the one call that hands the input down. A KeyError or an IndexError is a bug.
    """
    try:
        yield
    except (ValueError, LookupError, FileNotFoundError, PermissionError, ImportError) as error:
        if isinstance(error, KeyError | IndexError):
            raise
        raise Refusal(str(error)) from error
    except SyntaxError as error:
        raise Refusal(f"{error.filename}, line {error.lineno}: {error.msg}.") from error


def describe_error(error: Exception) -> str:
    """Return what somebody else's code raised, and where, as a sentence."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}: {text}."


def failing_machine(error: BaseException) -> str:
    """Return a sentence on what the machine could not do; "" where that is not what happened."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return (
            "The memory is full. Give a smaller `--batch-size` or fewer `--workers`, or free some; "
            "finished work is kept."
        )
    if isinstance(error, OSError) and error.errno in FAILING:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{os.strerror(error.errno)}. {FAILING[error.errno]}, and run the same command "
            "again; finished work is kept."
        )
    return ""
