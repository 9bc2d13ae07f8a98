"""Weights as other people have them."""

import argparse
import datetime
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from harness.models.lookup import source
from harness.refusal import Refusal
from harness.storage import checkpoints


class Net(nn.Module):
    """Three layers, of which the last two are one."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).mean((2, 3))
        return self.head(self.second(self.first(x).relu()).relu())


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module, more: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net
        if more is not None:
            self.more = more

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


@pytest.fixture
def net() -> Net:
    made = Net()
    made(torch.rand(8, 3, 16, 16))  # statistics of its own
    return made.eval()


def evaluate(model: nn.Module, path: Path) -> tuple[Tensor, list[str]]:
    """What a model answers with the weights of a file, and all notes on them."""
    state, description = checkpoints.read(path, foreign=True)
    notes = [*description.get("notes", []), *checkpoints.load(model, state, str(path))]
    return model.eval()(torch.ones(2, 3, 16, 16)), notes


def expect(model: nn.Module) -> Tensor:
    return model(torch.ones(2, 3, 16, 16))


def renamed(state: dict[str, Tensor], change: Callable[[str], str]) -> dict[str, Tensor]:
    return {change(name): values for name, values in state.items()}


WRAPPED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "bare": (lambda s: s, ""),
    "ordered": (OrderedDict, ""),
    "state_dict": (lambda s: {"epoch": 3, "state_dict": s, "best": 0.9}, "`state_dict` is taken."),
    "model": (lambda s: {"model": s, "optimizer": {"state": {0: s}}}, "`model` is taken."),
    "options and scores": (
        lambda s: {"net": s, "args": argparse.Namespace(lr=1), "acc": [np.float64(9), np.int64(1)]},
        "`net` is taken.",
    ),
    "twice": (lambda s: {"net": {"state_dict": s}}, "`net` is taken; `state_dict` is taken."),
    "averaged": (
        lambda s: {"ema": renamed(s, str.upper), "model": s},
        "`model` is taken, not `ema`.",
    ),
    "averaged alone": (lambda s: {"ema": s, "epoch": 1}, "`ema` is taken."),
    "mixed": (lambda s: s | {"epoch": 3, "args": None}, "`epoch`, `args` is left out."),
    "parallel": (
        lambda s: renamed(s, lambda k: f"module.{k}"),
        "`module.` is taken off their names.",
    ),
    "compiled and parallel": (
        lambda s: renamed(s, lambda k: f"_orig_mod.module.{k}"),
        "`_orig_mod.module.` is taken off their names.",
    ),
    "lightning": (
        lambda s: {"state_dict": renamed(s, lambda k: f"model.{k}"), "callbacks": {}},
        "`model.` is taken off their names.",
    ),
    "a part compiled": (
        lambda s: renamed(s, lambda k: k.replace("stem.", "stem._orig_mod.")),
        "`_orig_mod.` is taken out of their names.",
    ),
    "swa": (
        lambda s: renamed(s, lambda k: f"module.{k}") | {"n_averaged": torch.tensor(5)},
        "`module.` is taken off their names.",
    ),
    "half": (
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
        "float16 becomes float32.",
    ),
    "old batch norm": (
        lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
        "`num_batches_tracked`, which they lack, is not used in an evaluation.",
    ),
    "one of two names": (
        lambda s: {k: v for k, v in s.items() if k != "first.weight"},
        "`first.weight` is `second.weight`, as in the model.",
    ),
}


@pytest.mark.parametrize("way", WRAPPED)
@pytest.mark.parametrize("ending", ["pth", "ckpt", "safetensors"])  # the name says nothing
def test_weights_of_torch_save_are_read(tmp_path: Path, net: Net, way: str, ending: str) -> None:
    wrap, note = WRAPPED[way]
    torch.save(wrap(net.state_dict()), tmp_path / f"best.{ending}")
    answers, notes = evaluate(Net(), tmp_path / f"best.{ending}")
    tolerance = 5e-3 if way == "half" else 0
    torch.testing.assert_close(answers, expect(net), rtol=tolerance, atol=tolerance)
    assert bool(notes) == bool(note) and " ".join(notes).endswith(note)


def test_a_file_of_the_old_format_is_read(tmp_path: Path, net: Net) -> None:
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(evaluate(Net(), tmp_path / "old.pt")[0], expect(net))


def test_what_safetensors_makes_of_shared_weights_is_read(tmp_path: Path, net: Net) -> None:
    safetensors.torch.save_model(net, str(tmp_path / "net.bin"))
    answers, notes = evaluate(Net(), tmp_path / "net.bin")
    assert torch.equal(answers, expect(net)) and "as in the model" in notes[0]
    apart = Net()
    apart.second.weight = nn.Parameter(torch.zeros(6, 6))
    with pytest.raises(Refusal, match="of another model: they lack `second.weight`. Give the `-"):
        evaluate(apart, tmp_path / "net.bin")


def test_shared_weights_that_differ_in_the_file_are_refused(tmp_path: Path, net: Net) -> None:
    state = net.state_dict() | {"second.weight": torch.zeros(6, 6)}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(Refusal, match="one tensor as `first.weight` and `second.weight`, which d"):
        evaluate(Net(), tmp_path / "a.pt")


def test_a_wrapper_takes_the_weights_of_its_network_alone(tmp_path: Path, net: Net) -> None:
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert torch.equal(evaluate(Wrapper(Net()), tmp_path / "a.pt")[0], expect(net))
    with pytest.raises(Refusal, match="are of another model: they lack `more.bias`, `more.weight`"):
        evaluate(Wrapper(Net(), nn.Linear(2, 2)), tmp_path / "a.pt")
    state = renamed(net.state_dict(), lambda k: f"net.{k}")
    torch.save({k: v for k, v in state.items() if k != "net.first.weight"}, tmp_path / "b.pt")
    assert torch.equal(evaluate(Wrapper(Net()), tmp_path / "b.pt")[0], expect(net))


def test_a_network_of_timm_takes_the_weights_that_timm_has(tmp_path: Path) -> None:
    model = source("timm/test_resnet").build(num_classes=4).eval()
    torch.save(renamed(model.state_dict(), lambda k: f"module.{k}"), tmp_path / "a.pth.tar")
    fresh = source("timm/test_resnet").build(num_classes=4)
    images = torch.rand(2, 3, 64, 64)
    state, _ = checkpoints.read(tmp_path / "a.pth.tar", foreign=True)
    checkpoints.load(fresh, state, "")
    assert torch.equal(fresh.eval()(images), model(images))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda s: {k: v for k, v in s.items() if "stem" not in k},
            r"are of another model: they lack `stem.0.bias`, `stem.0.weight`, `stem.1.bias` and \d "
            "more. Give the `--model`",
        ),
        (
            lambda s: s | {"total_ops": torch.zeros(1)},
            "are of another model: they have `total_ops`, unknown to it. Give",
        ),
        (
            lambda s: renamed(s, lambda k: f"encoder.{k}"),
            "they lack .* and have `encoder.first.bias",
        ),
        (
            lambda s: Net(10).state_dict(),
            "have 10 rows in `head.weight`, `head.bias`, the model 4. If these are classes, say",
        ),
        (
            lambda s: s | {"head.bias": torch.zeros(4, dtype=torch.int8)},
            "`head.bias` holds torch.int8, the model torch.float32. Give weights that are not quan",
        ),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, net: Net, change: Callable, message: str
) -> None:
    torch.save(change(net.state_dict()), tmp_path / "a.pt")
    with pytest.raises(Refusal, match=message):
        evaluate(Net(), tmp_path / "a.pt")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_objects_are_never_loaded(tmp_path: Path, net: Net, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    state = net.state_dict()
    for name, content in (
        ("whole.pt", net),
        ("options.pt", {"model": state, "when": datetime.date(2026, 1, 1)}),
        ("evil.pt", {"model": state, "x": Evil()}),
    ):
        torch.save(content, name)
        with pytest.raises(Refusal, match=rf"{name} holds Python objects.*Save the weights alone"):
            checkpoints.read(Path(name), foreign=True)
    Path("plain.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Refusal, match="plain.pt (holds|is)"):
        checkpoints.read(Path("plain.pt"), foreign=True)
    assert not Path("ran").exists()
    with pytest.raises(Refusal, match=re.escape("(datetime.date)")):
        checkpoints.read(Path("options.pt"), foreign=True)


def test_what_holds_no_weights_is_refused_in_true_words(tmp_path: Path, net: Net) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "log.pt")
    torch.save(net.state_dict(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-400])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    safetensors.torch.save_file(net.stem.state_dict(), tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-9])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.txt", "no weights")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "script.pt": "is a TorchScript program, not weights. Save those",
        "list.pt": "holds no weights by name: it is a list. Save `model.state_dict",
        "log.pt": "holds no weights by name: it has `epoch`, `loss`",
        "cut.pt": "is cut off or damaged",
        "other.zip": "is cut off or damaged, or holds no weights",
        "empty.pt": "is empty",
        "lfs.safetensors": "is a Git LFS pointer",
        "page.safetensors": "is text",
        "cut.safetensors": "holds no weights that can be read, or is damaged",
        "folder": "is a folder. Give the file of weights in it",
        "gone.pt": "There are no weights at",
    }.items():
        with pytest.raises(Refusal, match=message) as caught:
            checkpoints.read(tmp_path / name, foreign=True)
        assert "emove" not in str(caught.value) and name in str(caught.value)


def test_a_description_without_a_checksum_is_not_believed(tmp_path: Path, net: Net) -> None:
    header = {"harness": '{"recipe": {"epochs": 9}, "model": "m"}'}
    safetensors.torch.save_file(net.stem.state_dict(), tmp_path / "a.safetensors", header)
    assert checkpoints.read(tmp_path / "a.safetensors", foreign=True)[1] == {}
    with pytest.raises(
        Refusal, match="does not match its checksum. Move it elsewhere, and the sam"
    ):
        checkpoints.read(tmp_path / "a.safetensors")
