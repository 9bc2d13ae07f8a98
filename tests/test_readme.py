"""What the README shows is so."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import (
    models,  # noqa: F401  fills the registry
    suites,  # noqa: F401
)
from harness.analysis import boards
from harness.analysis.groups import groups_of
from harness.analysis.leaderboard import leaderboard
from harness.cli import app
from harness.models.base import MODELS
from harness.storage.results import read
from harness.suites.base import SUITES
from harness.suites.datasets import DATASETS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
STUDIES = sorted(ROOT.glob("results/*/study.json"))
INTERVAL = re.compile(r"\d+\.\d-\d+\.\d")


def block(after: str) -> str:
    """The first fenced block after some words."""
    return README[README.index(after) :].split("```")[1].partition("\n")[2]


def block_of_rows(after: str) -> list[str]:
    """The rows of the first table after some words, without its head."""
    lines = README[README.index(after) :].splitlines()[3:]
    return lines[: lines.index("")]


@pytest.mark.parametrize("name", [*MODELS, *SUITES, *DATASETS])
def test_everything_there_is_is_named(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("command", re.findall(r"<!-- table: harness (.*) -->", README))
def test_a_table_is_the_one_that_the_program_makes(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    made = CliRunner().invoke(app, command.split()).stdout
    # The interval is narrower where the per-image answers are stored, which are not in git.
    made_words = [INTERVAL.sub("", line).split() for line in made.splitlines()]
    lines = block(f"<!-- table: harness {command} -->").splitlines()
    shown = [INTERVAL.sub("", line).split() for line in lines]
    assert len(shown) >= 4
    assert [line for line in shown if line not in made_words] == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_the_answers_are_those_of_the_study(path: Path) -> None:
    study = json.loads(path.read_text())
    shown = block_of_rows(f"<!-- study: {path.relative_to(ROOT).as_posix()}")
    expected = [
        f"| {q['number']} | {q['question']} | **{q['verdict']}** | {q['answer']} |"
        for q in study["questions"]
    ]
    assert len(expected) == 6 and shown == expected
    assert study["scale"] in README


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_an_answer_can_be_traced_to_its_cells(path: Path) -> None:
    """From the sentence to its effects, to rows, to their runs: command, commit, weights, cells."""
    study, table = json.loads(path.read_text()), read(ROOT / "results")
    assert study["dataset"] == path.parent.name and re.fullmatch("[0-9a-f]{40}", study["commit"])
    assert study["command"].startswith("harness study")
    checked = 0
    for question in study["questions"]:
        rows = []
        for file in question["runs"]:
            made = json.loads((path.parent / file).with_suffix(".json").read_text())
            assert re.fullmatch("[0-9a-f]{40}", made["environment"]["commit"])
            assert made["command"].startswith("harness ") and made["images"] > 0
            assert re.fullmatch("[0-9a-f]{64}", made["weights"])
            rows.append(pd.read_csv(path.parent / file, dtype={"level": float, "run": str}))
            where = rows[-1][["condition", "level"]].drop_duplicates().itertuples(index=False)
            assert {f"{c} {level:g}" for c, level in where} == set(made["cells"])
        frame = pd.concat(rows)
        # The rows of the answer are those of the whole table.
        both = frame.merge(table, how="inner", on=[c for c in table.columns if c != "value"])
        assert len(both) == len(frame) and (both["value_x"] == both["value_y"]).all()
        for effect in question["effects"]:
            assert effect["seeds"] == frame["seed"].nunique()
            if effect["metric"] != "accuracy":
                continue
            here = frame[(frame["metric"] == "accuracy") & (frame["suite"] == effect["suite"])]
            cells = groups_of(frozenset(zip(here["condition"], here["level"], strict=True)))
            wanted = pd.MultiIndex.from_tuples(cells[effect["group"]])
            here = here.set_index(["condition", "level"]).loc[wanted]
            means = here.groupby("model")["value"].mean()
            apart = means[effect["model"]] - means[effect["against"]]
            assert effect["effect"] == pytest.approx(apart, abs=2e-6)
            checked += 1
    assert checked >= 15


@pytest.mark.parametrize(
    "folder, training",
    [("results", "3 epochs, 3 seeds"), ("results/baseline", "26 epochs, 1 seed")],
)
def test_the_baseline_stands_beside_published_numbers(folder: str, training: str) -> None:
    table = read(ROOT / folder)
    asked = [table[c] == v for c, v in (("model", "resnet18"), ("suite", "robustness"))]
    asked += [table["dataset"] == "cifar10", table["metric"] == "accuracy"]
    table = table[np.logical_and.reduce(asked)].assign(value=100 * table["value"])
    groups = groups_of(frozenset(zip(table["condition"], table["level"], strict=True)))
    cells = table.set_index(["condition", "level"])
    chosen = cells.loc[pd.MultiIndex.from_tuples(groups["noise+blur"])].reset_index()
    assert len(chosen) == 35 * table["seed"].nunique()
    numbers = [cells.loc["clean", "value"].mean(), *chosen.groupby("level")["value"].mean()]
    shown = " | ".join(f"{x:.1f}" for x in (*numbers, chosen["value"].mean()))
    row = f"| `resnet18`, width 16, {training} | {shown} |"
    assert row in block_of_rows("<!-- published -->"), row


def test_the_leaderboard_is_of_the_results_that_are_there() -> None:
    # Its intervals are narrower where the per-image answers are stored, which are not in git.
    same = ["dataset", "suite", "metric", "group", "model", "value", "seeds", "images"]
    written = boards.read(ROOT / "results" / boards.FILE)[same]
    made = leaderboard(read(ROOT / "results", whole=True))[same]
    message = "Run `harness table --write`, and commit results/leaderboard.csv."
    assert written.round(6).equals(made.round(6)), message


def test_the_figure_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "package, registry, name", [("models", MODELS, "halved"), ("suites", SUITES, "dark")]
)
def test_the_examples_work(package, registry, name: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / f"{name}.py").write_text(block(f"`{package}/{name}.py`"))
    monkeypatch.setattr(sys.modules[package], "__path__", [str(tmp_path)])
    try:
        test: dict = {}
        exec(block(f"`tests/test_{name}.py`"), test)
        assert name in registry
        for key, function in test.items():
            if key.startswith("test_"):
                function()
    finally:
        registry._entries.pop(name, None)
        sys.modules.pop(f"{package}.{name}", None)


def test_the_commands_exist() -> None:
    helped = CliRunner().invoke(app, ["--help"]).stdout
    for command in re.findall(r"^harness (\w+)", block("## Use"), re.M):
        assert command in helped
