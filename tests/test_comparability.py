"""What keeps the numbers of models from being compared is said; where nothing does, nothing is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.analysis.comparability import (
    behaviors_of,
    describe_conditions,
    find_notes,
    unequal_means,
)
from harness.cli import app
from harness.front import compare
from harness.storage.results import COLUMNS
from harness.suites.catalog import COMMON, FAMILIES

COUNTS, WAYS = "Measured on different numbers of images", "Measured in different ways"
Cells = list[tuple[str, int]]
NOISE = [(kind, level) for kind in FAMILIES["noise"] for level in range(1, 6)]
RECIPE = {"epochs": 26, "peak_lr": 0.1, "stages": [], "compiled": False}
MADE = {
    "data": "aaaa",
    "images": 100,
    "version": 1,
    "dtype": "float32",
    "code": {"suite": {"harness.suites.robustness": "1", "package numpy": "2"}},
    "training": {"recipe": RECIPE, "arguments": {"width": 16, "num_steps": 4}, "data": "bbbb"},
    "environment": {"device": "AMD EPYC, 2 threads", "versions": {"torch": "2.9.1"}},
}


def rows(model: str, cells: Cells, seeds: tuple[int, ...] = (0,), suite: str = "robustness") -> Any:
    return pd.DataFrame(
        [
            (model, suite, "d", seed, *cell, "accuracy", "", 0.5, 100, f"r{seed}")
            for seed in seeds
            for cell in [("clean", 0), *cells]
        ],
        columns=list(COLUMNS),
    )


def told(*changes: dict, suites: tuple[str, ...] = ("robustness",)) -> list[str]:
    """Notes on models m0, m1, ... whose JSONs differ as given."""
    tables = [rows(f"m{i}", NOISE, suite=s) for i in range(len(changes)) for s in suites]
    made = {("d", s, f"m{i}", 0): MADE | c for i, c in enumerate(changes) for s in suites}
    return find_notes(pd.concat(tables), made)


def trained(**recipe: object) -> dict:
    return {"training": MADE["training"] | {"recipe": RECIPE | recipe}}


def test_nothing_is_said_of_what_can_be_compared() -> None:
    assert told({}, {}, {"wall_s": 3, "finished": "today", "weights": "c"}) == []
    # More threads, a patch of the library, compilation, and a model's own argument.
    other = {"device": "AMD EPYC, 64 threads", "versions": {"torch": "2.9.0"}}
    own = {"recipe": RECIPE | {"compiled": True}, "arguments": {"width": 16}, "data": "bbbb"}
    assert told({}, {"environment": other}, {"training": own}, {"training": None}) == []
    # Code of corruptions that the other was not asked about.
    assert told({}, {"code": {"suite": {"harness.suites.robustness": "1", "fog": "3"}}}) == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"images": 50}, f"{COUNTS} (d, robustness): 100 (m0); 50 (m1)."),
        ({"data": "cc"}, "Measured on different images (d, robustness): aaaa (m0); cc (m1)."),
        ({"version": 2}, f"{WAYS} (d, robustness): version 1 (m0); version 2 (m1)."),
        (
            {"dtype": "bfloat16"},
            "Measured in different ways (d, robustness): dtype float32 (m0); dtype bfloat16 (m1).",
        ),
        (trained(epochs=3), "Trained in different ways (d): epochs 26 (m0); epochs 3 (m1)."),
        (
            trained(epochs=3, peak_lr=0.25),
            "Trained in different ways (d): epochs 26, peak lr 0.1 (m0); epochs 3, peak lr 0.25 "
            "(m1).",
        ),
        (
            {"training": MADE["training"] | {"data": "dddd"}},
            "Trained in different ways (d): training images bbbb (m0); training images dddd (m1).",
        ),
        (
            {"environment": {"device": "NVIDIA H100", "versions": {"torch": "2.10.0"}}},
            "Measured on different machines or library versions (d): AMD EPYC, torch 2.9 (m0); "
            "NVIDIA H100, torch 2.10 (m1).",
        ),
    ],
)  # fmt: skip
def test_each_difference_is_said_in_a_sentence(change: dict, said: str) -> None:
    assert told({}, change) == [said]


def test_other_code_of_a_suite_is_told_apart() -> None:
    (said,) = told({}, {"code": {"suite": {"harness.suites.robustness": "9"}}})
    assert re.fullmatch(r"Measured in .*: code [0-9a-f]{6} \(m0\); code [0-9a-f]{6} \(m1\)\.", said)


def test_models_are_grouped_and_suites_that_read_alike_are_one_sentence() -> None:
    changes = [{}] * 6 + [{"images": 50}, trained(epochs=3)]
    assert told(*changes, suites=("clean", "robustness")) == [
        f"{COUNTS} (d, clean; d, robustness): 100 (7 models); 50 (m6).",
        "Trained in different ways (d): epochs 26 (7 models); epochs 3 (m7).",
    ]  # fmt: skip


def test_seeds_of_one_model_are_told_apart() -> None:
    table = pd.concat([rows("a", NOISE, (0, 1, 2)), rows("b", NOISE)])
    made = {("d", "robustness", "a", s): MADE for s in (0, 2)}
    made |= {("d", "robustness", "a", 1): MADE | trained(epochs=3)}
    assert find_notes(table, made) == [
        "Trained in different ways (d): epochs 26 (a seed 0, 2); epochs 3 (a seed 1)."
    ]
    assert find_notes(pd.concat([rows("a", NOISE), rows("a", NOISE[:5], (1,))]), {}) == [
        "Seeds measured under different conditions: a (d, robustness). A mean is over the seeds "
        "that have all of its conditions."
    ]


def test_runs_that_are_not_in_the_table_count_for_nothing() -> None:
    made = {("d", "robustness", m, 0): MADE | c for m, c in (("a", {}), ("b", {"images": 3}))}
    assert find_notes(rows("a", NOISE), made) == []


def test_conditions_are_named_by_family_where_that_is_whole() -> None:
    assert describe_conditions([("clean", 0), *NOISE]) == "noise"
    assert (
        describe_conditions([*NOISE[:5], ("fog", 1), ("fog", 3)]) == "gaussian noise, fog at 1, 3"
    )
    whole = [(kind, level) for kind in COMMON for level in range(1, 6)]
    assert describe_conditions(whole) == "common"
    five = [(kind, 1) for kind in FAMILIES["blur"] + FAMILIES["noise"][:2]]
    assert describe_conditions(five) == "blur at 1, gaussian noise at 1, shot noise at 1"


def test_means_over_other_corruptions_than_most_are_found() -> None:
    few, fog = NOISE[:5], [("fog", level) for level in range(1, 6)]
    table = pd.concat([rows("a", NOISE), rows("b", NOISE), rows("c", few), rows("e", fog)])
    assert unequal_means(table) == {
        ("d", "robustness", "c"): ("gaussian noise", "noise"),
        ("d", "robustness", "e"): ("fog", "noise"),
    }
    assert unequal_means(pd.concat([rows("a", NOISE), rows("b", NOISE)])) == {}
    assert unequal_means(pd.concat([rows("a", NOISE), rows("b", [])])) == {}
    # Corruptions of validation enter no mean.
    assert unequal_means(pd.concat([rows("a", NOISE), rows("b", [*NOISE, ("spatter", 1)])])) == {}
    assert unequal_means(pd.concat([rows("a", few), rows("b", NOISE)])) == {
        ("d", "robustness", "a"): ("gaussian noise", "noise")
    }


def test_what_models_depend_on_is_collected_over_seeds() -> None:
    key = ("d", "clean", "m")
    made: dict = {(*key, 0): {"behavior": ["random"]}, (*key, 1): {"behavior": []}}
    made |= {(*key, 2): {"behavior": ["random", "changes itself"]}}
    made |= {("d", "clean", "old", 0): {"transductive": True}, ("d", "clean", "plain", 0): {}}
    assert behaviors_of(made) == {
        key: ["random", "changes itself"],
        ("d", "clean", "old"): ["depends on the other images of its batch"],
    }


@pytest.fixture
def unlike(tmp_path: Path, store_table: Callable[..., None]) -> Path:
    """Two models under noise, one of them random, and a third under fog on fewer images."""
    fog = [("fog", level) for level in range(1, 6)]
    made = MADE | {"behavior": []}
    store_table(tmp_path, rows("a", NOISE), **made)
    store_table(tmp_path, rows("b", NOISE), **made | {"behavior": ["random", "changes itself"]})
    store_table(tmp_path, rows("net", fog), **made | {"images": 50})
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_marks_what_cannot_be_compared_and_says_why(unlike: Path) -> None:
    lines = [" ".join(line.split()) for line in run("table", "--results", unlike).splitlines()]
    summary = next(i for i, line in enumerate(lines) if "corrupted %" in line)
    shown = {line.split()[1]: line for line in lines[summary + 1 : summary + 4]}
    assert "50.0* " in shown["net"] and "*" not in shown["a"] + shown["b"]
    assert shown["b"].startswith("d b \u2020 ")
    assert (
        "* not comparable on d: over other corruptions or severities, fog (net). Without *: over "
        "noise."
    ) in lines
    assert "\u2020 b: random; changes itself." in lines
    assert lines[-1] == (
        "Measured on different numbers of images (d, robustness): 100 (a, b); 50 (net)."
    )
    ranks = next(line for line in lines if line.startswith("Ranks of accuracy"))
    assert "net" not in ranks


def test_programs_and_papers_get_the_same_notes(unlike: Path) -> None:
    records = json.loads(run("table", "--results", unlike, "--json"))
    note = "Measured on different numbers of images (d, robustness): 100 (a, b); 50 (net)."
    assert [r["note"] for r in records if r["table"] == "notes"] == [note]
    means = {r["model"]: r for r in records if r["table"] == "summary"}
    assert means["net"]["corrupted_over"] == "fog" and "corrupted_over" not in means["a"]
    assert means["b"]["behavior"] == ["random", "changes itself"]
    paper = run("table", "--results", unlike, "--latex")
    assert f"% {note}" in paper and "$^{*}$ &" in paper and "b $^{\\dagger}$" in paper


def test_a_comparison_says_it_too(unlike: Path) -> None:
    said = " ".join(run("compare", unlike, "--models", "b,net").split())
    assert "100 (b); 50 (net)." in said and "b (d): random; changes itself." in said
    assert "d, robustness: not compared, since only b has it: noise." in said
    sentences = compare(unlike, models="b,net").attrs["sentences"]
    assert any("only net has it: fog" in line for line in sentences)
