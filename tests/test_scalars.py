from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from harness.cli import app


def train(here: Path, *arguments: str) -> None:
    asked = ["train", "--model", "resnet18", "--width", "8", "--results", str(here / "results")]
    result = CliRunner().invoke(app, [*asked, "--tensorboard", str(here / "tb"), *arguments])
    assert result.exit_code == 0, result.output


def test_a_training_writes_its_scalars(tmp_path: Path) -> None:
    train(tmp_path, "--epochs", "2", "--seed", "3")
    read = EventAccumulator(str(tmp_path / "tb/digits/resnet18/seed3"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {
        *("loss", "accuracy", "learning rate", "images per second"),
    }
    loss = read.Scalars("loss")
    assert [s.step for s in loss][-1] == 44  # 2 epochs of 22 steps
    assert 0 < loss[-1].value < loss[0].value
    rate = read.Scalars("learning rate")[-1].value
    assert rate == pytest.approx(0.0256 / 35.2, rel=0.05)  # the last step of the triangle
    assert all(s.value > 0 for s in read.Scalars("images per second"))


def test_without_tensorboard_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.running.options.find_spec", lambda name: None)
    asked = ["train", "--model", "resnet18", "--tensorboard", "t", "--results", str(tmp_path)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2 and not list(tmp_path.iterdir())
    assert 'Run `pip install "diffeq-harness[tensorboard]"`' in result.stderr
