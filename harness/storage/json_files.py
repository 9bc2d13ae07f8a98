"""JSON files that vouch for themselves: their last field is a SHA-256 over all others."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.files import canonical, write_bytes

CHECKSUM = "sha256"


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a file says; it does not depend on spaces or order."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()


def as_bytes(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of `content` and its checksum."""
    said: dict[str, Any] = json.loads(json.dumps(content))  # as it is read: tuples are lists
    whole = said | {CHECKSUM: checksum(said)}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    # A lone surrogate, as of an argument that is not UTF-8, becomes its escape in JSON.
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` (JSON-able) with its checksum; `read_json` returns an equal one."""
    write_bytes(path, as_bytes(content))


def read_json(path: Path, cure: str) -> dict[str, Any]:
    """Return the content of a file without its checksum.

    Args:
        cure: What a person should do if it is damaged, a sentence.

    Raises:
        Refusal: There is no such file, it is no JSON object, or it is not what was written.
    """
    return parse_json(path, read_raw(path, cure), cure)


def read_raw(path: Path, cure: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        Refusal: There is no such file.
    """
    if not path.is_file():
        raise Refusal(f"There is no file {path}. {cure}")
    return path.read_bytes()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it says {text[:20]}, which is no finite number")
    return number


def parse_json(path: Path, raw: bytes, cure: str) -> dict[str, Any]:
    """Return the content of a file, as `read_json`, from its bytes."""
    try:
        content = json.loads(raw.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
        expected = checksum(content) if isinstance(content, dict) else None
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged: {error}. {cure}") from None
    if expected is None:
        raise Refusal(f"{path} is damaged: it is no JSON object. {cure}")
    if CHECKSUM not in content:
        raise Refusal(f"{path} has no checksum: an older version wrote it. {cure}")
    if content.pop(CHECKSUM) != expected:
        raise Refusal(f"{path} is not what was written: it does not match its checksum. {cure}")
    return content
