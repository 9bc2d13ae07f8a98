"""Where weights lie; state dicts in, state dicts out, as safetensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from harness.files import Damaged, read_tensors, write_tensors


def safe(name: str) -> str:
    """Return a model's or data set's name as one word that any file system takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def weights_path(results: Path, dataset: str, model: str, seed: int) -> Path:
    """Return where the weights of a trained model lie."""
    return results / "checkpoints" / safe(dataset) / safe(model) / f"seed{seed}.safetensors"


def write(path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a state dict with what it is of."""
    write_tensors(path, state, description)


def read(path: Path, *, foreign: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a state dict and its description.

    Args:
        foreign: Whether a file from elsewhere will do; its description is empty.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or no safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights at {path}. Check the path.")
    try:
        return read_tensors(path, foreign=foreign)
    except Damaged as error:
        raise ValueError(f"{error} Remove it and train again, or fetch it again.") from None


def load(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put `state` into `model`, every tensor of it and no other.

    A bare network's state also fits a model that wraps exactly that network as `net`.

    Raises:
        ValueError: Names or shapes differ.
    """
    targets = [model, *(m for name, m in model.named_children() if name == "net")]
    for target in targets:
        own = target.state_dict()
        if own.keys() == state.keys():
            wrong = [k for k in own if own[k].shape != state[k].shape]
            if wrong:
                k = wrong[-1]
                raise ValueError(
                    f"The weights in {where} do not fit: `{k}` has shape {tuple(state[k].shape)}, "
                    f"the model's is {tuple(own[k].shape)}. Give the `--width` and the data set "
                    "that they were trained with."
                )
            target.load_state_dict(state)
            return
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    name, side = (missing[0], "lack") if missing else (extra[0], "have an unknown")
    raise ValueError(
        f"The weights in {where} are of another model: they {side} `{name}`. Give the `--model` "
        "that they were trained with."
    )
