"""What all commands share: refusals and bugs, JSON, dry runs, how much is said, seeds."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from harness.cli import app, main
from harness.storage.json_files import read_json
from harness.suites.catalog import SUITES

TINY = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""
RUN = ("run", "--suite", "clean", "--model", "mine.py:tiny", "--epochs", "1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # Python's cache beside a user's file
    return tmp_path


@pytest.fixture
def with_model(here: Path) -> Path:
    (here / "mine.py").write_text(TINY)
    return here


def harness(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# Every command, and what it calls first.
CALLS = [
    (("list", "models"), "harness.present.lists.models_sheet"),
    (("list", "suites"), "harness.present.lists.names_sheet"),
    (("cite", "resnet18"), "harness.present.citations.bibtex_of"),
    (("run", "--suite", "clean", "--model", "resnet18"), "harness.running.plan.plan"),
    (("train", "--model", "resnet18"), "harness.running.plan.plan"),
    (("data", "digits"), "harness.running.fetch.fetch_files"),
    (("table",), "harness.storage.results.select"),
    (("plot",), "harness.storage.results.select"),
    (("compare",), "harness.comparison.compare.compare_sides"),
    (("check", "--baseline", "b"), "harness.comparison.gate.check"),
    (("report",), "harness.report.page.write"),
    (("clean",), "harness.storage.space.survey"),
    (("du",), "harness.storage.space.survey"),
    (("merge", "a", "--to", "b"), "harness.storage.merging.merge"),
    (("pack", "a", "--to", "b"), "harness.storage.packing.pack"),
    (("submit", "--slurm", "run"), "harness.running.submitting.list_jobs"),
    (("show", "corruptions"), "harness.plots.show.draw_corruptions"),
    (("show", "attention", "--model", "resnet18"), "harness.plots.show.draw_attention"),
    (("study",), "harness.study.run.list_networks"),
    (("study", "--show"), "harness.study.design_files.built_in"),
]


@pytest.mark.parametrize("error", [KeyError, ValueError, OSError, AssertionError])
@pytest.mark.parametrize("arguments, function", CALLS, ids=lambda value: " ".join(value))
def test_a_bug_prints_its_traceback_and_exits_with_70(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    function: str,
    error: type[Exception],
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise error("low")

    monkeypatch.setattr(function, broken)
    monkeypatch.setattr("sys.argv", ["harness", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 70 and not said.out
    assert "Traceback" in said.err and f"{error.__name__}: " in said.err
    assert said.err.splitlines()[-1].startswith("This is a bug in harness.")


def test_a_bug_in_check_never_reads_as_a_verdict(
    here: Path, told_folder: Callable[..., Path]
) -> None:
    for name in ("results", "before"):
        told_folder(here / name, ["a", "b"])
    program = (
        "import sys, harness.comparison.guards as guards\n"
        "def broken(*args, **kwargs): return {}['low']\n"
        "guards.difference = broken\n"
        "from harness.cli import main\n"
        "sys.argv = ['harness', *sys.argv[1:]]; main()\n"
    )
    check = [sys.executable, "-c", program, "check", "--baseline", "before"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 70 and "KeyError: 'low'" in done.stderr
    assert "Traceback" in done.stderr and "pass" not in done.stdout


REFUSED = [
    *(("list", "models", "--family", "f"), ("cite", "nobody"), ("table",), ("plot",), ("report",)),
    ("table", "--write"),
    ("table", "--rescore"),
    ("compare", "none", "--csv", "differences.csv"),
    ("compare", "--better", "auroc=sideways"),
    ("check", "--baseline", "none", "--junit", "check.xml", "--markdown", "check.md"),
    ("run", "--suite", "clean", "--model", "nobody"),
    ("run", "--suite", "clean", "--model", "resnet18", "--dataset", "cifar10"),
    ("run", "--suite", "clean", "--model", "resnet18", "--results", "a/b/c", "--no-train"),
    ("run", "--suite", "attention", "--model", "resnet18", "--limit", "9999"),
    ("run", "--suite", "clean", "--model", "resnet18", "--dry-run", "--device", "cuda:9"),
    ("train", "--model", "resnet18", "--recipe", "slow"),
    ("data", "cifar11"),
    ("data", "digits", "--regenerate"),
    ("show", "corruptions", "--index", "999"),
    ("show", "attention", "--model", "resnet18", "--query", "a"),
    ("study", "--question", "99"),
    ("study", "--dataset", "cifar10"),
    ("study", "--show"),
]


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_refused_command_leaves_nothing_behind(here: Path, arguments: tuple[str, ...]) -> None:
    result = harness(*arguments)
    assert result.exit_code == 2 and not result.stdout, result.output
    assert len(result.stderr.strip().splitlines()) == 1, "one sentence, with its cure"
    assert result.stderr.strip().endswith((".", "?"))
    assert list(here.iterdir()) == []


def test_a_full_disk_is_one_sentence(
    with_model: Path, monkeypatch: pytest.MonkeyPatch, told_folder: Callable[..., Path]
) -> None:
    told_folder(with_model / "results", ["a", "b"], board=False)
    before = sorted(with_model.rglob("*"))

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    for command in (("table", "--write"), (*RUN, "--results", "other")):
        result = harness(*command)
        assert result.exit_code == 2 and "cannot be written: No space left" in result.stderr
    assert [p for p in sorted(with_model.rglob("*")) if p.is_file()] == [
        p for p in before if p.is_file()
    ]
    result = harness("check", "--baseline", "results/leaderboard.csv", "--results", "results")
    assert result.exit_code == 2, "never 1, which says that something became worse"


def test_a_module_is_run_like_the_command(with_model: Path) -> None:
    run = [sys.executable, "-m", "harness", *RUN, "--limit", "20"]
    subprocess.run(run, check=True, capture_output=True)
    made = json.loads((with_model / "results/quick/digits/clean/tiny/seed0.json").read_text())
    assert made["command"] == "harness " + " ".join(RUN) + " --limit 20"
    done = subprocess.run([*run[:3], "cite", "nobody"], capture_output=True, text=True)
    assert done.returncode == 2 and "no model called `nobody`" in done.stderr


def test_quiet_and_verbose_go_before_or_after_the_command(with_model: Path) -> None:
    assert "training 1 epochs" in harness(*RUN, "--seed", "0").stderr
    for arguments in (("--quiet", *RUN, "--seed", "1"), (*RUN, "--seed", "2", "--quiet")):
        result = harness(*arguments)
        assert result.exit_code == 0 and result.stderr == "" and "tiny" in result.stdout
    result = harness("--quiet", *RUN, "--limit", "-1")
    assert result.exit_code == 2 and "`--limit` must be at least 0" in result.stderr
    assert len(harness(*RUN, "--verbose").stderr) >= len(harness(*RUN).stderr)


def parsed(result: Result) -> list[dict]:
    """What a command printed as JSON, and nothing else, on stdout."""
    assert result.exit_code in (0, 3), result.output
    return json.loads(result.stdout)


def test_tables_are_printed_as_json(
    here: Path, told_folder: Callable[..., Path], with_model: Path
) -> None:
    for name in ("results", "before"):
        told_folder(here / name, ["pde_aug", "resnet18"], dataset="digits")
    rows = parsed(harness("table", "--write", "--json"))
    assert {row["model"] for row in rows} == {"pde_aug", "resnet18"}
    rows = parsed(harness("compare", "--models", "pde_aug,resnet18", "--json"))
    clean = next(row for row in rows if row["group"] == "clean")
    assert clean["difference"] == pytest.approx(0.01) and clean["a"] == "pde_aug"
    guards = parsed(harness("check", "--baseline", "before", "--json", "--junit", "c.xml"))
    assert {guard["verdict"] for guard in guards} <= {"pass", "inconclusive"} and guards
    assert (here / "c.xml").is_file()
    rows = parsed(harness(*RUN, "--limit", "20", "--json"))
    assert {row["model"] for row in rows} == {"tiny"}
    for kind in ("suites", "datasets", "corruptions", "metrics"):
        assert len(parsed(harness("list", kind, "--json"))) > 3


def test_stored_answers_are_shown_without_weights(here: Path) -> None:
    path = here / "results/digits/study.json"
    path.parent.mkdir(parents=True)
    stored = Path(__file__).parent.parent / "results/published/digits/study.json"
    path.write_bytes(stored.read_bytes())
    shown = harness("study", "--show")
    assert shown.exit_code == 0 and "3  Does" in shown.stdout and "1  Does" in shown.stdout
    one = harness("study", "--show", "--question", "3").stdout
    assert "3  Does" in one and "1  Does" not in one
    result = harness("study", "--show", "--json")
    answers = json.loads(result.stdout)
    assert answers == read_json(path, ""), "the file as it is"
    # Their runs are not in this folder.
    older = r"The answers on digits are older than their results: (\d+) of \1 runs are not those"
    assert re.search(older, result.stderr) and re.search(older, shown.stdout)
    assert list(here.iterdir()) == [here / "results"]


def test_a_dry_run_says_what_is_missing_and_writes_nothing(with_model: Path) -> None:
    before = sorted(with_model.rglob("*"))
    robustness = ("run", "--suite", "robustness", *RUN[3:], "--corruption", "gaussian_noise")
    train, suite = parsed(harness(*robustness, "--dry-run", "--json"))
    assert (train["work"], train["total"], train["stored"]) == ("train", 1, 0)
    assert (suite["work"], suite["total"], suite["stored"]) == ("robustness", 6, 0)
    assert train["seconds"] is None and suite["seconds"] is None
    shown = harness(*robustness, "--dry-run").stdout
    assert "time of 2 of 2 steps is not known" in shown and "Nothing was written." in shown
    assert sorted(with_model.rglob("*")) == before

    harness(*robustness)
    before = sorted(with_model.rglob("*"))
    (suite,) = parsed(harness(*robustness, "--dry-run", "--json"))
    assert suite["stored"] == 6 and suite["seconds"] == 0
    assert "Everything is stored" in harness(*robustness, "--dry-run").stdout
    train, suite = parsed(harness(*robustness, "--seed", "1", "--dry-run", "--json"))
    assert train["seconds"] is not None and suite["stored"] == 0 and suite["seconds"] > 0
    shown = harness(*robustness, "--seed", "1", "--dry-run").stdout
    assert "in one process, by earlier runs on this device" in shown
    assert sorted(with_model.rglob("*")) == before
    cells = [p for p in (with_model / "results/cells").rglob("*") if p.is_file()]
    cells[0].unlink()
    (suite,) = parsed(harness(*robustness, "--dry-run", "--json"))
    assert suite["stored"] == 5 and suite["missing"] == 1


def test_a_damaged_log_tells_no_time(with_model: Path) -> None:
    harness(*RUN)
    (with_model / "results/checkpoints/digits/tiny/seed0.json").write_text("{")
    train, suite = parsed(harness(*RUN, "--seed", "1", "--dry-run", "--json"))
    assert train["seconds"] is None and suite["seconds"] > 0


def test_a_study_is_forecast(here: Path) -> None:
    steps = parsed(harness("study", "--question", "3", "--seeds", "2", "--dry-run", "--json"))
    assert {step["seed"] for step in steps} == {0, 1} and {"train", "robustness"} == {
        step["work"] for step in steps
    }
    assert list(here.iterdir()) == []


def test_the_seed_of_weights_is_never_replaced(with_model: Path) -> None:
    assert harness("train", *RUN[3:], "--seed", "3").exit_code == 0
    path = "results/checkpoints/digits/tiny/seed3.safetensors"
    run = (*RUN[:5], "--weights", path, "--results", "other")
    assert harness(*run).exit_code == 0
    assert (with_model / "other/digits/clean/tiny/seed3.csv").is_file()
    result = harness(*run, "--seed", "0")
    assert result.exit_code == 2 and "were trained with seed 3, not 0" in result.stderr
    state = {"2.weight": torch.zeros(10, 192), "2.bias": torch.zeros(10)}
    save_file(state, "foreign.safetensors")
    foreign = (*RUN[:5], "--weights", "foreign.safetensors", "--results", "foreign")
    assert harness(*foreign, "--seed", "4").exit_code == 0
    assert (with_model / "foreign/digits/clean/tiny/seed4.csv").is_file()


def test_the_image_seed_makes_other_images_of_another_name(with_model: Path) -> None:
    robustness = ("run", "--suite", "robustness", *RUN[3:], "--corruption", "gaussian_noise")
    assert harness(*robustness).exit_code == 0
    again = harness(*robustness, "--image-seed", "5")
    assert again.exit_code == 0, again.output
    folders = [p for p in (with_model / "results").glob("*/robustness") if p.is_dir()]
    assert len(folders) == 2, "draws of another seed are never mixed with the usual ones"
    values = [pd.read_csv(next(p.rglob("seed0.csv"))) for p in folders]
    noisy = [v.query("condition != 'clean' and metric == 'nll'")["value"] for v in values]
    assert not noisy[0].reset_index(drop=True).equals(noisy[1].reset_index(drop=True))
    made = [json.loads(next(p.rglob("seed0.json")).read_text())["image_seed"] for p in folders]
    assert sorted(made) == [0, 5]


@pytest.mark.parametrize(
    "command",
    [
        "publish",
        "export",
        "clean",
        "du",
        "run",
        "train",
        "table",
        "plot",
        "compare",
        "check",
        "report",
        "study",
        "data",
        "cite",
    ],
)
def test_help_ends_with_examples_that_are_parsed(command: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    lines = [line.strip() for line in text.splitlines()]
    examples = [line for line in lines[lines.index("Examples:") :] if line.startswith("harness ")]
    assert examples and all(line.startswith(f"harness {command}") for line in examples)
    for line in examples:
        words = line.partition(" > ")[0].split()[1:]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


def test_options_stand_in_groups() -> None:
    text = CliRunner().invoke(app, ["run", "--help"]).stdout
    places = [text.index(f" {panel} ─") for panel in ("What", "Training", "Evaluation", "Output")]
    assert places == sorted(places)


SUITE = """
from dataclasses import replace
from matplotlib.figure import Figure
from harness.suites.clean import clean

def mean_of(rows):
    return rows.groupby("metric")["value"].mean().reset_index().assign(whose="ours")

def bars(rows):
    figure = Figure()
    figure.add_subplot().bar(rows["metric"].unique()[:3], range(3))
    return figure

def ours():
    return replace(clean(), table=mean_of, figure=bars)
"""


def test_a_suite_of_a_user_keeps_its_table_and_figure(with_model: Path) -> None:
    (with_model / "asked.py").write_text(SUITE)
    own = ("--suite", "asked.py:ours")
    run = harness("run", *own, *RUN[3:])
    assert run.exit_code == 0 and "whose" in run.stdout, run.output
    figure = with_model / "results/figures/digits-ours.png"
    figure.unlink()
    assert "whose" in harness("table", *own).stdout
    del SUITES._entries["ours"]  # as in another process
    assert "whose" not in harness("table", "--suite", "ours").stdout, "the general one"
    assert "results/figures/digits-ours.png" in harness("plot", *own).stdout.splitlines()
    assert figure.is_file()
    result = harness("table", "--suite", "asked.py:theirs")
    assert result.exit_code == 2 and "no suite in asked.py called `theirs`" in result.stderr
