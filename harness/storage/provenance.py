"""What made a row: command, commit, and the source of the program."""

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "diffeq-harness"  # on package indexes, where `harness` is somebody else's
PACKAGE = Path(__file__).resolve().parent.parent  # the folder `harness`


def version() -> str:
    """Return the version that is installed."""
    return metadata.version(DISTRIBUTION)


def sources() -> Iterator[tuple[str, Path]]:
    """Yield the program's own files, with their names in a checkout: `models/resnet.py`."""
    for part, name in (
        (PACKAGE, "harness"),
        (PACKAGE / "models", "models"),
        (PACKAGE / "suites", "suites"),
    ):
        for path in sorted(part.rglob("*")):
            inner = path.relative_to(part)
            if name == "harness" and inner.parts[0] in ("models", "suites"):
                continue  # in the source tree these are links
            if path.suffix in {".py", ".cu", ".cuh"}:
                yield f"{name}/{inner.as_posix()}", path


def source_hash() -> str:
    """Return the SHA-256 of the program's own source, which names it where there is no git."""
    sha = hashlib.sha256()
    for name, path in sources():
        sha.update(name.encode() + b"\0")
        sha.update(path.read_bytes())
    return sha.hexdigest()


def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the source that runs and whether it is changed; None, None outside git.

    An installed copy belongs to the checkout in the current folder if it was built from there.
    """
    for folder in (PACKAGE.parent, Path.cwd()):
        if not (folder / "harness" / "storage" / "provenance.py").is_file():
            continue
        head = _git(folder, "rev-parse", "HEAD")
        if head is not None:
            changed = _git(folder, "status", "--porcelain", "--", "harness", "models", "suites")
            same = all(
                (folder / name).is_file() and (folder / name).read_bytes() == path.read_bytes()
                for name, path in sources()
            )
            return head, bool(changed) or not same
    return None, None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command_line() -> str:
    """Return the command that runs, as a person would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
