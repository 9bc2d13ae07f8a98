"""Networks of other classes than a folder of pictures has."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from harness.cli import app

NET = """
from torch import nn

def net(num_classes=5):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
"""
COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    # Class 0 is of dark pictures, 4 of bright ones, and beats `blue` there.
    weight = torch.tensor([[-1.0, -1, -1], [0, 0, 4], [0, 4, 0], [4, 0, 0], [1, 1, 1]])
    bias = torch.tensor([1.0, 0, 0, 0, 2])
    torch.save({"state_dict": {"2.weight": weight, "2.bias": bias}}, "net.pth")
    Path("map.csv").write_text("folder,index\nred,3\ngreen,2\nblue,1\n,4\n")
    for name, color in COLORS.items():
        folder = Path("photos/test", name)
        folder.mkdir(parents=True)
        for i in range(6):
            level = 0.1 if name == "blue" else 0.8 + 0.02 * i
            pixels = np.full((32, 32, 3), 255 * level * np.array(color))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        (Path("photos/train") / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(Path("photos/train") / name / "0.png")
    return tmp_path


def ask(*arguments: str) -> Result:
    words = ["run", "--suite", "clean", "--model", "net.py:net", "--dataset", "photos=photos"]
    return CliRunner().invoke(app, [*words, *arguments])


def accuracies(path: str) -> dict[str, float]:
    rows = [line.split(",") for line in Path(path).read_text().splitlines()]
    return {row[7]: float(row[8]) for row in rows if row[6] == "accuracy"}


def test_folders_are_classes_of_the_network(here: Path) -> None:
    result = ask("--weights", "net.pth", "--labels", "map.csv")
    assert result.exit_code == 0, result.output
    assert "Of 5 classes the data set has 3: `blue` is 1, `green` is 2, `red` is 3." in (
        result.stderr
    )
    # 4 * .8 beats 2 + .8 for none of `red`, so that class 4 takes what is not bright enough.
    found = accuracies("results/photos/clean/net/seed0.csv")
    hits = [4 * level > 2 + level for level in 0.8 + 0.02 * np.arange(6)]
    assert found["class 1"] == 0 and found["class 3"] == found["class 2"] == np.mean(hits)
    told = json.loads(Path("results/photos/clean/net/seed0.json").read_text())
    assert told["labels"] == {"blue": 1, "green": 2, "red": 3}


def test_among_the_mapped_classes_alone_when_asked(here: Path) -> None:
    ask("--weights", "net.pth", "--labels", "map.csv")
    result = ask("--weights", "net.pth", "--labels", "map.csv", "--mapped-only")
    assert result.exit_code == 0, result.output
    (path,) = Path("results").glob("photos-mapped-only*/clean/net/seed0.csv")
    assert accuracies(str(path)) == {"": 1, "class 0": 1, "class 1": 1, "class 2": 1}
    table = CliRunner().invoke(app, ["table", "--suite", "clean"])
    assert table.exit_code == 0 and "photos (mapped only)" in " ".join(table.stdout.split())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--labels", "map.csv"), "for a network that has learned these classes, and `net` has no"),
        (("--weights", "net.pth", "--mapped-only"), "`--mapped-only` needs `--labels imagenet`"),
        (("--weights", "net.pth", "--labels", "imagenet"), "class of ImageNet"),
        (("--weights", "net.pth", "--labels", "no.csv"), "There is no file no.csv of labels"),
        (("--weights", "net.pth"), "have 5 rows in `2.weight`, `2.bias`, the model 3. If these"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    here: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("results").exists()


def test_a_network_of_more_classes_than_the_labels_name_is_refused(here: Path) -> None:
    Path("map.csv").write_text("folder,index\nred,3\ngreen,2\nblue,1\n")
    Path("net.py").write_text(NET.replace("num_classes)", "5)"))
    result = ask("--weights", "net.pth", "--labels", "map.csv")
    assert result.exit_code == 2 and "the labels name 4 classes. A line `,999`" in result.stderr
