"""Files that are written whole or not at all."""

import contextlib
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from harness.refusal import Refusal
from harness.storage.locks import is_at, try_lock

PART = ".part"  # ends the name of a file that is being written
PUBLISHED = "published.json"  # marks a folder that commands only read
# A name that is its own file name. One that ends like a changed name is changed as well.
PLAIN = re.compile(r"(?!.*-[0-9a-f]{8}$)[A-Za-z0-9_]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")
# Folders in the results that hold no data set.
NO_DATASETS = ("cells", "checkpoints", "figures", "published", "quick", "report", "untrained")
# Devices on Windows, whatever follows the first dot, and folders of another use.
TAKEN = re.compile(rf"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|{'|'.join(NO_DATASETS)}", re.I)

_publishing: ContextVar[Path | None] = ContextVar("publishing", default=None)


class Unwritable(Refusal):
    """A file that cannot be written; `errno` says why."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


def canonical(description: Mapping[str, Any]) -> str:
    """Return `description` as JSON that is the same for equal descriptions."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        Unwritable: It cannot be written there.
        Refusal: It lies in published results, other than those of `publishing`.
    """
    temporary = path
    try:
        refuse_published(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        file, temporary = _create_beside(path)
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException as error:
        if temporary != path:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise Unwritable(
            f"{path} cannot be written: {error.strerror}. Make room, or choose another folder.",
            error.errno,
        ) from error


def _create_beside(path: Path) -> tuple[BinaryIO, Path]:
    """Create a file to be renamed to `path`, which stays locked while this process writes it."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
        try:
            file = temporary.open("xb")
        except FileNotFoundError:  # an empty folder, which another process removed just now
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        locked = try_lock(file.fileno())
        # Before it was locked, another process may have taken it for what a dead one left.
        if locked is None or (locked and is_at(file.fileno(), temporary)):
            return file, temporary
        file.close()


def _sweep(path: Path) -> None:
    """Remove what processes left behind that were killed while they wrote `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        remove_if_dead(left)


def remove_if_dead(part: Path) -> bool:
    """Remove an unfinished file that no living process writes; return whether."""
    try:
        with part.open("r+b") as file:
            dead = bool(try_lock(file.fileno()))
            if dead:
                part.unlink(missing_ok=True)
            return dead
    except OSError:
        return False


def refuse_published(path: Path) -> None:
    """Refuse a path in published results, also one that leads there by a link.

    Raises:
        Refusal: Names their folder.
    """
    path = Path(os.path.abspath(path))
    real = Path(os.path.realpath(path.parent), path.name)
    for folder in (path, *path.parents, *real.parents):
        if (folder / PUBLISHED).is_file() and folder.resolve() != _publishing.get():
            fact = f"{path} lies in published results, {folder}"
            if folder == path:
                fact = f"{path} holds published results"
            raise Refusal(f"{fact}, which are only read. Choose another folder.")


@contextlib.contextmanager
def publishing(folder: Path) -> Iterator[None]:
    """Let published results in `folder` be written while the context lasts."""
    token = _publishing.set(folder.resolve())
    try:
        yield
    finally:
        _publishing.reset(token)


def list_folder(folder: Path) -> list[Path]:
    """Return what a folder holds, in order and without hidden files; nothing if it is not there.

    Raises:
        Refusal: It cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Refusal(
            f"{folder} cannot be read: {error.strerror}. What is in it would be missing without a "
            "word. Make it readable, or name another folder with `--results`."
        ) from None


def safe(name: str) -> str:
    """Return a model's or data set's name as one word that any file system takes.

    Two names never share a word: one that is changed gets 8 digits of its SHA-256.
    """
    if PLAIN.fullmatch(name) and not TAKEN.fullmatch(name):
        return name
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:70].strip("-.") or "name"
    return f"{word}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def data_folder(data: Path | None) -> Path:
    """Return the folder of data files: `data`, else HARNESS_DATA, else ~/.cache/harness/data."""
    return data or Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache/harness/data")
