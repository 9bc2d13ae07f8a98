"""What a person asked for and cannot have: the one thing that commands turn into a sentence."""

import contextlib
import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.models import registry

# How PyTorch says it, on a CPU and on a GPU; the C++ library; oneDNN; the loader of libraries,
# which are mapped into memory as they are imported; Python, of whose threads each has a stack.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "bad allocation",
    "bad_alloc",
    "could not create a memory object",
    "failed to map segment from shared object",
    "annot allocate memory",
    "can't start new thread",
)
LEAST = 600 * 10**6  # bytes of addresses that a command needs
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
        if isinstance(error, KeyError | IndexError) or out_of_memory(error):
            raise
        raise Refusal(str(error)) from error
    except SyntaxError as error:
        raise Refusal(f"{error.filename}, line {error.lineno}: {error.msg}.") from error


def describe_error(error: Exception) -> str:
    """Return what somebody else's code raised, and where, as a sentence."""
    if sentence := failing_machine(error):
        return sentence
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}: {text}."


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory is what was missing."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def cramped() -> str:
    """Return why this process has too little memory to start in; "" where it has enough.

    Asked before anything large is imported: libraries of numbers hang where they find so little.
    """
    try:
        import resource
    except ImportError:  # Windows
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= LEAST:
        return ""
    return (
        f"This process may have {limit / 1e6:.0f} MB of memory (`ulimit -v`), and needs "
        f"{LEAST / 1e6:.0f} MB to start, about 5 GB to run networks. Raise the limit."
    )


def failing_machine(error: BaseException) -> str:
    """Return a sentence on what the machine could not do; "" where that is not what happened."""
    if out_of_memory(error):
        return (
            "The memory is full. Free some, or raise `ulimit -v`; where networks run, give a "
            "smaller `--batch-size` or `--limit`, or fewer `--workers`. Finished work is kept."
        )
    if isinstance(error, OSError) and error.errno in FAILING:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{os.strerror(error.errno)}. {FAILING[error.errno]}, and run the same command "
            "again; finished work is kept."
        )
    return ""
