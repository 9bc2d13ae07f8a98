"""A folder for what is not verified yet; one that a killed process left goes at the next use."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.storage.files import PART
from harness.storage.locks import try_lock

ALIVE = "alive"  # in a temporary folder: locked by the process that fills it


@contextlib.contextmanager
def temporary_folder(root: Path, name: str) -> Iterator[Path]:
    """Give a new folder in `root`, and remove it; those of processes that died go as well."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f".{name}.*{PART}"):
        with contextlib.suppress(OSError), (left / ALIVE).open("r+b") as file:
            if try_lock(file.fileno()):
                shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=PART, dir=root) as temporary,
        Path(temporary, ALIVE).open("xb") as file,
    ):
        try_lock(file.fileno())  # which ends with this process
        yield Path(temporary)
