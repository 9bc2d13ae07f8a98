"""One interval for one number: what figures, tables and reports take their numbers from."""

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness.analysis import boards
from harness.analysis.leaderboard import as_csv, leaderboard
from harness.analysis.numbers import (
    COLUMNS,
    cell_differences,
    cell_intervals,
    cell_samples,
    differences_of,
    intervals_of,
    means_of,
    shared_corruptions,
)
from harness.analysis.outcomes import StoredOutcomes
from harness.progress import Progress
from harness.storage.results import read
from harness.suites.catalog import FAMILIES
from harness.suites.metrics import SCORES

Answer = Callable[..., Path]  # writes a run


@pytest.fixture
def three(tmp_path: Path, answered: Answer) -> Path:
    """Three models of two seeds without packed hits: noise, a validation corruption, a user's."""
    for model, accuracy in (("base", 0.8), ("good", 0.9), ("poor", 0.7)):
        for seed in range(2):
            kinds = (*FAMILIES["noise"], "spatter", "rain")
            answered(tmp_path, model, seed, accuracy=accuracy, kinds=kinds, bits=False)
    return tmp_path


def test_intervals_are_those_of_the_leaderboard(three: Path) -> None:
    table, outcomes = read(three), StoredOutcomes(three)
    found = cell_intervals(table, outcomes)
    assert tuple(found.columns) == COLUMNS and set(found.basis) == {"images"}
    board = leaderboard(table, outcomes)
    board = board[board.metric == "accuracy"]
    both = found.merge(board, on=["model", "group"], suffixes=("", "_board"))
    assert set(both.group) == {"clean", "noise", *FAMILIES["noise"], "spatter", "rain"}
    for name in ("value", "low", "high", "seeds"):
        assert list(both[name]) == list(both[f"{name}_board"])


def by_group(frame: pd.DataFrame, model: str) -> dict[str, dict[Any, Any]]:
    return {row["group"]: row for row in frame[frame["model"] == model].to_dict("records")}


def test_every_cell_and_every_level_of_a_mean_has_its_row(three: Path) -> None:
    table = read(three)
    found = cell_intervals(table)
    rows = by_group(found, "good")
    for group, condition, level in (
        ("clean", "clean", 0), ("shot_noise 3", "shot_noise", 3), ("rain 2", "rain", 2),
        ("mean 4", "mean", 4),
    ):  # fmt: skip
        assert (rows[group]["condition"], rows[group]["level"]) == (condition, level)
    assert rows["rain"]["condition"] == "rain" and math.isnan(rows["rain"]["level"])
    assert math.isnan(rows["noise"]["level"]) and "blur" not in rows
    assert (found.low <= found.value).all() and (found.value <= found.high).all()
    assert set(cell_intervals(table, metric=None).metric) == {metric.name for metric in SCORES}


def test_validation_and_users_corruptions_enter_no_mean(three: Path) -> None:
    table = read(three)
    assert shared_corruptions(table) == list(FAMILIES["noise"])
    rows = by_group(cell_intervals(table), "good")
    for level in ("", " 2"):
        assert rows[f"mean{level}"]["value"] == rows[f"noise{level}"]["value"]
    others = table[table.condition.isin(["clean", "spatter", "rain"])]
    assert "mean" not in means_of(others) and "mean" not in set(cell_intervals(others).group)
    # A corruption that one model lacks is no part of what models are compared by.
    lacks = table[(table.model != "poor") | (table.condition != "shot_noise")]
    assert shared_corruptions(lacks) == ["gaussian_noise", "impulse_noise"]


def test_differences_are_paired_and_of_the_same_numbers(three: Path) -> None:
    table, outcomes = read(three), StoredOutcomes(three)
    found = cell_differences(table, outcomes, "base")
    assert tuple(found.columns) == (*COLUMNS, "p", "paired")
    assert set(found.model) == {"good", "poor"} and found.paired.all()
    samples = cell_samples(table, outcomes)
    pd.testing.assert_frame_equal(differences_of(samples, "base"), found)
    good, base = (by_group(intervals_of(samples), model) for model in ("good", "base"))
    rows, poor = (by_group(found, model) for model in ("good", "poor"))
    for group, row in rows.items():
        assert row["value"] == good[group]["value"] - base[group]["value"]
        assert row["low"] < row["high"]
    assert rows["noise"]["low"] > 0 > poor["noise"]["high"] and rows["noise"]["p"] < 0.05
    alone = cell_differences(table, None, "base")
    assert not alone.paired.any() and list(alone.value) == list(found.value)
    assert cell_differences(table, None, "nobody").empty


def test_without_cells_a_mean_keeps_the_interval_that_its_images_gave(three: Path) -> None:
    table, progress = read(three), Progress(Console(stderr=True))
    with boards.open_outcomes(three, table, progress) as outcomes:
        before = cell_intervals(table, outcomes)
    content = as_csv(boards.write(three, progress))
    shutil.rmtree(three / "cells")
    with boards.open_outcomes(three, table, progress) as outcomes:
        after = cell_intervals(table, outcomes)
    means = before.group.isin(["clean", "noise", "mean", "rain"])
    for name in ("value", "low", "high"):
        assert list(after[means][name]) == pytest.approx(list(before[means][name]), abs=1e-6)
    assert set(after[means].basis) == {"images"} and "rates" in set(after[~means].basis)
    # Not where the table says something else, or the leaderboard is damaged.
    moved = table.assign(value=table["value"].clip(upper=0.5))
    with boards.open_outcomes(three, moved, progress) as outcomes:
        assert set(cell_intervals(moved, outcomes).query("group == 'clean'").basis) == {"rates"}
    assert as_csv(boards.write(three, progress)) != content, "it is made from what is there"
    (three / boards.FILE).write_text("no leaderboard")
    with boards.open_outcomes(three, table, progress) as outcomes:
        assert "images" not in set(cell_intervals(table, outcomes).basis)


def test_analysis_and_comparison_import_nothing_heavy() -> None:
    code = """
import importlib, pkgutil, sys
for room in ("harness.analysis", "harness.comparison"):
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__):
        importlib.import_module(f"{room}.{module.name}")
heavy = {"torch", "timm", "torchvision", "matplotlib", "scipy.stats"} & sys.modules.keys()
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
