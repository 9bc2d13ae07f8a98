"""`--model all`: whom it means, and whom it leaves out of what."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.models.catalog import CATALOG
from harness.refusal import Refusal
from harness.running.all_models import group
from harness.running.options import Options


def options(tmp_path: Path, **given: object) -> Options:
    return Options(tmp_path / "results", tmp_path, **given)


def test_all_are_the_classifiers_that_are_trained_like_each_other(tmp_path: Path) -> None:
    groups, left_out = group(["all"], ["digits"], ["clean"], options(tmp_path))
    found = [name for g in groups for name in g.models]
    denoisers = {n for n, e in CATALOG.items() if {"denoiser", "fitted"} & {*e.capabilities}}
    assert len(found) == len(set(found)) and set(found) == set(CATALOG) - denoisers
    assert len(left_out) == 2 and all(sum(n in line for line in left_out) == 1 for n in denoisers)


def test_a_model_is_left_out_of_the_suite_whose_need_it_lacks(tmp_path: Path) -> None:
    suites = ["clean", "nfe", "stability"]
    groups, left_out = group(["all"], ["digits"], suites, options(tmp_path))
    asked = {name: g.suites for g in groups for name in g.models}
    assert asked["ode_block"] == ("clean", "nfe", "stability")
    assert asked["fractalnet20"][0] == "clean" and "stability" not in asked["fractalnet20"]
    assert any("suite `stability`" in line and "fractalnet20" in line for line in left_out)


def test_names_beside_all_stand_once_and_first(tmp_path: Path) -> None:
    groups, left_out = group(["nearest_neighbors", "all"], ["digits"], [], options(tmp_path))
    found = [name for g in groups for name in g.models]
    assert found[0] == "nearest_neighbors" and found.count("resnet18") == 1
    assert not any("nearest_neighbors" in line for line in left_out)
    alone, said = group(["resnet18"], ["digits"], ["clean"], options(tmp_path))
    assert [g.models for g in alone] == [("resnet18",)] and said == []


def test_what_is_for_one_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="`--name` is for one model"):
        group(["all"], ["digits"], ["clean"], options(tmp_path, name="net"))
    with pytest.raises(Refusal, match="The suite `generation` can be asked of none"):
        group(["all"], ["digits"], ["generation"], options(tmp_path))


def test_the_command_lists_the_work_of_all_and_says_who_is_left_out(tmp_path: Path) -> None:
    line = ["run", "--suite", "stability", "--model", "all", "--dry-run", "--json"]
    made = CliRunner().invoke(app, [*line, "--results", str(tmp_path / "results")])
    assert made.exit_code == 0, made.output
    assert "Left out (suite `stability`: " in made.stderr and "edm_score" in made.stderr
    assert "rk_resnet_tied" in made.stdout and "fractalnet20" not in made.stdout
