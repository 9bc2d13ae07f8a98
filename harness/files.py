"""Files that are written whole or not at all, and tensors that carry their own checksum.

Tensors lie in safetensors files. The header's one entry, "harness", is JSON: `sha256` over the
tensors and everything else in it. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

HEADER = "harness"


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
            return json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{path} is not a safetensors file, or is damaged: {error}.") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in `path` and their description, less the checksum.

    Raises:
        Damaged: It is no safetensors file, or does not match its checksum.
    """
    description = read_description(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged: {error}.") from None
    expected = description.pop("sha256", None)
    if expected is not None and digest(tensors, description) != expected:
        raise Damaged(f"{path} does not match its checksum.")
    return tensors, description
