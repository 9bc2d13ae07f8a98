"""Data sets that nobody tidied: the right result, or one sentence before any work."""

import itertools
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import harness
from harness.analysis import contrasts, difference, from_outcomes
from harness.analysis.sample import RATE
from harness.cli.app import app
from harness.plots.generic import PLACES, metric_figure
from harness.plots.letters import spell
from harness.plots.style import Looks, save
from harness.refusal import Refusal

LINE = (-math.inf, math.inf)
ODD = (
    "$\\foo$", "_", "^", "%", "#", "<b>x</b>", "a,b", '"', "a\nb", "..x", "x" * 200, "\u6c49\u5b57",
    "-a", "=1", "[red]", "&", "~", "{}", "\\", "a\tb", "\x1b[31m", "\u202eabc", "con", "train",
)  # fmt: skip
LATEX_NEEDS = set("&%$#_{}~^\\")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Threshold(nn.Module):
    """Tells dark images from bright ones, rightly or wrongly, as sure as `scale` says."""

    def __init__(self, scale: float = 50.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) - 0.43
        return torch.stack([-bright, bright], 1) * self.scale


def folder(
    path: str, classes: Sequence[str] = ("a", "b"), *, train: int = 2, test: int = 1, side: int = 32
) -> str:
    """Images of one value for each class, so that all are alike and some network is always right.

    The halves are one folder where `test` is 0.
    """
    for k, name in enumerate(classes):
        for half, count in (("train", train), ("test", test)):
            place = Path(path, half, name) if test else Path(path, name)
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                value = 60 + 100 * k // max(1, len(classes) - 1)
                Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(place / f"{i}.png")
    return f"imagefolder:{path}"


def ask(*words: str) -> str:
    """What a command prints; no command may fail, warn, or print what is no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, (words, result.output, result.exception)
    assert not {"nan", "NaN", "inf", "Infinity"} & set(result.stdout.replace(",", " ").split())
    return result.stdout


@pytest.mark.parametrize(
    "spec, message",
    [
        (lambda: folder("few", train=3, test=0), "The class `a` in .* has 3 images. One of 5 beco"),
        (lambda: folder("one", ["a"], train=9, test=0), "one folder of images, `a`, and so a sing"),
        (lambda: folder("single", ["a"], train=1, test=0), "a single class"),
        (lambda: folder("dots", train=9, side=1), "is 1 pixels; at least 32 are needed"),
        (lambda: folder("$\\foo$"), "would have the name .* means something else"),
        (lambda: folder("a\nb"), r"has a name that cannot be shown: 'a\\nb'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(spec: Callable[[], str], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        harness.evaluate("resnet18", "clean", spec(), results="results")
    assert not Path("results").exists()


def test_classes_of_any_name_go_through_every_command(calibrated_on_few: None) -> None:
    spec = folder("odd", ODD)
    common = ("--dataset", spec, "--width", "8", "--epochs", "1")
    ask("run", "--suite", "clean", "--suite", "attention", "--model", "pde_attention", *common,
        "--corruption", "contrast")  # fmt: skip
    for words in (["table"], ["table", "--json"], ["table", "--write"], ["report"]):
        ask(*words)
    for line in ask("table", "--latex").splitlines():
        bare = line.replace(r"\\", "")
        assert line.startswith("%") or "$" not in bare.replace(r"\$", "").replace("$", "", 2 * 99)
    for format in ("svg", "pdf"):
        ask("plot", "--format", format)
    for index in range(len(ODD) - 1):
        ask("show", "corruptions", "--dataset", spec, "--index", str(index),
            "--corruption", "contrast")  # fmt: skip


@pytest.mark.parametrize("name", ["$\\foo$", "_", "<b>&%#~^", 'a,"b"', "\u6c49\u5b57" * 30])
def test_a_model_of_any_name_goes_through_every_command(name: str) -> None:
    spec = folder("pair")
    for own, scale in ((name, 50.0), ("other", -50.0)):
        harness.evaluate(Threshold(scale), "clean", spec, name=own, results="results")
    assert ask("table").count(name if name.isascii() else name[:2]) >= 1
    names = {row["model"] for row in json.loads(ask("table", "--json"))}
    assert names == {name, "other"}
    ask("table", "--write")
    ask("compare", "--models", f"{name},other", "--csv", "differences.csv")
    assert set(pd.read_csv("differences.csv")["a"]) == {name}
    for format in ("png", "svg", "pdf"):
        ask("plot", "--format", format)
    ask("report")
    page = Path("results/report/index.html").read_text()
    assert "<b>&%" not in page
    ask("publish", "shown")
    ask("table", "--results", "shown", "--model", name)
    ask("check", "--baseline", "shown", "--markdown", "check.md", "--junit", "check.xml")


def test_one_image_says_nothing_of_others() -> None:
    alone = from_outcomes(np.array([[2.0]]), "x", (0, math.inf))
    assert math.isnan(alone.low) and math.isnan(alone.high)
    assert math.isnan(from_outcomes(np.array([[2.0], [3.0]]), "x", (0, math.inf)).low)
    bins = from_outcomes(np.zeros((1, 3)), "x", LINE, square=True)
    assert math.isnan(bins.low), "bins of one image each"
    hit = from_outcomes(np.array([[1.0]]), "x", RATE)
    assert 0 < hit.low < 0.5 and hit.high == 1
    ask("run", "--suite", "clean", "--model", "resnet18", "--width", "8", "--limit", "1",
        "--recipe", "untrained")  # fmt: skip
    (row,) = json.loads(ask("table", "--results", "results/quick", "--json"))
    assert row["calibration_low"] is None and row["nll_low"] is None and row["accuracy_high"] <= 1
    refused = CliRunner().invoke(app, ["table", "--write", "--results", "results/quick"])
    assert refused.exit_code == 2 and "are of a subset of the test images" in refused.stderr


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_differences_stay_within_what_is_possible(n: int) -> None:
    spec = folder(f"pets{n}", test=n)
    nets = {"right": 50.0, "wrong": -50.0, "sure": 1e4, "surely_wrong": -1e4, "again": 50.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, scale in nets.items():
            harness.evaluate(Threshold(scale), "clean", spec, name=name, results="results")
        board = harness.leaderboard("results")
        metrics = {"accuracy": 1, "brier": 2, "nll": math.inf}
        frames = [
            harness.compare("results", models=f"{a},{b}", metrics=list(metrics))
            for a, b in itertools.permutations(nets, 2)
        ]
    known = board[board["low"].notna()]
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    rates = board[board["metric"] == "accuracy"]
    assert set(rates["value"]) == {0, 1} and rates["low"].min() >= 0 and rates["high"].max() <= 1
    found = pd.concat(frames)
    most = found["metric"].map(metrics)
    assert (found["difference"].abs() <= most).all() and set(found["p"].between(0, 1)) == {True}
    known, most = found[found["low"].notna()], most[found["low"].notna()]
    assert (known["low"] >= -most).all() and (known["high"] <= most).all()
    assert ((known["low"] <= known["difference"]) & (known["difference"] <= known["high"])).all()


def test_sums_of_rates_stay_within_what_is_possible() -> None:
    right, wrong = (from_outcomes(np.full((1, 3), k), "x", RATE) for k in (1.0, 0.0))
    d = difference(right, wrong)
    assert d.value == 1 == d.high and (-d).value == -1 == (-d).low
    twice = contrasts.contrast([right, wrong, wrong, right], [1, -1, -1, 1])
    assert twice.value == 2 == twice.high and (-twice).low == -2
    nll = from_outcomes(np.array([[1.0, 2.0, 3.0]]), "x", (0, math.inf))
    assert np.isfinite(float(difference(nll, nll).high))


def test_more_conditions_than_fit_are_said(here: Path) -> None:
    groups = [f"{c} 0" for c in range(100)]
    numbers = pd.DataFrame(
        {"metric": "accuracy", "variant": "", "model": "$\\foo$_\u6c49", "group": groups,
         "condition": groups, "level": 0.0, "value": 0.5, "low": 0.4, "high": 0.6}
    )  # fmt: skip
    figure = metric_figure(numbers, Looks(["$\\foo$_\u6c49"]))
    assert figure.get_supxlabel() == f"The first {PLACES} of 100 conditions"
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert "$\\foo$_\\u6c49" in texts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in ("png", "svg", "pdf"):
            assert save(figure, here / f"a.{format}", "").stat().st_size > 1000


def test_letters_without_a_glyph_are_told_apart() -> None:
    assert spell("a\u00e9\u2026 \u0627") == "a\u00e9\u2026 \u0627"
    assert spell("\u6c49\u5b57\t\x1b\u202e") == "\\u6c49\\u5b57\\t\\x1b\\u202e"
    assert spell("two\nlines") == "two\nlines"
