"""Where weights lie; state dicts in, state dicts out, as safetensors with a checksum.

Weights of other programs are read by `foreign_weights`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from harness.models.base import Fitted
from harness.refusal import Refusal
from harness.storage.arrays import HEADER, Damaged, digest_of, read_description
from harness.storage.files import canonical, safe, write_bytes
from harness.storage.foreign_weights import AGAIN, describe_types, find_misfit, fit, read_foreign

# What files of weights are called, in the order of being looked for.
FILES = ("model.safetensors", "*.safetensors", "pytorch_model.bin", "*.bin", "*.pth", "*.pt")


def weights_path(root: Path, dataset: str, model: str, seed: int) -> Path:
    """Return where the weights of a trained model lie below a folder of them."""
    return root / safe(dataset) / safe(model) / f"seed{seed}.safetensors"


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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in `path` by name and their description, less the checksum.

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
    if digest(tensors, description) != expected:
        raise Damaged(f"{path} does not match its checksum.")
    return tensors, description


def find_file(path: Path) -> Path:
    """Return the file of weights that a folder of a hub holds; a file is its own.

    Raises:
        Refusal: It holds none, or several that could be meant.
    """
    if not path.is_dir():
        return path
    if any(path.glob("*.index.json")):
        raise Refusal(
            f"The weights in {path} are in several parts. Join them into one file: load the model "
            "with the library that saved it, and save its `state_dict()`."
        )
    for pattern in FILES:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise Refusal(f"{path} holds several files of weights, such as {found[0]}. Give one.")
    raise Refusal(f"{path} holds no file of weights, such as {FILES[0]}. Give the file itself.")


def read(path: Path, *, foreign: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a state dict and its description.

    Args:
        foreign: Whether a file from elsewhere will do; its description is `notes`, sentences on
            what was taken of it.

    Raises:
        Refusal: There is no such file.
        Refusal: It is damaged, or holds no weights.
    """
    if path.is_dir():
        raise Refusal(f"{path} is a folder. Give the file of weights in it.")
    if not path.is_file():
        raise Refusal(f"There are no weights at {path}. Check the path.")
    if foreign and not _is_ours(path):
        state, notes = read_foreign(path)
        return state, {"notes": [_sentence(path, notes)]} if notes else {}
    cure = AGAIN if foreign else "Move it elsewhere, and the same command trains again."
    try:
        state, description = read_tensors(path)
    except Damaged as error:
        raise Refusal(f"{error} {cure}") from None
    if "recipe" in description and not _is_of_training(description):
        raise Refusal(f"{path} says of its training what `harness train` never writes. {cure}")
    return state, description


def _is_of_training(description: Mapping[str, Any]) -> bool:
    """Whether a description has what is read of it; a stranger's checksum vouches for anything."""
    kinds = {"model": str, "dataset": str, "seed": int, "arguments": dict, "recipe": dict}
    if "code" in description:
        kinds |= {"code": dict, "data": str}
    if not all(isinstance(description.get(name), kind) for name, kind in kinds.items()):
        return False
    texts, recipe = description.get("code", {}).values(), description["recipe"]
    width = description["arguments"].get("width", 1)
    whole = isinstance(recipe.get("epochs"), int) and isinstance(width, int) and width > 0
    return whole and all(isinstance(text, str) for text in texts)


def _is_ours(path: Path) -> bool:
    """Whether a file has a checksum of ours."""
    try:
        return "sha256" in read_description(path)
    except Damaged:
        return False


def read_recipe(path: Path, *, foreign: bool = False) -> dict[str, Any]:
    """Return the description of a state dict, verified as by `read`."""
    return read(path, foreign=foreign)[1]


def load(model: nn.Module, state: Mapping[str, Tensor], where: str) -> list[str]:
    """Put `state` into `model`, every tensor of it and no other.

    A bare network's state also fits a model that wraps exactly that network as `net`.

    Returns:
        Sentences on how names and types were fitted; empty where they were the model's.

    Raises:
        Refusal: Names, shapes or kinds of numbers differ.
    """
    misfit = ""
    for target in (model, *_wrapped(model)):
        own = target.state_dict()
        fitted, notes = fit(own, state)
        problem = find_misfit(_sized(target, own, fitted), fitted)
        if not problem:
            target.load_state_dict(fitted)
            notes += describe_types(own, fitted)
            return [_sentence(where, notes)] if notes else []
        misfit = misfit or problem
    raise Refusal(f"The weights in {where} {misfit}")


def _sized(
    model: nn.Module, own: Mapping[str, Tensor], fitted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A model's state, with what has the size of its training set in the size that is loaded."""
    free = isinstance(model, Fitted)
    return {
        name: v.new_empty(fitted[name].shape) if free and name in fitted else v
        for name, v in own.items()
    }


def _wrapped(model: nn.Module) -> list[nn.Module]:
    """The network that a model wraps as `net`, where nothing else in it has a state."""
    alone = all(name.startswith("net.") for name in model.state_dict())
    return [m for name, m in model.named_children() if name == "net" and alone]


def _sentence(where: Path | str, notes: Sequence[str]) -> str:
    return f"Of the weights in {where}, {'; '.join(notes)}."
