"""Figures and tables of the suites that look inside: attention, stability, and costs of images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from harness.analysis.collect import samples
from harness.analysis.groups import by_severity
from harness.analysis.leaderboard import leaderboard, of_samples
from harness.cli import main
from harness.plots.attention import attention_statistics, instability_curve, kinds_of, overlays
from harness.plots.pictures import class_overlays, cost_histogram, one_of_each_class
from harness.plots.stability import growth_curves
from harness.present.diagnostic_tables import attention_table, stability_table
from harness.storage.results import COLUMNS, read
from harness.suites.datasets import Split
from harness.suites.stability import GRADIENT, RANDOM


def frame(rows: list[tuple[str, str, float, str, float]]) -> pd.DataFrame:
    """A long table of (model, condition, level, metric, value), one seed."""
    return pd.DataFrame(
        [(m, "s", "d", 0, c, lv, name, v, 100, "run") for m, c, lv, name, v in rows],
        columns=list(COLUMNS),
    )


def shown(figure: Figure) -> list:
    return [axis for axis in figure.axes if axis.get_visible()]


@pytest.fixture
def split() -> Split:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.tensor([2, 0, 1, 0, 2, 1, 0, 2]), ("a", "b", "c"), flip=False)


MAPS = [
    ("net", "clean", 0, f"{statistic}_{kind}", value + 0.1 * i)
    for statistic, value in (("entropy", 3.0), ("gini", 0.4), ("distance", 4.0))
    for i, kind in enumerate(("used", "sharp", "matched"))
] + [("cnn", "clean", 0, f"entropy_gradcam_{g}", 2.0) for g in ("4x4", "16x16")]


def test_maps_are_known_by_their_entropy() -> None:
    names = ["entropy_used", "entropy_used_head_1", "entropy_over_sharp", "entropy_sharp_class_3"]
    assert kinds_of([*names, "gini_used", "entropy_gradcam_4x4"]) == ["used", "gradcam_4x4"]


def test_a_panel_for_each_statistic_and_a_line_for_each_map() -> None:
    figure = attention_statistics(leaderboard(frame(MAPS)), ["cnn", "net"])
    assert [a.get_title() for a in shown(figure)] == [
        "row entropy / nats",
        "Gini coefficient",
        "attention distance / tokens",
    ]
    labels = [t.get_text() for t in shown(figure)[0].get_yticklabels()]
    assert labels == [
        "cnn, Grad-CAM 16x16",
        "cnn, Grad-CAM 4x4",
        "net, sharp",
        "net, matched",
        "net, used",
    ]
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in shown(figure)[0].lines]
    assert drawn == [(2, 0), (2, 1), (3.1, 2), (3.2, 3), (3.0, 4)]


def test_instability_is_a_mean_of_kinds_for_noise_and_blur() -> None:
    rows = [
        ("net", condition, level, f"instability_{kind}", base + 0.1 * level)
        for condition, base in (("gaussian_noise", 0.0), ("shot_noise", 0.2), ("motion_blur", 0.5))
        for level in (1, 3)
        for kind in ("used", "matched")
    ]
    # Three seeds that differ by a tenth, so that there is an interval.
    seeds = [frame([(*r[:4], r[4] + 0.1 * s) for r in rows]).assign(seed=s) for s in (-1, 0, 1)]
    board = of_samples(samples(pd.concat(seeds), grouping=by_severity))
    noise, blur = shown(instability_curve(board, ["net"]))
    assert (noise.get_title(), blur.get_title()) == ("noise", "blur")
    (line,) = [x for x in noise.lines if x.get_linestyle() == "-"]
    assert list(line.get_xdata()) == [1, 3], "the first of two curves stands at its severity"
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.4])
    (bars,) = noise.collections
    low, high = bars.get_segments()[0][:, 1]
    row = board[board["metric"].eq("instability_used") & board["group"].eq("noise@1")].iloc[0]
    assert (low, high) == pytest.approx((row["low"], row["high"])) and low < 0.2 < high
    with pytest.raises(ValueError, match="no corruptions to draw"):
        instability_curve(of_samples(samples(frame(MAPS), grouping=by_severity)), [])


def grown(model: str, blocks: dict[str, float]) -> list:
    rows = []
    for name, value in blocks.items():
        for condition in (RANDOM, GRADIENT):
            for suffix, add in (("", 0.0), ("_p10", -0.5), ("_p90", 0.5)):
                rows.append((model, condition, 1e-3, f"log10_growth_{name}{suffix}", value + add))
        rows.append((model, "clean", 0, f"log10_gradient_norm_{name}", -value))
        rows.append((model, "clean", 0, f"spectral_norm_{name}", 1 + value))
    rows.append((model, "clean", 0, f"log_norm_{name}", -0.25))
    return rows


def test_growth_by_block_with_a_band_of_images() -> None:
    figure = growth_curves(
        frame(grown("net", {"b": 1.0, "a": 2.0}) + grown("resnet18", {"x": 0.0})), "resnet18", []
    )
    titles = {axis.get_title(): axis for axis in shown(figure)}
    assert list(titles) == [
        "growth of a random change",
        "growth along the gradient",
        "gradient norm",
        "spectral norm of blocks",
        "logarithmic norm of blocks",
    ]
    line = {ln.get_label(): ln for ln in titles["growth of a random change"].lines}["net"]
    assert list(line.get_xdata()) == [1, 2], "in the order of evaluation, not of names"
    assert list(line.get_ydata()) == pytest.approx([10, 100])
    norm = {ln.get_label(): ln for ln in titles["logarithmic norm of blocks"].lines}["net"]
    assert list(norm.get_xdata()) == [2] and list(norm.get_ydata()) == [-0.25]


def test_tables_say_the_same_in_words() -> None:
    table = stability_table(frame(grown("net", {"b": 1.0, "a": 2.0})))
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["d", "net", "100.00", "100.00", "10.00", "3.00 (a)", "-0.25 (a)", ""]
    noise = [("net", "shot_noise", 3, "instability_used", 0.25)]
    accuracy = [("net", "clean", 0, "accuracy", 0.9), ("net", "clean", 0, "accuracy_sharp", 0.8)]
    table = attention_table(frame(MAPS + noise + accuracy))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[1:3] for row in rows] == [
        ("net", "sharp"),
        ("net", "matched"),
        ("net", "used"),
        ("cnn", "Grad-CAM 16x16"),
        ("cnn", "Grad-CAM 4x4"),
    ]
    assert rows[2][3] == "3.000" and rows[2][-3:] == ("90.0", "0.250", "")
    assert rows[0][-3] == "80.0" and rows[1][-3] == ""


def test_overlays_are_in_units_of_the_uniform_map(split: Split) -> None:
    uniform = torch.full((4, 4), 1 / 16)
    maps = {"used": [uniform, uniform], "used less\nsharp": [uniform * 0, uniform * 0]}
    figure = overlays(list(split.images[:2]), ["x", "y"], maps, "title")
    panels = [a for a in figure.axes if a.get_images() and len(a.get_images()) == 2]
    assert len(panels) == 4
    values = [a.get_images()[1].get_array() for a in panels]
    np.testing.assert_allclose(values[0], 1)
    np.testing.assert_allclose(values[2], 0)


def test_one_image_of_each_class_and_the_rows_of_its_maps(split: Split) -> None:
    assert one_of_each_class(split.labels, 10) == [1, 2, 0]
    assert one_of_each_class(torch.arange(100), 4) == [0, 25, 50, 75]
    arrays = {"labels": split.labels, "indices": torch.arange(8)}
    arrays |= {f"map_{kind}": torch.rand(8, 4, 4) for kind in ("used", "sharp", "matched")}
    figure = class_overlays(arrays, split, "net")
    assert figure is not None
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["a", "b", "c"]
    rows = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert rows == ["image", "sharp", "used", "used less\nsharp", "used less\nmatched"]
    assert class_overlays({"labels": split.labels}, split, "net") is None


def test_costs_of_easy_and_hard_images_with_the_images(split: Split) -> None:
    logits = torch.zeros(8, 3)
    logits[torch.arange(8), split.labels] = torch.arange(8.0)  # ever easier
    arrays = {"labels": split.labels, "indices": torch.arange(8), "logits": logits}
    arrays["nfe"] = torch.tensor([26, 26, 20, 20, 20, 14, 14, 14])
    figure = cost_histogram(arrays, split, "net")
    assert figure is not None
    bars = {c.get_label(): [b.get_height() for b in c] for c in figure.axes[0].containers}
    assert bars == {
        "easier half": pytest.approx([0.75, 0.25, 0]),
        "harder half": pytest.approx([0, 0.5, 0.5]),
    }
    titles = [a.get_title() for a in figure.axes[1:]]
    assert titles[:2] == ["14: c", "14: a"] and titles[6:8] == ["26: c", "26: a"]
    assert cost_histogram(arrays | {"nfe": torch.full((8,), 8)}, split, "net") is None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All suites that look inside, of small models, from the command line."""
    folder = tmp_path_factory.mktemp("inside")
    small = ["--width", "8", "--epochs", "1", "--limit", "60", "--results", str(folder)]
    suites = ["--suite", "attention", "--suite", "stability", "--suite", "nfe"]
    models = ["--model", "pde_attention", "--model", "ode_block"]
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        corrupted = ["--corruption", "gaussian_noise"]
        patch.setattr("sys.argv", ["harness", "run", *suites, *models, *corrupted, *small])
        main()
    assert ended.value.code == 0
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
        "digits-nfe-matrix.png",
        "digits-stability.png",
    }
    for name in figures:
        with Image.open(results / "quick" / "figures" / name) as image:
            assert min(image.size) > 200
    # Image by image: an interval from one seed alone.
    from harness.analysis.outcomes import StoredOutcomes

    entropy = table[table["metric"] == "entropy_used"]
    board = leaderboard(entropy, StoredOutcomes(results / "quick"))
    assert board["low"].notna().all() and (board["low"] < board["value"]).all()


def test_show_attention(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*arguments: str) -> int:
        given = ["show", "attention", "--results", str(results), *arguments]
        with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["harness", *given])
            main()
        return ended.value.code

    for model, name in (("pde_attention", "queries"), ("ode_block", "Grad-CAM")):
        assert command("--model", model, "--index", "7") == 0, name
        assert (results / "figures" / f"attention-{model}-digits-7.png").is_file()
    assert command("--model", "pde_attention", "--query", "3,4") == 0
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
        assert command(*arguments) != 0
        assert sentence in " ".join(capsys.readouterr().err.split()), arguments
