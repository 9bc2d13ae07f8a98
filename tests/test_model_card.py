import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from harness.cli import app
from harness.models import in_timm  # noqa: F401  registers the names
from harness.models.ode_block import ode_block
from harness.running.initial import initialize
from harness.storage import checkpoints

MODEL = "ode_block(num_steps=3, solver='euler')"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("export")
    run(here, "run", "--suite", "clean", "--width", "8", "--epochs", "1")
    run(here, "export", "--to", str(here / "out"))
    return here


def run(here: Path, command: str, *arguments: str) -> str:
    asked = [command, "--model", MODEL, *arguments, "--results", str(here / "results")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_weights_are_those_of_the_training(exported: Path) -> None:
    path = checkpoints.weights_path(exported / "results/checkpoints", "digits", MODEL, 0)
    own, given = checkpoints.read(path)[0], load_file(exported / "out/model.safetensors")
    assert own.keys() == given.keys() and all(torch.equal(own[k], given[k]) for k in own)


def test_timm_builds_and_loads_it(exported: Path) -> None:
    model = timm.create_model(f"local-dir:{exported / 'out'}", pretrained=True).eval()
    own = initialize(lambda: ode_block(num_steps=3, solver="euler", width=8), 1)
    path = checkpoints.weights_path(exported / "results/checkpoints", "digits", MODEL, 0)
    checkpoints.load(own, checkpoints.read(path)[0], str(path))
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), own.eval()(images))
    assert model.pretrained_cfg["input_size"] == (3, 32, 32) and model.num_classes == 10


def test_the_same_weights_give_the_same_numbers(exported: Path) -> None:
    weights = str(exported / "out/model.safetensors")
    asked = ("--suite", "clean", "--width", "8", "--weights", weights, "--name", "again")
    run(exported, "run", *asked)
    rows = (exported / "results/digits/clean/again/seed0.csv").read_text().splitlines()[1:]
    (own,) = (exported / "results/digits/clean").glob("ode_block*/seed0.csv")
    expected = [line.split(",")[-7:-1] for line in own.read_text().splitlines()[1:]]
    assert [line.split(",")[-7:-1] for line in rows] == expected


def test_the_card_has_its_header_numbers_and_papers(exported: Path) -> None:
    card = (exported / "out/README.md").read_text()
    _, header, body = card.split("---\n", 2)
    told = {k: json.loads(v) for k, v in (line.split(": ", 1) for line in header.splitlines())}
    assert told["library_name"] == "timm" and told["datasets"] == ["digits"]
    (own,) = (exported / "results/digits/clean").glob("ode_block*/seed0.csv")
    accuracy = float(own.read_text().splitlines()[1].split(",")[-3])
    assert f"| {100 * accuracy:.1f} [" in body and "seed 0, width 8, 1 epochs" in body
    assert "## Papers" in body and "--weights model.safetensors --width 8" in body


def test_a_network_of_timm_is_exported_as_timm_takes_it(tmp_path: Path) -> None:
    model = ["--model", "timm/test_resnet", "--results", str(tmp_path / "r")]
    done = CliRunner().invoke(app, ["train", *model, "--epochs", "1"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["export", *model, "--to", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    net = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    cfg, usual = net.pretrained_cfg, timm.get_pretrained_cfg("test_resnet")
    told = [tuple(cfg[name]) for name in ("mean", "std", "input_size")]
    assert told == [usual.mean, usual.std, (3, 32, 32)]
    (path,) = (tmp_path / "r/checkpoints").rglob("*.safetensors")
    state = load_file(path)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    card = (tmp_path / "out/README.md").read_text()
    assert "Images go in as (N, 3, H, W), normalized by the mean 0.5, 0.5, 0.5" in card


def test_a_folder_of_other_files_and_missing_weights_are_refused(exported: Path) -> None:
    asked = ["export", "--results", str(exported / "results"), "--model", MODEL]
    other = CliRunner().invoke(app, [*asked, "--to", str(exported)])
    assert other.exit_code == 2 and "holds other files. Give a folder of its own" in other.stderr
    none = CliRunner().invoke(app, [*asked, "--seed", "7", "--to", str(exported / "x")])
    assert none.exit_code == 2 and "There are no weights for" in none.stderr
    assert not (exported / "x").exists()
