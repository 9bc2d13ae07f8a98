"""Files that are written whole or not at all."""

import contextlib
import glob
import json
import os
import platform
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.refusal import Refusal

HOST = re.sub(r"\W", "-", platform.node())


def canonical(description: Mapping[str, Any]) -> str:
    """Return `description` as JSON that is the same for equal descriptions."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        Refusal: It cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise Refusal(
            f"{path} cannot be written: {error.strerror}. Make room, or choose another folder."
        ) from error


def _sweep(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` left behind."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(HOST)}.*"):
        pid = left.name.split(".")[-2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            pass  # not ours, or alive and another person's


def safe(name: str) -> str:
    """Return a model's or data set's name as one word that any file system takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def data_folder(data: Path | None) -> Path:
    """Return the folder of data files: `data`, else HARNESS_DATA, else ~/.cache/harness/data."""
    return data or Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache/harness/data")
