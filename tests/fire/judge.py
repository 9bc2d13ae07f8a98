"""What a command left, against what it found and what it leaves undisturbed."""

import csv
import hashlib
import io
import json
import re
import xml.etree.ElementTree as xml
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from harness.storage.arrays import read_arrays
from harness.storage.packed_outcomes import _content
from tests.fire.trial import Said

Files = dict[str, bytes]
# What tells when, where and by which way something was made, and so differs between two times.
TOLD = {
    "command", "finished", "wall_s", "environment", "commit", "dirty", "sha256", "cells_measured",
    "rescored", "resumed", "place",
}  # fmt: skip
WHY = re.compile(
    "No space left|Input/output error|Read-only file system|Permission denied|"
    "[Ii]nterrupted|[Ss]topped|[Tt]erminated"
)
SENTENCES = re.compile(r".{10,}[.!] [A-Z`].{8,}\.")  # the fact, and the cure


def snapshot(folder: Path) -> Files:
    """The content of all files that are not hidden."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "/." not in f"/{name}" and "__pycache__" not in name:
            found[name] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files, which the next write of the same file, or `clean`, removes."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob(".*"))
        if path.is_file() and not path.name.endswith(".lock")
    ]


def normal(name: str, content: bytes) -> bytes:
    """A file without what is allowed to differ between two runs of one command."""
    if name.endswith(".json"):
        return json.dumps(_told(json.loads(content)), sort_keys=True).encode()
    if name.endswith(".png"):
        with Image.open(io.BytesIO(content)) as image:
            return hashlib.sha256(image.tobytes()).digest()
    return content


def _told(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _told(v) for k, v in content.items() if k not in TOLD}
    return [_told(v) for v in content] if isinstance(content, list) else content


def is_whole(folder: Path, name: str) -> bool:
    """Whether a file is what its kind has to be, from its first byte to its last."""
    path = folder / name
    content = path.read_bytes()
    if "/cells/" in name or name.endswith(".safetensors"):
        return _passes(lambda: read_arrays(path))
    kinds: dict[str, Callable[[], Any]] = {
        ".csv": lambda: _is_table(content.decode()),
        ".json": lambda: json.loads(content),
        ".png": lambda: Image.open(io.BytesIO(content)).load(),
        ".svg": lambda: xml.fromstring(content),
        ".xml": lambda: xml.fromstring(content),
        ".pdf": lambda: content.rstrip().endswith(b"%%EOF") or _fail(),
        ".html": lambda: content.rstrip().endswith(b"</html>") or _fail(),
        ".bits": lambda: _content(content) is not None or _fail(),
    }
    return _passes(kinds.get(path.suffix, lambda: content or _fail()))


def _is_table(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text)))
    assert text.endswith("\n") and len({len(row) for row in rows}) == 1


def _fail() -> None:
    raise ValueError


def _passes(check: Callable[[], Any]) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


def find_damage(folder: Path, before: Files, expected: Files) -> list[str]:
    """What is lost or torn: a file is as it was before or as it ought to become, and whole."""
    now = snapshot(folder)
    found = [
        f"lost: {name} is not there" for name in (before.keys() & expected.keys()) - now.keys()
    ]
    for name, content in now.items():
        if content in (before.get(name), expected.get(name)):
            continue
        if not is_whole(folder, name):
            found.append(f"torn: {name}")
        elif name in before and not is_expected(name, content, expected):
            found.append(f"lost: {name} is neither as before nor as it becomes")
    return found


def is_expected(name: str, content: bytes, expected: Files) -> bool:
    """Whether a file is what an undisturbed run leaves, but for times."""
    if name not in expected:
        return False
    return content == expected[name] or normal(name, content) == normal(name, expected[name])


def find_difference(folder: Path, expected: Files) -> list[str]:
    """How a folder differs from what an undisturbed run leaves."""
    now, found = snapshot(folder), []
    found += [f"lost: {name} is missing at last" for name in expected.keys() - now.keys()]
    found += [f"lost: {name} is there at last" for name in now.keys() - expected.keys()]
    for name in now.keys() & expected.keys():
        if not is_expected(name, now[name], expected):
            kind = "torn" if not is_whole(folder, name) else "lost"
            found.append(f"{kind}: {name} differs at last")
    return found


def find_words(said: Said, codes: tuple[int, ...], *, complete: bool, quiet: bool) -> list[str]:
    """What is wrong with what a command said: a traceback, silence, more than a sentence.

    Args:
        codes: Exit codes of a command that was stopped or refused.
        complete: Whether it did all that it does undisturbed.
        quiet: Whether it said nothing but errors.
    """
    lines = [line for line in said.err.splitlines() if line.strip()]
    if said.hung:
        return ["hung"]
    if "Traceback (most recent" in said.err or said.code == 70:
        return [f"traceback: {lines[:2]} ... {lines[-8:]}"]
    if said.code == 0:
        warned = any(WHY.search(line) for line in (said.out + said.err).splitlines())
        return [] if complete or warned else ["silent: exit code 0, but not all is there"]
    if said.code not in codes:
        return [f"silent: exit code {said.code} {lines[-1:]}"]
    last = lines[-1] if lines else ""
    if not (WHY.search(last) and SENTENCES.search(last)) or (quiet and len(lines) > 1):
        return [f"silent: not one sentence with fact and cure: {lines[-3:]}"]
    return []
