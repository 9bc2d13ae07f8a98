"""Published weights of timm: from this machine's cache, else from the Hugging Face hub.

Where they are in neither, a name of weights is refused at once; it is never a random beginning.
"""

import urllib.request
from pickle import UnpicklingError
from typing import Any
from urllib.error import HTTPError

import timm
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn

from harness.models.registry import unknown

FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm looks for them
HUB = "hf-hub:"
SECONDS = 5.0  # that the hub may take to answer


def check_tag(architecture: str) -> None:
    """Refuse "NAME.TAG" of which there are no weights.

    Raises:
        LookupError: There is no such tag.
    """
    name, _, tag = architecture.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag not in tags:
        kind = f"published weights of timm's `{name}`"
        if not tags:
            raise LookupError(
                f"There are no {kind}, and so none called `{tag}`. Leave out `.{tag}` to train it "
                "from scratch."
            )
        raise unknown(f"tag among the {kind}", tag, tags)


def load_pretrained(architecture: str) -> nn.Module:
    """Return a network of timm with its weights.

    Args:
        architecture: "NAME.TAG", "hf-hub:OWNER/NAME" or "local-dir:FOLDER".

    Raises:
        FileNotFoundError: The weights are not on this machine, and the hub cannot be reached.
        ValueError: They cannot be loaded.
    """
    given: dict[str, Any] = {}
    if architecture.startswith(HUB):
        _check_hub(architecture.removeprefix(HUB), ("config.json",), architecture)
    elif (config := timm.get_pretrained_cfg(architecture)) is not None and config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
        file = _check_hub(config.hf_hub_id, names, architecture)
        if file is not None:  # and the hub is not asked
            given["pretrained_cfg_overlay"] = {"file": file}
    try:
        return timm.create_model(architecture, pretrained=True, **given)
    except (OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        what = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The weights of `timm/{architecture}` cannot be loaded: {what}. Check the name, or "
            "give a file of them with `--weights`."
        ) from None


def _check_hub(repository: str, names: tuple[str, ...], architecture: str) -> str | None:
    """Return the first of a repository's files that is in the cache, None if it can be fetched."""
    owner_and_name, _, revision = repository.partition("@")
    for name in names:
        found = try_to_load_from_cache(owner_and_name, name, revision=revision or None)
        if isinstance(found, str):
            return found
    if not _is_reachable():
        raise FileNotFoundError(
            f"The weights of `timm/{architecture}` are not on this machine, and "
            f"{constants.ENDPOINT} cannot be reached. Run `hf download {owner_and_name}` where it "
            f"can, and copy the folder that it fills into {constants.HF_HUB_CACHE}."
        )
    return None


def _is_reachable() -> bool:
    """Return whether the hub answers; asked once, since its own client asks for a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True
