"""Weights that are pickles run nothing: they are refused before timm, or anybody, reads them."""

import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from harness.models import timm_weights
from harness.models.lookup import source
from harness.models.timm_weights import PICKLES

NAMES = (*(f"pytorch_model{ending}" for ending in PICKLES), "model.pth", "weights.pth.tar")


class Hostile:
    """What creates a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of timm without weights."""
    folder = tmp_path / "net"
    net = timm.create_model("test_resnet", num_classes=4)
    timm.models.save_for_hf(net, folder, model_args={}, safe_serialization=True)
    (folder / "model.safetensors").unlink()
    return folder


def change(folder: Path, **more: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["pretrained_cfg"] |= more.pop("pretrained_cfg", {})
    path.write_text(json.dumps(config | more))


def save(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    safetensors.torch.save_file(state, folder / name)
    return state


def built(folder: Path) -> nn.Module:
    return source(f"timm/local-dir:{folder}").build(num_classes=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_in_a_folder_is_refused_unread(
    tmp_path: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "written by the pickle"
    content = pickle.dumps(Hostile(target))
    (folder / name).write_bytes(content)
    pickle.loads(content)
    assert target.exists(), "it is hostile"
    target.unlink()
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("timm saw it"))
    with pytest.raises(ValueError, match=rf"a pickle, which can run any program: .*{name}. Save"):
        built(folder)
    assert not target.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "zzz.safetensors"])
def test_a_pickle_beside_safetensors_is_not_read(tmp_path: Path, folder: Path, name: str) -> None:
    target = tmp_path / "written by the pickle"
    for other in NAMES:
        (folder / other).write_bytes(pickle.dumps(Hostile(target)))
    state = save(folder, name)
    found = built(folder).state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert not target.exists()


@pytest.mark.parametrize(
    "more",
    [
        {"custom_load": True},
        {"file": "/evil.pth", "source": "file"},
        {"url": "http://127.0.0.1:9/evil.pth", "source": "", "hf_hub_id": None},
        {"hf_hub_id": "evil/net", "hf_hub_filename": "evil.bin", "source": "hf-hub"},
        {"state_dict": {"conv1.weight": [1]}, "source": ""},
    ],
)
def test_a_configuration_does_not_say_where_weights_are(
    folder: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle was read"))
    change(folder, pretrained_cfg=more)
    state = save(folder)
    found = built(folder).state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    "more",
    [
        {"architecture": "os.system"},
        {"architecture": 3},
        {"model_args": {"nonsense": 1}},
        {"model_args": [1]},
        {"pretrained_cfg": {"nonsense": 1}},
        {"model_args": {"checkpoint_path": "/evil.pth"}},
    ],
)
def test_a_configuration_that_says_nonsense_is_one_sentence(
    folder: Path, more: dict[str, object]
) -> None:
    save(folder)
    change(folder, **more)
    with pytest.raises(ValueError, match="cannot be loaded: .* Check the name, or give a file"):
        built(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"architecture": ', "\0"])
def test_a_configuration_that_is_none_is_one_sentence(folder: Path, content: str) -> None:
    save(folder)
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match="cannot be loaded: .* Check the name, or give a file"):
        built(folder)


def test_a_folder_without_weights_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="cannot be loaded: .* holds no model.safetensors"):
            built(place)


def test_the_pickles_of_the_hub_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class NotThere(timm_weights.EntryNotFoundError):
        def __init__(self) -> None:
            pass

    def download(repository: str, name: str, revision: str | None) -> str:
        asked.append(name)
        raise NotThere

    monkeypatch.setattr(timm_weights, "_is_reachable", lambda: True)
    monkeypatch.setattr(timm_weights, "hf_hub_download", download)
    monkeypatch.setattr(timm_weights, "try_to_load_from_cache", lambda *a, **k: None)
    for name in ("timm/hf-hub:somebody/net", "timm/test_resnet.r160_in1k"):
        with pytest.raises(ValueError, match="a pickle, which can run any .* has no model.safet"):
            source(name).build(num_classes=10)
    with pytest.raises(ValueError, match="as a pickle, which can run any program: https://.*pth"):
        source("timm/gcvit_tiny.in1k").build(num_classes=10)
    assert {name.rpartition(".")[2] for name in asked} == {"safetensors"}


def test_the_lowest_timm_that_is_allowed_loads_numbers_alone() -> None:
    """From 1.0.26 on `torch.load` gets `weights_only=True` wherever timm calls it for a model."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    assert '"timm>=1.0.26' in project.read_text()
