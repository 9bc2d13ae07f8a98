"""The commands as a person types them: exit code, last line, files."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.models.cards import MODELS

USER_FILE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def forward(self, images):
        return super().forward(images)

def tiny(num_classes):
    return Net(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def three(num_classes):
    return tiny(3)

def bright(num_classes):
    class Bright(Net):
        def augment(self, images, generator):
            return images + 1
    return Bright(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def broken(num_classes):
    class Broken(Net):
        def forward(self, images):
            logits = super().forward(images)
            return logits if self.training or len(images) == 2 else logits * torch.nan
    return Broken(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "no data"))
    (tmp_path / "mine.py").write_text(USER_FILE)
    return tmp_path


def harness(*arguments: str) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


TINY = ("--model", "mine.py:tiny", "--epochs", "2")
BRIEFLY = ("--width", "8", "--epochs", "1", "--limit", "20")
RUN = ("run", "--suite", "robustness", *TINY, "--corruption", "gaussian_noise")


def refused(result: Result, message: str, code: int = 2) -> None:
    """One sentence on stderr with the cure, and nothing else."""
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert re.search(message, lines[-1]) and "Traceback" not in result.output, result.output


def test_a_run_trains_measures_writes_and_draws(here: Path) -> None:
    result = harness(*RUN)
    assert result.exit_code == 0, result.output
    assert "There are no weights for tiny on digits, seed 0 yet: training 2 epochs" in result.stderr
    frame = pd.read_csv(here / "results/digits/robustness/tiny/seed0.csv")
    assert len(frame) == 6 * 5 and set(frame["n"]) == {355}
    told = json.loads((here / "results/digits/robustness/tiny/seed0.json").read_text())
    assert told["training"]["recipe"]["epochs"] == 2 and told["images"] == 355
    assert set(frame["run"]) == {told["run"]} and len(told["cells"]) == 6
    took = told["training_run"]
    history = json.loads((here / "results/checkpoints/digits/tiny/seed0.json").read_text())
    assert took["wall_s"] == history["wall_s"] > 0
    assert took["device"] == told["environment"]["device"]
    assert took["commit"] == told["environment"]["commit"]
    assert (here / "results/figures/digits-robustness.png").read_bytes()[:4] == b"\x89PNG"
    assert "results/figures/digits-robustness.png" in result.stdout.splitlines()
    assert "gaussian_noise" in result.stdout


def files(folder: Path) -> dict[str, bytes]:
    """All results but what tells of the time, the command and the machine."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix not in {".json", ".png"}
    }


@pytest.mark.parametrize(
    "command, cells",
    [
        (RUN, 6),
        (("run", "--suite", "attention", "--model", "pde_attention", *BRIEFLY), 22),
        (("run", "--suite", "stability", "--model", "pde_attention", *BRIEFLY), 7),
    ],
    ids=["robustness", "attention", "stability"],
)
def test_the_same_command_again_does_nothing(
    here: Path, calibrated_on_few: None, command: tuple[str, ...], cells: int
) -> None:
    harness(*command)
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*") if p.suffix != ".png"}
    result = harness(*command)
    assert f"0 conditions measured, {cells} were stored" in result.stderr
    after = {p: p.stat().st_mtime_ns for p in here.rglob("*") if p.suffix != ".png"}
    folders = {p for p in before if p.is_dir()}
    assert {p: t for p, t in after.items() if p not in folders} == {
        p: t for p, t in before.items() if p not in folders
    }


def test_results_do_not_depend_on_the_batch_size(here: Path) -> None:
    tables = []
    for batch_size in ("500", "7", "1"):
        folder = f"b{batch_size}"
        assert harness(*RUN, "--batch-size", batch_size, "--results", folder).exit_code == 0
        path = next(Path(folder).glob("digits/*/*/*.csv"))
        tables.append(pd.read_csv(path))
        assert sorted(p.name for p in Path(folder, "cells").rglob("*")) == sorted(
            p.name for p in Path("b500/cells").rglob("*")
        )
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, atol=2e-6, rtol=1e-7)


def test_a_limited_run_stays_apart(here: Path) -> None:
    assert harness(*RUN, "--limit", "20").exit_code == 0
    frame = pd.read_csv(here / "results/quick/digits/robustness/tiny/seed0.csv")
    assert set(frame["n"]) == {20} and not (here / "results/digits").exists()
    refused(harness("table"), "There are no results in results. Run `harness run")
    refused(harness(*RUN, "--limit", "999"), "`--limit 999` exceeds the 355 test images")


def test_only_missing_and_damaged_cells_are_measured(here: Path) -> None:
    harness(*RUN)
    before = files(here / "results")
    cells = sorted(p for p in (here / "results/cells").rglob("*") if p.is_file())
    cells[0].unlink()
    cells[1].write_bytes(cells[1].read_bytes()[:100])
    result = harness(*RUN)
    assert "2 conditions measured, 4 were stored" in result.stderr
    after = files(here / "results")
    damaged = [k for k in after if k.endswith(".damaged")]
    assert len(damaged) == 1 and {k: v for k, v in after.items() if k not in damaged} == before


def test_weights_can_be_brought(here: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Flatten(), torch.nn.Linear(192, 10))
    save_file(net.state_dict(), "w.safetensors")
    run = ("run", "--suite", "clean", "--model", "mine.py:tiny", "--no-train")
    assert harness(*run, "--weights", "w.safetensors").exit_code == 0
    assert not (here / "results/checkpoints").exists()
    refused(harness(*run, "--weights", "none.safetensors"), "no weights at none.safetensors")
    Path("html").write_text("<html>")
    refused(harness(*run, "--weights", "html"), "html is text. Copy or fetch it again")
    save_file({"2.weight": torch.zeros(3, 192), "2.bias": torch.zeros(3)}, "3.safetensors")
    refused(
        harness(*run, "--weights", "3.safetensors"),
        "have 3 rows in .*, the model 10. If these are classes",
    )
    save_file({"a": torch.zeros(3)}, "a.safetensors")
    refused(harness(*run, "--weights", "a.safetensors"), "of another model: they lack `2.bias`")


def test_weights_of_other_settings_are_refused(here: Path) -> None:
    small = ("--model", "resnet18", "--width", "8", "--epochs", "1")
    assert harness("train", *small).exit_code == 0
    again = harness("train", *small)
    assert again.exit_code == 0 and "is trained already" in again.stderr
    message = "seed0.safetensors were trained with {}. Leave out `--{}`, or keep the other"
    for flag, value in (("width", "16"), ("epochs", "9")):
        found = f"{flag} {8 if flag == 'width' else 1}, not {value}"
        result = harness("train", "--model", "resnet18", f"--{flag}", value)
        refused(result, message.format(found, flag))
    for asked, found in (
        (("--recipe", "full"), "80 epochs"),
        (("--recipe", "ruthotto_haber", "--epochs", "1"), "1 epoch by `ruthotto_haber`"),
    ):
        message = f"were trained for 1 epoch, not {found}. Leave out `--recipe`, or keep"
        refused(harness("train", "--model", "resnet18", *asked), message)
    assert harness("train", *small, "--recipe", "fast").exit_code == 0
    both = ("run", "--suite", "clean", "--model", "resnet18", "--model", "pde_aug")
    message = "trained for 1 epoch, and `pde_aug` would be for 26 epochs. Give `--epochs 1`"
    refused(harness(*both), message)
    run = harness("run", "--suite", "clean", "--model", "resnet18", "--no-train")
    assert run.exit_code == 0, run.output  # the width is that of the weights
    path = here / "results/checkpoints/digits/resnet18/seed0.safetensors"
    assert load_file(path)["net.conv1.weight"].shape[0] == 8
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    refused(
        harness("train", *small), "does not match its checksum. Move it elsewhere, and the same"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model", "pde_agu"), "There is no model called `pde_agu`. Did you mean `pde_aug`?"),
        (("--suite", "robustnes"), "no suite called `robustnes`. Did you mean `robustness`?"),
        (("--dataset", "digit"), "no data set called `digit`. Did you mean `digits`?"),
        (("--corruption", "glas_blur"), "called `glas_blur`. Did you mean `glass_blur`?"),
        (("--dataset", "cifar10"), "`cifar10` are not at .*Run `harness data cifar10`, or set"),
        (("--no-train",), "no weights for `tiny`, seed 0, at .*Run `harness train"),
        (("--model", "mine.py:three"), r"`three` gives \(2, 3\) for 2 images; `digits` has 10"),
        (("--model", "mine.py:bright"), r"`images` must lie in .0, 1.; got .1, .*Normalization"),
        (("--device", "cuda:7"), "device `cuda:7` is not available here. Use `--device auto`"),
        (("--dtype", "float8"), "There is no dtype `float8`. Use float32 or bfloat16"),
        (("--batch-size", "0"), "`--batch-size` must be at least 1; got 0"),
        (("--width", "8"), "`tiny` has no width to choose. Leave out `--width 8`"),
        (("--results", "mine.py"), "Nothing can be written to mine.py: .* Choose another folder"),
        (("--recipe", "slow"), "There is no recipe `slow`. Use fast or full"),
        (("--model", "gone.py:tiny"), "There is no file gone.py for the model"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(
    here: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused(harness(*RUN, *arguments), message)
    assert not (here / "results/checkpoints").exists() and not (here / "results/cells").exists()


def test_numbers_that_are_none_are_one_sentence_and_lose_nothing(here: Path) -> None:
    result = harness(*RUN, "--model", "mine.py:broken")
    refused(result, "logits are not finite for 355 of 355 images under clean 0. Train it", code=1)
    assert (here / "results/digits/robustness/tiny/seed0.csv").exists()
    assert not (here / "results/digits/robustness/broken").exists()
    assert not list((here / "results").rglob(".*"))


def test_an_interruption_is_one_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.running.one_run.observe_stepwise", interrupt)
    result = harness(*RUN)
    assert result.exit_code == 130
    assert "Interrupted. Finished work is kept; run the same command again" in result.stderr


def test_lists_name_everything() -> None:
    listed = harness("list", "models").stdout
    assert all(name in listed for name in MODELS) and len(listed.splitlines()) < 40
    long = harness("list", "models", "--long").stdout
    assert all(name in long for name in MODELS)
    assert "11.17 M" in long and "555 M" in long and "He 2016" in long
    one = harness("list", "models", "--family", "baseline", "--json").stdout
    assert next(row["model"] for row in json.loads(one)) == "resnet18"
    refused(harness("list", "models", "--family", "nul"), "Did you mean `null`?")
    assert "robustness" in harness("list", "suites").stdout
    assert "imagefolder:PATH" in harness("list", "datasets").stdout
    assert "glass_blur" in harness("list", "corruptions").stdout
    ece = "Expected calibration error"
    assert ece in harness("list", "metrics").stdout
    metrics = {row["name"]: row for row in json.loads(harness("list", "metrics", "--json").stdout)}
    assert metrics["ece"]["better"] == "down" and metrics["ece"]["meaning"].startswith(ece)


def test_papers_are_cited_as_bibtex() -> None:
    assert "@article{perona1990scale," in harness("cite", "pde_aug").stdout
    refused(harness("cite", "gaussian_blur_aug"), "no paper; it is the null model of pde_aug.")
    refused(harness("cite", "pde_agu"), "Did you mean `pde_aug`")


def test_the_program_itself_is_cited() -> None:
    entry = harness("cite", "harness").stdout
    version = harness("--version").stdout.strip().removeprefix("harness ")
    assert entry.startswith("@misc{harness2026,") and entry.count("{") == entry.count("}")
    assert "{{The harness authors}}" in entry and f"note = {{Version {version}}}" in entry


def test_an_image_is_shown_under_corruptions(here: Path) -> None:
    shown = harness("show", "corruptions", "--index", "7", "--corruption", "noise")
    path = here / "results/figures/corruptions-digits-7.png"
    assert shown.exit_code == 0 and path.read_bytes()[:4] == b"\x89PNG"
    before = path.read_bytes()
    harness("show", "corruptions", "--index", "7", "--corruption", "noise", "--image-seed", "1")
    assert path.read_bytes() != before
    refused(harness("show", "corruptions", "--index", "355"), "test images 0..354")


def test_published_files_are_made_again_or_asked_for(here: Path, tmp_path: Path) -> None:
    refused(harness("data", "digits", "--regenerate"), "is for cifar10_c and cifar100_c")
    again = harness("data", "cifar10_c", "--regenerate", "--data", str(tmp_path / "none"))
    refused(again, "Run `harness data cifar10`")
    run = harness("run", "--suite", "cifar10_c", "--model", "resnet18")
    refused(run, "published for `cifar10` and `cifar100`")


def test_tables_and_plots_are_made_from_files(here: Path) -> None:
    refused(harness("table"), "no results in results. Run `harness run --suite robustness")
    refused(harness("plot"), "no results in results. Run `harness run --suite robustness")
    harness(*RUN)
    harness("run", "--suite", "clean", *TINY)
    whole = harness("table").stdout
    assert "gaussian_noise" in whole and "95 % interval" in whole and "top-5" in whole
    assert "top-5" not in harness("table", "--suite", "robustness").stdout
    refused(harness("table", "--model", "tinny"), "called `tinny`. Did you mean `tiny`?")
    (here / "results/figures/digits-robustness.png").unlink()
    assert "results/figures/digits-robustness.png" in harness("plot").stdout.splitlines()
    assert (here / "results/figures/digits-robustness.png").exists()
    pdf = harness("plot", "--suite", "robustness", "--format", "pdf", "--size", "column").stdout
    assert "results/figures/digits-robustness.pdf" in pdf.splitlines()
    assert (here / "results/figures/digits-robustness.pdf").read_bytes().startswith(b"%PDF")
    refused(harness("plot", "--format", "bmp"), "png, .*svg")
    refused(harness("plot", "--size", "big"), "`--size` is column, page, .*; got `big`")
    latex = harness("table", "--suite", "robustness", "--latex").stdout
    assert latex.startswith("\\begin{tabular}") and "gaussian" in latex


@pytest.mark.slow
def test_a_killed_run_ends_with_the_files_of_an_undisturbed_one(here: Path) -> None:
    """Killed in its training, after an epoch is kept, and in its measuring, after a cell is."""
    words = (*RUN[:-1], "noise", "--epochs", "40", "--results")
    harness(*words, "whole")
    program = [sys.executable, "-c", "from harness.cli import main; main()", *words, "killed"]
    for kept in ("*.partial", "cells/*/*"):
        child = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list(Path("killed").rglob(kept)):
            assert child.poll() is None, "it ended"
            time.sleep(0.01)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert not list(Path("killed").rglob("seed0.csv"))
    harness(*words, "killed")
    assert files(Path("whole")) == files(Path("killed"))


@pytest.mark.parametrize(
    "command, shown", [("study", "[the preset's]"), ("compare", "[accuracy]"), ("run", "[the data")]
)
def test_defaults_in_brackets_are_shown(command: str, shown: str) -> None:
    assert shown in CliRunner().invoke(app, [command, "--help"]).stdout
