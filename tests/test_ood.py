"""The suite ood: which images are compared, what is stored, and the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import harness
from harness.cli import app
from harness.plots.detection import detection_figure
from harness.plots.style import Looks
from harness.refusal import Refusal
from harness.running.evaluate import Evaluated, Memory, observe, spread_evenly
from harness.storage.arrays import read_arrays
from harness.storage.results import read
from harness.suites import ood
from harness.suites.base import Setting
from harness.suites.datasets import Split
from harness.suites.out_sets import in_places, resized

CPU = torch.device("cpu")
MINE = """
import numpy as np
import torch
from torch import nn

def net(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))

def others(train, root):
    images = np.random.default_rng(1).integers(0, 256, (400, 32, 32), np.uint8)
    return images, np.arange(400) % 3

def few(train, root):
    return np.random.default_rng(2).integers(0, 256, (60, 48, 48), np.uint8), np.arange(60) % 2

def clean(train, root):
    return others(train, root)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def run(*others: str, more: tuple[str, ...] = ()) -> Result:
    named = [word for other in others for word in ("--out-of-distribution", other)]
    return command("run", "--suite", "ood", "--model", "mine.py:net", *named, *more)


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw, dtype=torch.uint8)


class TestPlaces:
    @pytest.mark.parametrize("total, limit", [(50, 0), (50, 20), (7, 0)])
    @pytest.mark.parametrize("count", [1, 3, 20, 50, 333])
    def test_each_counts_once_and_they_are_spread_evenly(
        self, total: int, limit: int, count: int
    ) -> None:
        shown = spread_evenly(total, limit)
        found = in_places("b", images(count, 8), 8, total, shown).positions(shown)
        counted = found[found >= 0]
        compared = min(len(shown), count)
        assert torch.equal(counted, spread_evenly(count, compared))

    def test_a_place_has_the_same_image_in_any_order_and_batch(self) -> None:
        out = in_places("b", images(9), 32, 20, torch.arange(20))
        whole = out.prepare(images(20), torch.arange(20), 0)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        assert torch.equal(out.prepare(images(20), order, 3), whole[order])
        assert torch.equal(out.prepare(images(1), torch.tensor([13]), 0), whole[13:14])

    def test_images_of_another_size_are_resized(self) -> None:
        flat = torch.full((2, 3, 96, 96), 77, dtype=torch.uint8)
        assert torch.equal(resized(flat, 32), flat[:, :, :32, :32])
        checks = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64)
        inside = resized(checks, 32)[..., 2:-2].float()  # stripes of a pixel: gray, by antialiasing
        assert (inside - 127.5).abs().max() < 20
        out = in_places("b", images(5, 48), 32, 5, torch.arange(5))
        assert out.prepare(images(5), torch.arange(5), 0).shape == (5, 3, 32, 32)
        assert out.constants["resized"] == "from 48 to 32 pixels, bilinear, antialias"
        assert "resized" not in in_places("b", images(5), 32, 5, torch.arange(5)).constants

    def test_other_images_are_told_by_the_constants(self) -> None:
        def fingerprint(some: Tensor) -> str:
            return in_places("b", some, 32, 5, torch.arange(5)).constants["images"]

        changed = images(5)
        changed[3, 0, 0, 0] ^= 1
        assert fingerprint(images(5)) == fingerprint(images(5)) != fingerprint(changed)


class Counting(nn.Module):
    """Logits from the mean of each channel, with a count of the images asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return images.mean((2, 3)) * torch.tensor([1.0, 5.0, -2.0])


def test_the_images_of_the_data_set_are_asked_about_once_for_all_others() -> None:
    split = Split(images(30), torch.arange(30) % 3, ("a", "b", "c"), flip=False)
    others = [
        in_places(name, images(12, seed=k), 32, 30, torch.arange(30))
        for k, name in enumerate(("b", "c", "d"))
    ]
    cells = ood.cells(Setting(32, 3, out_of_distribution=tuple(others)))
    assert [c.condition for c in cells] == ["clean", "b", "c", "d"]
    model, suite = Counting(), ood.ood()
    subject = Evaluated(model, CPU)
    memory = Memory(suite, subject)
    for cell in cells:
        arrays = observe(suite, cell, subject, split, batch_size=7, memory=memory)
        assert all(len(a) == 30 for a in arrays.values())
    assert model.asked == 30 * (1 + 1 + 3)
    again = observe(suite, cells[3], Evaluated(Counting(), CPU), split, batch_size=30)
    assert all(np.allclose(again[name], arrays[name]) for name in arrays)
    rows = list(suite.measure(cells[3], again))
    assert {(m.condition, m.n) for m in rows} == {("d", 42)} and len(rows) == 6


def test_logits_that_are_no_numbers_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.where(images.mean((1, 2, 3))[:, None] > 0.9, torch.nan, torch.ones(3))

    split = Split(torch.zeros_like(images(4)), torch.arange(4) % 3, ("a", "b", "c"), flip=False)
    out = in_places("white", torch.full_like(images(4), 255), 32, 4, torch.arange(4))
    _, cell = ood.cells(Setting(32, 3, out_of_distribution=(out,)))
    with pytest.raises(FloatingPointError, match="not finite for images of white"):
        observe(ood.ood(), cell, Evaluated(Broken(), CPU), split, batch_size=4)


def cell_of(condition: str, results: str = "results") -> dict[str, np.ndarray]:
    told = json.loads(Path("results/digits/ood/net/seed0.json").read_text())
    key = told["cells"][f"{condition} 0"]
    return read_arrays(Path(results, "cells", key[:2], key))[0]


UNTRAINED = ("--recipe", "untrained")


def test_the_command_measures_what_scikit_learn_does(here: Path) -> None:
    assert run("mine.py:others", "mine.py:few", more=UNTRAINED).exit_code == 0
    table = read(Path("results"))
    assert set(table["condition"]) == {"clean", "others", "few"}
    assert table[table["condition"] == "clean"]["n"].eq(355).all()
    for other, count in (("others", 355), ("few", 60)):
        arrays = cell_of(other)
        used = arrays["out_indices"] >= 0
        assert used.sum() == count
        rows = table[table["condition"] == other].set_index(["metric", "variant"])
        assert set(rows["n"]) == {355 + count}
        labels = np.r_[np.ones(355), np.zeros(count)]
        scores = {
            "max softmax": lambda z: torch.tensor(z).double().softmax(1).amax(1).numpy(),
            "energy": lambda z: torch.tensor(z).double().logsumexp(1).numpy(),
        }
        for name, score in scores.items():
            s = np.r_[score(arrays["in_logits"]), score(arrays["out_logits"][used])]
            expected = {
                "ood_auroc": roc_auc_score(labels, s),
                "ood_aupr": average_precision_score(labels, s),
            }
            for metric, value in expected.items():
                assert rows["value"][metric, name] == pytest.approx(value, abs=2e-6)
    # The images of the data set are those of the clean cell.
    assert np.array_equal(cell_of("few")["in_logits"], cell_of("clean")["logits"])


def test_the_table_fits_a_terminal_and_has_intervals(here: Path) -> None:
    run("mine.py:others", more=UNTRAINED)
    shown = command("table", "--suite", "ood", "--json")
    rows = [row for row in json.loads(shown.stdout) if "variant" in row]
    assert [row["variant"] for row in rows] == ["max softmax", "energy"]
    for row in rows:
        for name in ("ood_auroc", "ood_aupr"):
            assert 0 <= row[f"{name}_low"] < row[name] < row[f"{name}_high"] <= 1
        assert row["n"] == 710 and row["condition"] == "others"
    text = command("table", "--suite", "ood").stdout
    assert "AUROC %" in text and "max softmax" in text
    board = harness.leaderboard("results")
    kept = board[board["metric"] == "ood_auroc"]
    assert set(kept["variant"]) == {"max softmax", "energy"} and set(kept["basis"]) == {"images"}
    assert Path("results/figures/digits-ood.png").is_file()


def test_the_same_command_does_nothing_and_another_keeps_what_was_measured(here: Path) -> None:
    run("mine.py:others", more=UNTRAINED)
    assert "0 conditions measured, 2 were stored" in run("mine.py:others", more=UNTRAINED).stderr
    more = run("mine.py:few", more=UNTRAINED)
    assert "1 conditions measured, 2 were stored" in more.stderr, more.stderr
    assert set(read(Path("results"))["condition"]) == {"clean", "others", "few"}
    before = Path("results/digits/ood/net/seed0.csv").read_bytes()
    assert "1 tables are what their cells say" in command("table", "--rescore").output
    assert Path("results/digits/ood/net/seed0.csv").read_bytes() == before


def test_other_images_of_the_same_name_are_measured_again(here: Path) -> None:
    def picture(value: int) -> None:
        for name in ("a", "b"):
            Path("others/test", name).mkdir(parents=True, exist_ok=True)
            Path("others/train", name).mkdir(parents=True, exist_ok=True)
            for half in ("test", "train"):
                for k in range(3):
                    grain = np.random.default_rng(value + k).integers(0, 256, (40, 40, 3), np.uint8)
                    Image.fromarray(grain).save(f"others/{half}/{name}/{k}.png")

    picture(0)
    assert run("imagefolder:others", more=UNTRAINED).exit_code == 0
    first = read(Path("results"))
    assert "0 conditions measured" in run("imagefolder:others", more=UNTRAINED).stderr
    shutil.rmtree("others")
    picture(50)
    again = run("imagefolder:others", more=UNTRAINED)
    assert "1 conditions measured, 1 were stored" in again.stderr, again.stderr
    second = read(Path("results"))
    assert set(first["run"]) != set(second["run"])
    told = json.loads(Path("results/digits/ood/net/seed0.json").read_text())
    description = read_arrays(Path("results/cells", (key := told["cells"]["others 0"])[:2], key))[1]
    assert description["constants"]["resized"] == "from 40 to 32 pixels, bilinear, antialias"


def test_pictures_are_framed_as_the_network_wants_its_own(here: Path) -> None:
    for name, side in (("own", 48), ("other", 100)):
        for half in ("train", "test"):
            for k in range(8):
                path = Path(name, half, "ab"[k % 2], f"{k}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                grain = np.random.default_rng(side + k).integers(0, 256, (side, 70, 3), np.uint8)
                Image.fromarray(grain).save(path)
    Path("net.py").write_text(
        "from torch import nn\ndef net(num_classes=2):\n    return nn.Sequential("
        "nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    words = ("--preprocessing", "size=40 crop=0.9", *UNTRAINED)
    result = command(
        *("run", "--suite", "ood", "--dataset", "imagefolder:own", "--model", "net.py:net"),
        *("--out-of-distribution", "imagefolder:other", *words),
    )
    assert result.exit_code == 0, result.stderr
    (path,) = Path("results").glob("own*/ood/net/seed0.json")
    key = json.loads(path.read_text())["cells"]["other 0"]
    described = read_arrays(Path("results/cells", key[:2], key))[1]
    assert "resized" not in described["constants"], "read at 40 pixels, as the others are"


def test_of_a_folder_without_halves_all_images_count(here: Path) -> None:
    for name in "ab":
        Path("others", name).mkdir(parents=True)
    for k in range(10):
        grain = np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(grain).save(f"others/{'ab'[k % 2]}/{k}.png")
    result = run("imagefolder:others", more=UNTRAINED)
    assert result.exit_code == 0, result.stderr
    rows = read(Path("results"))
    assert set(rows[rows["condition"] == "others"]["n"]) == {355 + 10}


def test_pictures_whose_labels_do_not_count_need_no_folders_of_classes(here: Path) -> None:
    Path("flat/deeper").mkdir(parents=True)
    for k in range(6):
        grain = np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(grain).save(f"flat/{'deeper/' * (k % 2)}{k}.png")
    result = run("imagefolder:flat", more=UNTRAINED)
    assert result.exit_code == 0, result.stderr
    rows = read(Path("results"))
    assert set(rows[rows["condition"] == "flat"]["n"]) == {355 + 6}
    Path("empty").mkdir()
    assert "holds no folders of images" in run("imagefolder:empty", more=UNTRAINED).stderr


def test_a_limit_is_of_both(here: Path) -> None:
    assert run("mine.py:others", "mine.py:few", more=(*UNTRAINED, "--limit", "80")).exit_code == 0
    table = read(Path("results/quick"))
    counts = table.groupby("condition")["n"].unique().explode().to_dict()
    assert counts == {"clean": 80, "others": 160, "few": 140}


def test_python_takes_modules_and_names(here: Path) -> None:
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    table = harness.evaluate(net, "ood", limit=50, out_of_distribution="mine.py:others")
    assert set(table["condition"]) == {"clean", "others"}
    several = ["mine.py:others", "noise=mine.py:few"]
    with pytest.raises(Refusal, match="`noise` is the name of a condition"):
        harness.evaluate(net, "ood", limit=50, out_of_distribution=several)
    found = harness.compare(
        table,
        harness.evaluate(net, "ood", limit=50, out_of_distribution="mine.py:others"),
        metrics=["ood_auroc(energy)"],
    )
    assert found["paired"].all() and (found["difference"] == 0).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--suite", "ood"), "none is named. Give one with `--out-of-distribution svhn`"),
        (
            ("--suite", "clean", "--out-of-distribution", "svhn"),
            "`--out-of-distribution svhn` is for the suite `ood`. Give `--suite ood`",
        ),
        (
            ("--suite", "clean", "--corruption", "noise"),
            "`--corruption noise` is for the suite `robustness`. Give `--suite robustness`",
        ),
        (
            ("--suite", "ood", "--out-of-distribution", "digits"),
            "`--out-of-distribution digits` names the data set that is evaluated. Name another",
        ),
        (
            ("--suite", "ood", "--out-of-distribution", "svnh"),
            "no data set called `svnh`. Did you mean `svhn`?",
        ),
        (
            ("--suite", "ood", "--out-of-distribution", "svhn", "--data", "nowhere"),
            "The files of `svhn` are not at nowhere",
        ),
        (
            ("--suite", "ood", "--out-of-distribution", "mine.py:clean"),
            "`clean` is the name of a condition. Give the data set another one with "
            "`--out-of-distribution NAME=PATH`",
        ),
        (
            ("--suite", "ood", "--out-of-distribution", "a=x", "--out-of-distribution", "a=y"),
            "`a=x` and `a=y` have one name in tables. Give it another name with "
            "`--out-of-distribution NAME=PATH`",
        ),
        (("--suite", "ood", "--out-of-distribution", "gone.py:x"), "There is no file "),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    here: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = command("run", "--model", "mine.py:net", *arguments)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr
    assert not Path("results").exists()


def test_the_figure_has_a_panel_for_each_data_set_and_score() -> None:
    rows = [
        {
            "model": model,
            "condition": other,
            "variant": score,
            "value": 0.7,
            "low": 0.6,
            "high": 0.8,
            "level": 0.0,
            "group": other,
            "metric": "ood_auroc",
        }
        for model in ("resnet18", "net")
        for other in ("svhn", "stl10")
        for score in ("energy", "max softmax")
    ]
    figure = detection_figure(pd.DataFrame(rows), Looks(["resnet18", "net"]))
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 4 and titles[0] == "stl10\nenergy"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["net", "resnet18"]
