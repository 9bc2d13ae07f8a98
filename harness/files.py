"""Files that are written whole or not at all, and tensors that carry their own checksum.

Tensors lie in safetensors files. The header's one entry, "harness", is JSON: `sha256` over the
tensors and everything else in it. Nothing is ever unpickled.
"""

import glob
import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

HEADER = "harness"
HOST = re.sub(r"\W", "-", platform.node())


class Damaged(ValueError):
    """A file that is not what was written."""


def canonical(description: Mapping[str, Any]) -> str:
    """Return `description` as JSON that is the same for equal descriptions."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"))


def digest(tensors: Mapping[str, Tensor], description: Mapping[str, Any] | None = None) -> str:
    """Return the SHA-256 of named tensors, their shapes and types, and a description."""
    sha = hashlib.sha256(canonical(description or {}).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON-able description of them, with a checksum over both."""
    header = dict(description) | {"sha256": digest(tensors, description)}
    # Clones: safetensors refuses tensors that share memory.
    content = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_bytes(path, save(content, {HEADER: canonical(header)}))


def read_description(path: Path) -> dict[str, Any]:
    """Return the description in the header of `path` with its `sha256`; empty for foreign files.

    Raises:
        Damaged: It is no safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not a safetensors file, or is damaged: {error}.") from None
    if not isinstance(description, dict):
        raise Damaged(f"{path} is damaged: its header is no description.")
    return description


def read_tensors(path: Path, *, foreign: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in `path` by name and their description, less the checksum.

    Args:
        foreign: Whether a file without a checksum, written by others, will do.

    Raises:
        Damaged: It is no safetensors file, or does not match its checksum.
    """
    description = read_description(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged: {error}.") from None
    expected = description.pop("sha256", None)
    if expected is None and foreign:
        return tensors, description
    if digest(tensors, description) != expected:
        raise Damaged(f"{path} does not match its checksum.")
    return tensors, description
