"""Arrays in a file that carries its own checksum.

They lie in safetensors files. The header's one entry, "harness", is JSON: `sha256` over the arrays
and everything else in it. Nothing is ever unpickled, and nothing here needs PyTorch.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from harness.storage.files import canonical, write_bytes

HEADER = "harness"


class Damaged(ValueError):
    """A file that is not what was written."""


def digest_of(
    named: Iterable[tuple[str, str, tuple[int, ...], np.ndarray]],
    description: Mapping[str, Any] | None = None,
) -> str:
    """Return the SHA-256 of (name, type, shape, bytes) in the order given, and a description."""
    sha = hashlib.sha256(canonical(description or {}).encode())
    for name, dtype, shape, content in named:
        sha.update(f"\n{name} torch.{dtype} {shape}\n".encode())
        sha.update(content.data)
    return sha.hexdigest()


def digest(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any] | None = None) -> str:
    """Return the SHA-256 of named arrays, their shapes and types, and a description."""
    whole = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    return digest_of(
        ((k, v.dtype.name, v.shape, v.reshape(-1).view(np.uint8)) for k, v in whole.items()),
        description,
    )


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON-able description of them, with a checksum over both."""
    header = dict(description) | {"sha256": digest(arrays, description)}
    content = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    write_bytes(path, save(content, {HEADER: canonical(header)}))


def read_description(path: Path) -> dict[str, Any]:
    """Return the description in the header of `path` with its `sha256`; empty for foreign files.

    Raises:
        Damaged: It is no safetensors file.
    """
    try:
        with safe_open(path, "np") as file:
            description = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not a safetensors file, or is damaged: {error}.") from None
    if not isinstance(description, dict):
        raise Damaged(f"{path} is damaged: its header is no description.")
    return description


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays in `path` by name and their description, less the checksum.

    Raises:
        Damaged: It is no safetensors file, or does not match its checksum.
    """
    raw = path.read_bytes()  # once: a table may be of 50,000 such files
    try:
        # Copies, since what is read may be changed.
        arrays = {name: array.copy() for name, array in sorted(load(raw).items())}
        end = 8 + int.from_bytes(raw[:8], "little")
        description = json.loads(json.loads(raw[8:end]).get("__metadata__", {}).get(HEADER, "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not a safetensors file, or is damaged: {error}.") from None
    except (TypeError, KeyError) as error:
        raise Damaged(f"{path} is damaged: {error}.") from None
    if not isinstance(description, dict):
        raise Damaged(f"{path} is damaged: its header is no description.")
    expected = description.pop("sha256", None)
    if digest(arrays, description) != expected:
        raise Damaged(f"{path} does not match its checksum.")
    return arrays, description
