"""Halves of a data set, and trainings, that are not what a table would have a reader believe."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from harness.cli import app
from harness.refusal import Refusal
from harness.running.halves import count_seen
from harness.suites.datasets import Split

FILES = """
import numpy as np
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))

def images(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)

def seen(train, root):
    found = images(0)
    if train:
        found = np.concatenate([found[:30], images(1)])
    return found, np.arange(len(found)) % 4

def turned(train, root):
    return images(train), np.arange(40) % 2, ("cat", "dog") if train else ("dog", "cat")
"""


def split_of(values: list[int], classes: tuple[str, ...] = ("a", "b")) -> Split:
    """One image for each value, all of it that."""
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    return Split(images.contiguous(), torch.arange(len(values)) % 2, classes, flip=False)


def test_test_images_that_are_training_images_are_counted() -> None:
    training, test = split_of([1, 2, 3, 4, 5]), split_of([9, 4, 2, 8])
    assert count_seen("d", training, test) == 2
    assert count_seen("d", training, split_of([6, 7])) == 0
    assert count_seen("d", training, split_of([5, *range(6, 200)])) == 0, "one in two hundred"


@pytest.mark.parametrize(
    "classes, fact",
    [(("b", "a"), "class 0 is 'a' for training, 'b' after"), (("a",), "2 classes for training, 1")],
)
def test_classes_that_are_numbered_otherwise_are_refused(
    classes: tuple[str, ...], fact: str
) -> None:
    test = replace(split_of([1, 2]), classes=classes)
    with pytest.raises(Refusal, match=f"halves of `d` do not have the same classes: {fact}"):
        count_seen("d", split_of([1, 2]), test)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("files.py").write_text(FILES)
    return tmp_path


def harness(command: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_table_says_that_a_model_learned_from_its_test_images(here: Path) -> None:
    run = "run --suite clean --model files.py:tiny --epochs 1 --dataset files.py:"
    said = "30 of the 40 test images of seen are training images"
    assert said in harness(f"{run}seen")
    assert "30 test images of seen are training images: tiny learned from them" in harness("table")
    assert "do not have the same classes: class 0 is 'cat'" in harness(f"{run}turned", code=2)


def test_a_table_says_that_seeds_are_of_one_training(here: Path) -> None:
    save_file({"2.weight": torch.rand(10, 48), "2.bias": torch.zeros(10)}, "w.safetensors")
    for seed in (0, 1):
        harness(f"run --suite clean --model files.py:tiny --weights w.safetensors --seed {seed}")
    assert "Seeds 0, 1 of tiny (digits) have the same weights" in harness("table")
