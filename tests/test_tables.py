"""What `harness table` prints, writes and makes again."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from harness.analysis.groups import FAMILIES
from harness.cli import app
from harness.storage.arrays import read_arrays, write_arrays
from harness.storage.cells import CellStore
from harness.storage.json_files import read_json, write_json
from harness.storage.results import csv_path, read, write
from harness.suites.base import Measurement


def table(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["table", *(str(a) for a in arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def words(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.stdout)


def test_ranks_are_printed_as_ties(tmp_path: Path, answered: Callable[..., Path]) -> None:
    for model, accuracy in (("resnet18", 0.9), ("pde_aug", 0.9), ("poor", 0.6)):
        for seed in range(3):
            answered(tmp_path, model, seed, accuracy=accuracy)
    said = words(table("--results", tmp_path))
    found = "Ranks of accuracy under noise on d, ties as ranges: 1-2 pde_aug, 1-2 resnet18, 3 poor."
    assert found in said and "mce" not in said


def test_the_leaderboard_is_of_everything_whatever_is_printed(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    answered(tmp_path, "a")
    answered(tmp_path, "b", suite="clean", kinds=())
    result = table("--results", tmp_path, "--suite", "clean", "--write")
    assert result.stdout.strip().splitlines()[-1] == str(tmp_path / "leaderboard.csv")
    board = pd.read_csv(tmp_path / "leaderboard.csv")
    assert set(board.suite) == {"clean", "robustness"} and "robustness" not in result.stdout
    assert table("--results", tmp_path / "none", "--write").exit_code == 2


def test_mce_is_printed_against_its_reference_where_all_is_there(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    for model, accuracy in (("resnet18", 0.8), ("mine", 0.9)):
        answered(tmp_path, model, kinds=FAMILIES["common"], accuracy=accuracy)
    said = words(table("--results", tmp_path))
    assert "mce[ref=resnet18] 95 % interval relative_mce[ref=resnet18]" in said
    assert "d resnet18 100.0 100.0-100.0 100.0 100.0-100.0 +0.0 points" in said
    assert re.search(r"d mine \d\d\.\d \d\d\.\d-\d\d\.\d ", said)
    assert "mce[ref=mine]" in words(table("--results", tmp_path, "--reference", "mine"))
    answered(tmp_path, "part", accuracy=0.9)
    result = table("--results", tmp_path, "--reference", "part")
    line = " ".join(result.stderr.split())
    assert result.exit_code == 2 and "the reference `part`; missing: defocus_blur, glass_" in line


def test_a_model_that_knows_nothing_has_no_relative_accuracy(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    for model, accuracy in (("lost", 0.0), ("b", 0.9)):
        answered(tmp_path, model, kinds=("fog",), accuracy=accuracy)
    shown = words(table("--results", tmp_path))
    assert re.search(r"d lost 0\.0 0\.0 \d", shown) and re.search(r"d b \d\d\.\d", shown)


def test_a_reference_without_errors_ends_in_words(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    for model, accuracy in (("resnet18", 1.0), ("b", 0.9)):
        answered(tmp_path, model, kinds=FAMILIES["common"], accuracy=accuracy, fall=0)
    shown = words(table("--results", tmp_path))
    assert "There is no mCE. The reference's errors under gaussian_noise are 0" in shown
    assert "d resnet18 100.0 100.0" in shown
    named = table("--results", tmp_path, "--reference", "resnet18")
    assert named.exit_code == 2 and "which nothing can be divided by" in named.stderr


def test_validation_corruptions_are_shown_and_enter_no_mean(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    answered(tmp_path, "m", kinds=("fog", "spatter"), fall=0.05)
    frame = read(tmp_path)
    means = frame[frame.metric == "accuracy"].groupby("condition")["value"].mean()
    lines = words(table("--results", tmp_path))
    of = {name: f"{100 * means[name]:.1f}" for name in ("fog", "spatter")}
    assert of["fog"] != of["spatter"]
    assert re.search(rf"spatter [\d. ]+ {of['spatter']} mean [\d. ]+ {of['fog']} ", lines)


def test_means_over_corruptions_are_those_of_robustbench(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    """A mean of 75 accuracies, as `robustbench.eval` takes it."""
    kinds = FAMILIES["common"]
    path = answered(tmp_path, "mine", suite="cifar10_c", dataset="cifar10-c", kinds=kinds, n=230)
    cells = json.loads(path.with_suffix(".json").read_text())["cells"]
    accuracy = {}
    for name, key in cells.items():
        arrays = read_arrays(CellStore(tmp_path / "cells").path(key))[0]
        condition, _, level = name.rpartition(" ")
        hits = arrays["logits"].argmax(axis=1) == arrays["labels"]
        accuracy[condition, int(level)] = hits.mean()
    clean = accuracy.pop(("clean", 0))
    frame = pd.DataFrame(accuracy, index=["mine"])  # columns (corruption, severity)
    assert frame.shape == (1, 75)
    arguments = ("--results", tmp_path, "--suite", "cifar10_c")
    rows = json.loads(table(*arguments, "--json").stdout)
    (row,) = (r for r in rows if r["table"] == "summary")
    expected = {"clean": clean, "corrupted": frame.to_numpy().mean()}
    for family in ("noise", "blur", "weather", "digital"):
        expected[family] = frame[list(FAMILIES[family])].to_numpy().mean()
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    by_kind = {r["condition"]: r["mean"] for r in rows if r["table"] == "severity"}
    assert by_kind.pop("mean") == pytest.approx(expected["corrupted"], abs=1e-6)
    assert by_kind == pytest.approx({k: frame[k].to_numpy().mean() for k in kinds}, abs=1e-6)
    said = words(table(*arguments))
    assert f"cifar10-c mine {100 * clean:.1f} {100 * expected['corrupted']:.1f} " in said
    families = [f"{100 * expected[f]:.1f}" for f in ("noise", "blur", "weather", "digital")]
    assert " ".join(families) in said


def test_any_suite_is_printed_as_rows_of_its_leaderboard(tmp_path: Path) -> None:
    key = {"model": "ode", "suite": "mine", "dataset": "d", "seed": 0, "run": "r"}
    measured = [
        Measurement(solver, steps, metric, "", value, 50)
        for solver in ("euler", "rk4")
        for steps in (1, 2, 4, 8, 16)
        for metric, value in (("accuracy", 0.5), ("nfe", 4.0 * steps), ("entropy", 1.5))
    ]
    made = {"cells": {}, "limit": 0, "version": 1, "data": "images"}
    write(csv_path(tmp_path, "d", "mine", "ode", 0), key, measured, made)
    said = words(table("--results", tmp_path))
    assert "d accuracy % euler 1 ode 50.0 36.6-63.4 1 1 50" in said
    assert "15 more rows: `--json` prints all of them." in said
    assert table("--results", tmp_path, "--write").exit_code == 0
    board = pd.read_csv(tmp_path / "leaderboard.csv").set_index(["metric", "group"])
    assert len(board) == 30 and board.loc[("nfe", "rk4 16"), "value"] == 64
    assert board["low"].isna()[("nfe", "rk4 16")]


def test_tables_are_made_again_from_cells(tmp_path: Path, answered: Callable[..., Path]) -> None:
    paths = [answered(tmp_path, "m", seed) for seed in range(3)]
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(whole[0].replace(b"accuracy,,0.", b"accuracy,,0.0"))
    paths[1].unlink()
    said = words(table("--results", tmp_path, "--rescore"))
    assert f"{paths[0]} is made again. {paths[1]} is made again. 1 tables are what their" in said
    assert [path.read_bytes() for path in paths] == whole
    told = json.loads(paths[0].with_suffix(".json").read_text())
    assert told["rescored"]["command"] and told["data"] == "images"
    assert "rescored" not in json.loads(paths[2].with_suffix(".json").read_text())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert "3 tables are what their cells say." in words(table("--results", tmp_path, "--rescore"))
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "edit, reason",
    [
        ({"suite": "gone"}, "there is no suite called `gone` here"),
        ({"version": 7}, "it has version 7 of its suite, which is now 1; run it again"),
        ({"cells": {"clean 0": "0" * 64}}, "its cell `clean 0` is not here"),
    ],
)
def test_what_cannot_be_made_again_stays(
    tmp_path: Path, answered: Callable[..., Path], edit: dict, reason: str
) -> None:
    path = answered(tmp_path, "m")
    beside = path.with_suffix(".json")
    write_json(beside, read_json(beside, "") | edit)
    before = path.read_bytes()
    said = " ".join(table("--results", tmp_path, "--rescore").stdout.split())
    assert f"seed0.csv stays as it is: {reason}." in said
    assert path.read_bytes() == before


def test_a_cell_that_a_stranger_vouches_for_is_not_measured(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    path = answered(tmp_path, "m")
    key = read_json(path.with_suffix(".json"), "")["cells"]["clean 0"]
    cell = CellStore(tmp_path / "cells").path(key)
    arrays, description = read_arrays(cell)
    write_arrays(cell, arrays | {"labels": arrays["labels"] + 99}, description)
    said = words(table("--results", tmp_path, "--rescore"))
    assert "seed0.csv stays as it is: its cell `clean 0` is not here." in said
    assert CellStore(tmp_path / "cells").look(key) is None


def test_nothing_to_make_again_is_said(tmp_path: Path, answered: Callable[..., Path]) -> None:
    result = table("--results", tmp_path, "--rescore")
    assert result.exit_code == 2 and "There are no runs in" in result.stderr
    path = answered(tmp_path, "m")
    shutil.rmtree(tmp_path / "cells")
    said = words(table("--results", tmp_path, "--rescore"))
    assert f"{path} stays as it is: its cell `clean 0` is not here. 0 tables are what" in said
    assert len(read(tmp_path)) == 80
