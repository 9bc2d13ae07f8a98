"""Where weights lie; state dicts in, state dicts out, as safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from harness.refusal import Refusal
from harness.storage.arrays import HEADER, Damaged, digest_of, read_description
from harness.storage.files import canonical, safe, write_bytes


def weights_path(results: Path, dataset: str, model: str, seed: int) -> Path:
    """Return where the weights of a trained model lie."""
    return results / "checkpoints" / safe(dataset) / safe(model) / f"seed{seed}.safetensors"


def digest(state: Mapping[str, Tensor], description: Mapping[str, Any] | None = None) -> str:
    """Return the SHA-256 of named tensors, their shapes and types, and a description."""
    whole = ((name, state[name].detach().cpu().contiguous()) for name in sorted(state))
    return digest_of(
        (
            (
                k,
                str(v.dtype).removeprefix("torch."),
                tuple(v.shape),
                v.reshape(-1).view(torch.uint8).numpy(),
            )
            for k, v in whole
        ),
        description,
    )


def write(path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a state dict and a JSON-able description of it, with a checksum over both."""
    header = dict(description) | {"sha256": digest(state, description)}
    # Clones: safetensors refuses tensors that share memory.
    content = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    write_bytes(path, save(content, {HEADER: canonical(header)}))


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


def read(path: Path, *, foreign: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a state dict and its description.

    Args:
        foreign: Whether a file from elsewhere will do; its description is empty.

    Raises:
        Refusal: There is no such file.
        Refusal: It is damaged, or no safetensors file.
    """
    if not path.is_file():
        raise Refusal(f"There are no weights at {path}. Check the path.")
    try:
        return read_tensors(path, foreign=foreign)
    except Damaged as error:
        raise Refusal(f"{error} Remove it and train again, or fetch it again.") from None


def read_recipe(path: Path, *, foreign: bool = False) -> dict[str, Any]:
    """Return the description of a state dict, verified as by `read`."""
    return read(path, foreign=foreign)[1]


def load(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put `state` into `model`, every tensor of it and no other.

    A bare network's state also fits a model that wraps exactly that network as `net`.

    Raises:
        Refusal: Names or shapes differ.
    """
    targets = [model, *(m for name, m in model.named_children() if name == "net")]
    for target in targets:
        own = target.state_dict()
        if own.keys() == state.keys():
            wrong = [k for k in own if own[k].shape != state[k].shape]
            if wrong:
                k = wrong[-1]
                raise Refusal(
                    f"The weights in {where} do not fit: `{k}` has shape {tuple(state[k].shape)}, "
                    f"the model's is {tuple(own[k].shape)}. Give the `--width` and the data set "
                    "that they were trained with."
                )
            target.load_state_dict(state)
            return
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    name, side = (missing[0], "lack") if missing else (extra[0], "have an unknown")
    raise Refusal(
        f"The weights in {where} are of another model: they {side} `{name}`. Give the `--model` "
        "that they were trained with."
    )
