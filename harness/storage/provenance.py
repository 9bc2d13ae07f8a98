"""What made a row: command, commit, and the source of the program."""

import base64
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "diffeq-harness"  # on package indexes, where `harness` is somebody else's
PACKAGE = Path(__file__).resolve().parent.parent  # the folder `harness`
PARTS = ("harness", "models", "suites")  # of a checkout
# With these, no settings make git run another program, fetch, or show other objects.
SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}


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
    """Return the commit of the source that runs and whether it is changed; None, None without one.

    It is that of this program's own checkout, or the one that was recorded when it was installed:
    never that of another repository, in which the current folder, an environment or a copy lies.
    """
    if _is_checkout(PACKAGE.parent):
        return _commit_of(PACKAGE.parent)
    for found in metadata.distributions(name=DISTRIBUTION):
        if Path(str(found.locate_file("harness"))).resolve() == PACKAGE:
            return _commit_of_installed(found)
    return None, None


def _is_checkout(folder: Path) -> bool:
    """Whether a folder, and not one above it, is a repository of this program."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        return project["project"]["name"] == DISTRIBUTION and (folder / ".git").exists()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _commit_of_installed(found: metadata.Distribution) -> tuple[str | None, bool | None]:
    """The commit of an installed copy, from the notes of the installer (PEP 610)."""
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    head, url = origin.get("vcs_info", {}).get("commit_id"), origin.get("url", "")
    if head is not None and found.files:
        return head, any(_is_edited(file) for file in found.files if file.hash)
    folder = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    if not url.startswith("file:") or not _is_checkout(folder):
        return None, None
    same = all(_read(folder / name) == path.read_bytes() for name, path in sources())
    return _commit_of(folder) if same else (None, None)


def _is_edited(file: metadata.PackagePath) -> bool:
    """Whether an installed file is not what was installed."""
    assert file.hash is not None
    digest = hashlib.new(file.hash.mode, _read(Path(str(file.locate()))) or b"").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value


def _commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout and whether its files are other; None, None if they are not in it.

    Git only prints what is stored. `git status` would run what a repository names, file monitors
    and filters, so the files are compared here.
    """
    head = _git(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
    tree = _git(folder, "ls-tree", "-r", "-z", "--full-tree", head, "--", *PARTS) if head else ""
    stored = {}
    for line in filter(None, tree.split("\0")):
        kind, _, path = line.partition("\t")
        mode, _, name = kind.split()
        if mode.startswith("100"):  # a file; no link
            stored[path] = name
    if "harness/storage/provenance.py" not in stored:
        return None, None
    added = {name for name, _ in sources()} - stored.keys()
    return head, bool(added) or any(not _is_blob(folder / p, n) for p, n in stored.items())


def _is_blob(path: Path, name: str) -> bool:
    """Whether git stores the content of a file, whatever its ends of lines, by this name."""
    content = _read(path) or b""
    return name in {
        hashlib.new(
            "sha1" if len(name) == 40 else "sha256", b"blob %d\0%b" % (len(c), c)
        ).hexdigest()
        for c in (content, content.replace(b"\r\n", b"\n"))
    }


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _git(folder: Path, *arguments: str) -> str:
    """What git prints of the repository in a folder and of no other; empty if it cannot."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | SETTINGS
    command = ["git", "--no-pager", f"--git-dir={folder / '.git'}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
    except OSError:
        return ""
    return os.fsdecode(done.stdout) if done.returncode == 0 else ""


def command_line() -> str:
    """Return the command that runs, as a person would type it, in one line of printable text."""
    return " ".join(map(_quote, [Path(sys.argv[0]).name, *sys.argv[1:]]))


def _quote(argument: str) -> str:
    """An argument for a shell; characters that cannot be shown as Bash writes them, `$'\\x0a'`."""
    if argument.isprintable():
        return shlex.quote(argument)
    shown = (
        c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
        for c in argument.replace("\\", "\\\\").replace("'", "\\'")
    )
    return f"$'{''.join(shown)}'"
