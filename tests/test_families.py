"""Models by family beside what papers report of them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.models.catalog import CATALOG
from harness.models.papers import Paper
from harness.models.reported import IMAGENET, REPORTED
from harness.present.families import FAMILIES, NULL, family_of, say
from harness.suites.catalog import DATASETS

PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published"


def table(*options: str) -> str:
    made = CliRunner().invoke(app, ["table", "--by-family", *options])
    assert made.exit_code == 0, made.output
    return made.stdout


@pytest.mark.parametrize("name", REPORTED)
def test_a_published_number_says_of_what_and_by_whom(name: str) -> None:
    assert CATALOG[name].reported == REPORTED[name]
    for reported in REPORTED[name]:
        assert reported.dataset in {*DATASETS, IMAGENET} and 0.5 < reported.accuracy < 1
        assert reported.scale and reported.short and reported.link.startswith("https://")
        if isinstance(reported.source, Paper) and reported.source.key != "modas2022prime":
            assert reported.source in CATALOG[name].papers


def test_numbers_are_those_of_the_papers() -> None:
    of = {(n, r.dataset, r.group): r.accuracy for n in REPORTED for r in REPORTED[n][::-1]}
    assert of["hamiltonian", "stl10", "clean"] == 0.783
    assert of["resnet20", "cifar10", "clean"] == pytest.approx(1 - 0.0875)
    assert of["shake_shake26", "cifar10", "clean"] == pytest.approx(1 - 0.0355)
    assert of["resnet18", "cifar10", "common"] == 0.74


def test_the_family_does_not_depend_on_arguments() -> None:
    assert family_of("ode_block(num_steps=8, solver='euler')[bfloat16]") == "touchpoint"
    assert family_of("resnet18_slot4") == "null" and family_of("mine") == "other"


def test_another_data_set_is_named() -> None:
    rows = json.loads(table("--results", str(PUBLISHED / "baseline"), "--json"))
    rows = rows if isinstance(rows, list) else rows["families"]
    (row,) = [r for r in rows if r.get("model") == "resnet18"]
    assert say(row["published"], "cifar10") == "95.0, 74.0 corrupted"
    assert say(row["published"], "svhn") == "95.0 on cifar10, 74.0 corrupted on cifar10"
    assert row["scale"] == "width 16, 26 epochs" and row["corrupted_low"] < row["corrupted"]


def test_rows_stand_by_family_with_their_ranks() -> None:
    shown = table("--results", str(PUBLISHED), "--suite", "robustness", "--dataset", "digits")
    rows = [line.split() for line in shown.splitlines() if line.startswith("digits ")]
    families = [row[1] for row in rows]
    assert {"baseline", "touchpoint", NULL} <= set(families) <= set(FAMILIES)
    assert families == sorted(families, key=FAMILIES.index)  # the null models last
    assert len({row[2] for row in rows}) == len(rows)
    assert "models that cannot be told apart share them" in shown


def test_results_without_accuracy_are_refused(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["table", "--by-family", "--results", str(tmp_path)])
    assert made.exit_code == 2
