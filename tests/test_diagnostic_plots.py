"""Figures of the suites that look inside: attention, stability, and costs of images."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.analysis.leaderboard import leaderboard
from harness.analysis.numbers import cell_intervals
from harness.analysis.outcomes import StoredOutcomes
from harness.cli import main
from harness.plots.attention import (
    attention_statistics,
    in_reading_order,
    instability_curve,
    is_cam,
    map_of,
)
from harness.plots.labels import END
from harness.plots.maps import KEY, LESS, overlays
from harness.plots.pictures import class_overlays, cost_histogram, one_of_each_class
from harness.plots.stability import growth_curves
from harness.plots.style import Looks
from harness.storage.results import COLUMNS, read
from harness.suites.datasets import Split
from harness.suites.stability import GRADIENT, RANDOM

Row = tuple[str, str, float, str, str, float]


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A long table of (model, condition, level, metric, variant, value), one seed."""
    return pd.DataFrame(
        [(m, "s", "d", 0, c, lv, name, kind, v, 100, "run") for m, c, lv, name, kind, v in rows],
        columns=list(COLUMNS),
    )


def numbers(long: pd.DataFrame) -> pd.DataFrame:
    return cell_intervals(long, metric=None, variant=None)


@pytest.fixture
def split() -> Split:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.tensor([2, 0, 1, 0, 2, 1, 0, 2]), ("a", "b", "c"), flip=False)


MAPS: list[Row] = [
    ("net", "clean", 0, statistic, kind, value + 0.1 * i)
    for statistic, value in (("entropy", 3.0), ("gini", 0.4), ("distance", 4.0))
    for i, kind in enumerate(("used", "sharp", "matched"))
]
CAMS: list[Row] = [
    ("cnn", "clean", 0, "entropy", f"gradcam {g}", 2.0) for g in ("4x4", "16x16", "8x8")
]


def test_maps_are_known_by_their_variant() -> None:
    kinds = ["used", "used, layer 2", "used, head 1", "over sharp", "sharp, class 3", "gradcam 4x4"]
    assert [k for k in kinds if map_of(k)] == ["used", "used, layer 2", "gradcam 4x4"]
    assert [k for k in kinds if is_cam(k)] == ["gradcam 4x4"]
    shuffled = ["used", "gradcam 4x4", "matched", "gradcam 16x16", "sharp"]
    assert in_reading_order(shuffled) == [
        "sharp",
        "matched",
        "used",
        "gradcam 16x16",
        "gradcam 4x4",
    ]


def test_a_panel_for_each_statistic_and_a_mark_for_each_map() -> None:
    figure = attention_statistics(numbers(frame(MAPS)), Looks(["cnn", "net"]))
    assert [a.get_title() for a in figure.axes] == [
        "row entropy / nats",
        "Gini coefficient",
        "attention distance / tokens",
    ]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["net"]
    drawn = {line.get_marker(): line.get_xdata()[0] for line in figure.axes[0].lines}
    assert drawn == {"^": 3.1, "s": 3.2, "o": 3.0}
    assert len({line.get_ydata()[0] for line in figure.axes[0].lines}) == 3, "side by side"
    (key,) = figure.legends
    assert [t.get_text() for t in key.get_texts()] == [
        "sharp: softmax of the scores",
        "matched: softmax at a temperature of equal entropy",
        "used: the weights that multiply the values",
    ]


def test_grad_cam_has_a_mark_for_each_resolution_the_finest_first() -> None:
    (axis,) = attention_statistics(numbers(frame(CAMS)), Looks(["cnn"])).axes
    (key,) = axis.figure.legends
    texts = [t.get_text() for t in key.get_texts()]
    assert texts == ["Grad-CAM at 16x16", "Grad-CAM at 8x8", "Grad-CAM at 4x4"]


def test_instability_is_a_mean_of_kinds_for_noise_and_blur() -> None:
    kinds = ("gaussian_noise", "shot_noise", "impulse_noise")
    blur = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
    bases = dict.fromkeys(kinds, 0.1) | dict.fromkeys(blur, 0.5) | {"gaussian_noise": 0.0}
    rows: list[Row] = [
        ("net", condition, level, "instability", kind, base + 0.1 * level)
        for condition, base in bases.items()
        for level in (1, 3)
        for kind in ("used", "matched", "over sharp", "used, head 0")
    ]
    found = numbers(frame(rows))
    assert found["low"].isna().all(), "a mean over images has no interval without its images"
    found = found.assign(low=found["value"] - 0.05, high=found["value"] + 0.05)
    figure = instability_curve(found[found["condition"] != "mean"], Looks(["net"]))
    assert [a.get_title() for a in figure.axes] == ["noise, used", "blur, used"]
    axes: list[Any] = figure.axes
    noise, blurred = axes
    (line,) = noise.lines
    assert list(line.get_xdata()) == [1, 3]
    assert list(line.get_ydata()) == pytest.approx([0.2 / 3 + 0.1, 0.2 / 3 + 0.3])
    (bars,) = noise.collections
    low, high = bars.get_segments()[0][:, 1]
    row = found[(found["variant"] == "used") & (found["group"] == "noise 1")].iloc[0]
    assert (low, high) == pytest.approx((row["low"], row["high"])) and low < 0.2 < high
    assert [t.get_text() for t in blurred.texts if t.get_label() == END] == ["net"]
    with pytest.raises(ValueError, match="no corruptions to draw"):
        instability_curve(numbers(frame(MAPS)), Looks(["net"]))


def grown(model: str, blocks: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for name, value in blocks.items():
        for condition in (RANDOM, GRADIENT):
            for end, add in (("", 0.0), (", p10", -0.5), (", p90", 0.5)):
                rows.append((model, condition, 1e-3, "log10_growth", name + end, value + add))
        rows.append((model, "clean", 0, "log10_gradient_norm", name, -value))
        rows.append((model, "clean", 0, "spectral_norm", name, 1 + value))
    rows.append((model, "clean", 0, "log_norm", name, -0.25))
    return rows


def test_growth_by_block_with_a_band_of_images() -> None:
    long = frame(grown("net", {"b": 1.0, "a": 2.0}) + grown("resnet18", {"x": 0.0}))
    figure = growth_curves(long, Looks(["net", "resnet18"]))
    titles = {axis.get_title(): axis for axis in figure.axes}
    assert list(titles) == [
        "growth, random direction",
        "growth, gradient direction",
        "gradient norm",
        "spectral norm of blocks",
        "logarithmic norm of blocks",
    ]
    lines = titles["growth, random direction"].lines
    (line,) = [ln for ln in lines if len(ln.get_xdata()) == 2]
    assert list(line.get_xdata()) == [1, 2], "in the order of evaluation, not of names"
    assert list(line.get_ydata()) == pytest.approx([10, 100])
    assert len(titles["growth, random direction"].collections) == 2, "a band for each"
    norm = titles["logarithmic norm of blocks"].lines
    assert [2] in [list(ln.get_xdata()) for ln in norm]
    assert [-0.25] in [list(ln.get_ydata()) for ln in norm]


def test_stored_blocks_are_in_the_order_of_their_numbers() -> None:
    blocks = {f"trunk.{i}": float(i) for i in (0, 1, 10, 11, 2)}  # sorted by name, as arrays are
    figure = growth_curves(frame(grown("net", blocks)), Looks(["net"]))
    (line,) = figure.axes[2].lines
    assert list(line.get_ydata()) == pytest.approx([10.0**-i for i in (0, 1, 2, 10, 11)])


def test_overlays_are_in_units_of_the_uniform_map_and_say_what_the_maps_are(split: Split) -> None:
    uniform = torch.full((4, 4), 1 / 16)
    maps = {"used": [uniform, uniform], f"{LESS}sharp": [uniform * 0, uniform * 0]}
    figure = overlays(list(split.images[:2]), ["x", "y"], maps, "title")
    panels = [a for a in figure.axes if a.get_images() and len(a.get_images()) == 2]
    assert len(panels) == 4
    values = [a.get_images()[1].get_array() for a in panels]
    np.testing.assert_allclose(values[0], 1)
    np.testing.assert_allclose(values[2], 0)
    heading = " ".join(figure.get_suptitle().split())
    assert heading.startswith("title, in units of a uniform map. used: " + KEY["used"])
    assert KEY["sharp"] in heading and KEY["matched"] not in heading


def test_one_image_of_each_class_and_the_rows_of_its_maps(split: Split) -> None:
    labels, random = split.labels.numpy(), np.random.default_rng(0)
    assert one_of_each_class(labels, 10) == [1, 2, 0]
    assert one_of_each_class(np.arange(100), 4) == [0, 25, 50, 75]
    arrays = {"labels": labels, "indices": np.arange(8)}
    arrays |= {f"map:{kind}": random.random((8, 4, 4)) for kind in ("used", "sharp", "matched")}
    figure = class_overlays(arrays, split, "net")
    assert figure is not None
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["a", "b", "c"]
    rows = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert rows == ["image", "sharp", "used", "used less\nsharp", "used less\nmatched"]
    assert class_overlays({"labels": labels}, split, "net") is None
    cams = {f"map:gradcam {g}x{g}": random.random((8, g, g)) for g in (4, 16)}
    figure = class_overlays({"labels": labels, "indices": np.arange(8)} | cams, split, "net")
    assert figure is not None
    rows = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert rows == ["image", "Grad-CAM\n16x16", "Grad-CAM\n4x4"]


def test_costs_of_easy_and_hard_images_with_the_images(split: Split) -> None:
    logits = torch.zeros(8, 3)
    logits[torch.arange(8), split.labels] = torch.arange(8.0)  # ever easier
    arrays = {"labels": split.labels.numpy(), "indices": np.arange(8), "logits": logits.numpy()}
    arrays["nfe"] = np.array([26, 26, 20, 20, 20, 14, 14, 14])
    figure = cost_histogram(arrays, split, "net")
    assert figure is not None
    bars = {c.get_label(): [b.get_height() for b in c] for c in figure.axes[0].containers}
    assert bars == {
        "easier half": pytest.approx([0.75, 0.25, 0]),
        "harder half": pytest.approx([0, 0.5, 0.5]),
    }
    titles = [a.get_title() for a in figure.axes[1:]]
    assert titles[:2] == ["14: c", "14: a"] and titles[6:8] == ["26: c", "26: a"]
    assert cost_histogram(arrays | {"nfe": np.full(8, 8)}, split, "net") is None


def command(*arguments: str) -> int:
    """Run the command line; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def results(calibrated_on_few: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All suites that look inside, of small models, from the command line."""
    folder = tmp_path_factory.mktemp("inside")
    small = ["--width", "8", "--epochs", "1", "--limit", "60", "--results", str(folder)]
    suites = ["--suite", "attention", "--suite", "stability", "--suite", "nfe"]
    models = ["--model", "pde_attention", "--model", "ode_block"]
    assert command("run", *suites, *models, "--corruption", "gaussian_noise", *small) == 0
    return folder


def test_one_command_runs_and_draws_them_all(results: Path) -> None:
    table = read(results / "quick")
    assert set(table["suite"]) == {"attention", "stability", "nfe"}
    figures = {path.name for path in (results / "quick" / "figures").glob("*.png")}
    assert figures >= {
        "digits-attention.png",
        "digits-attention-instability.png",
        "digits-attention-gradcam.png",
        "digits-attention-pde_attention.png",
        "digits-attention-ode_block.png",
        "digits-nfe.png",
        "digits-stability.png",
    }
    assert "digits-nfe-matrix.png" not in figures, "one row says nothing"
    for name in figures:
        with Image.open(results / "quick" / "figures" / name) as image:
            assert min(image.size) > 200
    # Image by image: an interval from one seed alone.
    entropy = table[(table["metric"] == "entropy") & (table["variant"] == "used")]
    board = leaderboard(entropy, StoredOutcomes(results / "quick"))
    assert board["low"].notna().all() and (board["low"] < board["value"]).all()


def test_show_attention(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = "show", "attention", "--results", str(results)
    for model, name in (("pde_attention", "queries"), ("ode_block", "Grad-CAM")):
        assert command(*show, "--model", model, "--index", "7") == 0, name
        assert (results / "figures" / f"attention-{model}-digits-7.png").is_file()
    assert command(*show, "--model", "pde_attention", "--query", "3,4") == 0
    capsys.readouterr()
    for arguments, sentence in (
        (
            ("--model", "pde_attention", "--index", "355"),
            "has test images 0..354; got `--index 355`",
        ),
        (("--model", "pde_attention", "--query", "8,0"), "The tokens are 0,0 to 7,7"),
        (("--model", "pde_attention", "--query", "x"), "is ROW,COLUMN of a token"),
        (("--model", "ode_block", "--query", "1,1"), "has no attention"),
        (("--model", "pde_atention"), "Did you mean `pde_attention`"),
    ):
        assert command(*show, *arguments) != 0
        assert sentence in " ".join(capsys.readouterr().err.split()), arguments


def test_figures_of_numbers_need_no_pytorch() -> None:
    code = "import sys, harness.plots.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
