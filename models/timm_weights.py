"""Published weights of timm: from this machine's cache, else from the Hugging Face hub.

Where they are in neither, a name of weights is refused at once; it is never a random beginning.
Weights are safetensors: a pickle, which can run any program, is refused before timm sees it.
"""

import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError
from safetensors import SafetensorError
from torch import nn

from harness.models.registry import unknown

FILES = ("model.safetensors", "open_clip_model.safetensors")  # as timm calls them on the hub
PICKLES = (".bin", ".pth", ".pt", ".tar", ".ckpt", ".pkl")
HUB, FOLDER = "hf-hub:", "local-dir:"
# Whatever a configuration from elsewhere says, weights come out of the file that was found here.
SAFE = {"source": "file", "state_dict": None, "custom_load": False}
# What timm raises over a configuration or weights that it cannot use.
FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    SafetensorError,
)
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
    """Return a network of timm with its weights, out of safetensors alone.

    Args:
        architecture: "NAME.TAG", "hf-hub:OWNER/NAME" or "local-dir:FOLDER".

    Raises:
        FileNotFoundError: The weights are not on this machine, and the hub cannot be reached.
        ValueError: They cannot be loaded, or are a pickle.
    """
    overlay = {**SAFE, "file": _find_weights(architecture)}
    try:
        return timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay)
    except FAILURES as error:
        raise _failed(architecture, error) from None


def _failed(architecture: str, error: Exception) -> ValueError:
    what = str(error).strip().partition("\n")[0].rstrip(".")
    return ValueError(
        f"The weights of `timm/{architecture}` cannot be loaded: {what}. Check the name, or "
        "give a file of them with `--weights`."
    )


def _pickled(architecture: str, where: object) -> ValueError:
    return ValueError(
        f"The weights of `timm/{architecture}` are not there as safetensors but as a pickle, "
        f"which can run any program: {where}. Save them as safetensors, or give the file with "
        "`--weights`, which reads its numbers alone."
    )


def _find_weights(architecture: str) -> str:
    """Return the file of an architecture's weights, a safetensors; from the hub if it must be."""
    if architecture.startswith(FOLDER):
        return _in_folder(architecture)
    if architecture.startswith(HUB):
        repository = architecture.removeprefix(HUB)
    else:
        config = timm.get_pretrained_cfg(architecture)
        if config is None or not config.hf_hub_id:
            raise _pickled(architecture, config.url if config else "timm has no address")
        repository = config.hf_hub_id
    owner_and_name, _, revision = repository.partition("@")
    for name in FILES:
        found = try_to_load_from_cache(
            owner_and_name, name, constants.HF_HUB_CACHE, revision or None
        )
        if isinstance(found, str):
            return found
    if not _is_reachable():
        raise FileNotFoundError(
            f"The weights of `timm/{architecture}` are not on this machine, and "
            f"{constants.ENDPOINT} cannot be reached. Run `hf download {owner_and_name}` where it "
            f"can, and copy the folder that it fills into {constants.HF_HUB_CACHE}."
        )
    try:
        return _download(owner_and_name, revision)
    except OSError as error:
        raise _failed(architecture, error) from None
    except LookupError as error:
        raise _pickled(architecture, error) from None


def _download(owner_and_name: str, revision: str) -> str:
    """Download the safetensors of a repository; its pickles stay there."""
    for name in FILES:
        try:
            return hf_hub_download(owner_and_name, name, revision=revision or None)
        except EntryNotFoundError as error:
            if isinstance(error, FileNotFoundError):  # the hub went away
                raise
    raise LookupError(f"{constants.ENDPOINT}/{owner_and_name} has no {FILES[0]}")


def _in_folder(architecture: str) -> str:
    """The safetensors of a folder; timm itself would prefer some pickles."""
    folder = Path(architecture.removeprefix(FOLDER))
    found = sorted(folder.glob("*.safetensors"), key=lambda path: (path.name not in FILES, path))
    if found:
        return str(found[0])
    pickles = sorted(path for path in folder.glob("*") if path.suffix in PICKLES)
    if pickles:
        raise _pickled(architecture, pickles[0])
    raise _failed(architecture, FileNotFoundError(f"{folder} holds no {FILES[0]}"))


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
