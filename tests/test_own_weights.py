"""Weights as people have them: files, folders of hubs, builders that bring their own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import harness
from harness.cli import app
from harness.models.user_code import load_function
from harness.refusal import Refusal

NET = """
import torch
from torch import nn

def net(num_classes=10):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def other(num_classes=10):
    return net(num_classes)

def brought(num_classes=10):
    built = net(num_classes)
    built.load_state_dict(torch.load("one.pth", weights_only=True))
    return built
"""


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    draw = torch.Generator().manual_seed(0)
    found = [
        {"2.weight": torch.randn(10, 192, generator=draw), "2.bias": torch.zeros(10)}
        for _ in range(2)
    ]
    for name, state in zip(("one", "two"), found, strict=True):
        torch.save(state, f"{name}.pth")
        Path(name).mkdir()
        save_file(state, f"{name}/model.safetensors")
        Path(name, "config.json").write_text("{}")
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["run", "--suite", "clean", *arguments])


def made(name: str) -> dict:
    return json.loads(Path(f"results/digits/clean/{name}/seed0.json").read_text())


def test_each_model_has_its_weights(states: list) -> None:
    both = ("--model", "net.py:net", "--model", "net.py:other")
    result = run(*both, "--weights", "one.pth", "--weights", "two")
    assert result.exit_code == 0, result.output
    assert "The weights of two are those in two/model.safetensors." in result.stderr
    result = run("--model", "net.py:net", "--weights", "one/model.safetensors", "--name", "again")
    assert result.exit_code == 0, result.output
    assert made("net")["weights"] == made("again")["weights"] != made("other")["weights"]


@pytest.mark.parametrize("train", [(), ("--no-train",)])
def test_a_builder_that_brings_its_weights_is_evaluated_as_it_is(
    states: list, train: tuple[str, ...]
) -> None:
    result = run("--model", "net.py:brought", *train)
    assert result.exit_code == 0, result.output
    assert "training" not in result.stderr and not Path("results/checkpoints").exists()
    run("--model", "net.py:net", "--weights", "one.pth")
    assert made("brought")["weights"] == made("net")["weights"]
    assert made("brought")["origin"]["weights"] == {"of": "builder"}


def test_a_builder_that_brings_its_weights_is_trained_when_asked(states: list) -> None:
    result = run("--model", "net.py:brought", "--train", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "training 1 epochs" in result.stderr
    assert Path("results/checkpoints/digits/brought/seed0.safetensors").is_file()


def test_a_builder_that_begins_at_random_is_trained(states: list) -> None:
    assert run("--model", "net.py:net", "--no-train").exit_code == 2
    assert "training 1 epochs" in run("--model", "net.py:net", "--epochs", "1").stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--weights", "one.pth", "--weights", "two.pth"), "There are 2 `--weights` for 1 models"),
        (("--weights", "one.pth", "--seed", "0", "--seed", "1"), "of one training; got 2 seeds"),
        (("--weights", "."), "holds several files of weights, such as one.pth. Give one."),
        (("--weights", "none"), "none holds no file of weights, such as model.safetensors"),
        (("--weights", "parts"), "The weights in parts are in several parts. Join them"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    states: list, arguments: tuple[str, ...], message: str
) -> None:
    Path("none").mkdir()
    Path("parts").mkdir()
    Path("parts/model.safetensors.index.json").write_text("{}")
    result = run("--model", "net.py:net", *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("results").exists()


def test_python_takes_a_folder_too(states: list) -> None:
    net = load_function("net.py:net", "model").value

    rows = harness.evaluate(net, weights="one", suite="clean")
    again = harness.evaluate(net, weights="one.pth", suite="clean")
    assert rows["value"].tolist() == again["value"].tolist()
    with pytest.raises(Refusal, match="do not fit|lack"):
        harness.evaluate("resnet18", weights="one", suite="clean")
