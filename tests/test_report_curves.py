import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from harness.analysis.boards import open_outcomes
from harness.analysis.leaderboard import as_csv, leaderboard
from harness.analysis.numbers import cell_intervals
from harness.analysis.outcomes import StoredOutcomes
from harness.progress import Progress
from harness.report.board import columns
from harness.report.curves import curves
from harness.storage.results import COLUMNS, read

PLACE = {"a": 0, "b": 1}


def table(*rows: tuple, suite: str = "robustness", n: int = 1000) -> pd.DataFrame:
    """(model, seed, condition, level, metric, value); a metric may be "NAME: VARIANT"."""
    whole = []
    for model, seed, condition, level, name, value in rows:
        metric, _, variant = name.partition(": ")
        key = model, suite, "d", seed, condition, level, metric, variant
        whole.append((*key, value, n, f"r{seed}"))
    return pd.DataFrame(whole, columns=list(COLUMNS))


def line(suite: dict, metric: str, model: int, condition: str) -> list[tuple]:
    """(level, value, low, high) of a curve."""
    name, _, variant = metric.partition(": ")
    of = [m for m in suite["metrics"] if (m["metric"], m["variant"]) == (name, variant)]
    flat = of[0]["models"][str(model)]
    points = list(zip(suite["cells"], flat[::3], flat[1::3], flat[2::3], strict=True))
    which = suite["conditions"].index(condition)
    return [(level, *numbers) for (c, level), *numbers in points if c == which]


def fog(model: str = "a", seed: int = 0, more: float = 0.0) -> list[tuple]:
    return [(model, seed, "clean", 0, "accuracy", 0.9)] + [
        (model, seed, "fog", level, "accuracy", 0.9 - 0.1 * level + more) for level in (1, 2)
    ]


def test_a_curve_starts_clean_and_is_the_mean_over_seeds() -> None:
    (suite,) = curves(table(*fog(), *fog(seed=1, more=0.02)), PLACE)
    found = line(suite, "accuracy", 0, "fog")
    assert [(level, value) for level, value, *_ in found] == [(0, 90.0), (1, 81.0), (2, 71.0)]
    assert suite["x"] == "severity (0: clean)" and suite["conditions"] == ["fog"]
    assert not suite["log"] and suite["seeds"] == 2


@pytest.mark.parametrize("metric", ["accuracy", "nfe_auroc"])
def test_intervals_are_those_of_the_analysis(metric: str) -> None:
    rows = [("a", s, "fog", k, metric, 0.5 + 0.1 * s) for s in (0, 1) for k in (1, 2)]
    frame = table(*rows)
    (suite,) = curves(frame, PLACE)
    known = cell_intervals(frame, None, metric).set_index("group").loc["fog 1"]
    factor, places = (100, 1) if metric == "accuracy" else (1, 4)
    numbers = [float(f"{factor * known[name]:.{places}f}") for name in ("value", "low", "high")]
    assert line(suite, metric, 0, "fog")[0] == (1, *numbers)


def test_other_numbers_of_a_single_seed_have_no_interval() -> None:
    (single,) = curves(table(*(("a", 0, "fog", k, "nll", 1.0) for k in (1, 2))), PLACE)
    assert line(single, "nll", 0, "fog")[0] == (1, 1.0, None, None)


def test_a_number_on_the_leaderboard_has_its_interval_also_without_images(
    tmp_path: Path, answered: Callable[..., Path]
) -> None:
    for seed in (0, 1, 2):
        answered(tmp_path, "a", seed)
    frame = read(tmp_path)
    board = leaderboard(frame, StoredOutcomes(tmp_path))
    (tmp_path / "leaderboard.csv").write_bytes(as_csv(board))
    column = next(c for c in columns(board, PLACE) if c["title"] == "accuracy")
    quiet = Progress(Console(stderr=True), "quiet")

    def clean() -> tuple:
        with open_outcomes(tmp_path, frame, quiet) as outcomes:
            (suite,) = curves(frame, PLACE, outcomes)
        return line(suite, "accuracy", 0, "gaussian_noise")[0]

    assert column["group"] == "clean" and clean() == (0, *column["rows"][0][1:4])
    with_images = clean()
    shutil.rmtree(tmp_path / "cells")
    assert clean() == with_images


def test_what_a_model_lacks_is_no_point() -> None:
    (suite,) = curves(table(*fog(), *fog("b")[:2]), PLACE)
    assert line(suite, "accuracy", 1, "fog")[2] == (2, None, None, None)


def test_an_infinite_value_is_no_point() -> None:
    rows = [("a", 0, "depth", level, "growth", v) for level, v in ((1, 2.0), (2, math.inf))]
    (suite,) = curves(table(*rows, suite="stability"), PLACE)
    assert [point[1] for point in line(suite, "growth", 0, "depth")] == [2.0, None]


def corrupted(model: str, condition: str, value: float) -> list[tuple]:
    return [(model, 0, condition, level, "accuracy", value) for level in (1, 2)]


def test_the_mean_is_over_the_common_corruptions_that_all_models_have() -> None:
    both = [*corrupted("a", "fog", 0.8), *corrupted("a", "snow", 0.6)]
    (suite,) = curves(table(*both), PLACE)
    assert line(suite, "accuracy", 0, "mean of all")[0][:2] == (1, 70.0)
    others = [*both, *corrupted("b", "fog", 0.9), *corrupted("b", "snow", 0.7)]
    (suite,) = curves(table(*others, *corrupted("a", "frost", 0.1)), PLACE)
    assert line(suite, "accuracy", 0, "mean of 2 common")[0][:2] == (1, 70.0)
    assert line(suite, "accuracy", 1, "mean of 2 common")[0][:2] == (1, 80.0)


def test_validation_corruptions_enter_no_mean() -> None:
    both = [*corrupted("a", "fog", 0.8), *corrupted("a", "snow", 0.6)]
    (suite,) = curves(table(*both, *corrupted("a", "saturate", 0.0)), PLACE)
    assert suite["conditions"] == ["fog", "snow", "saturate", "mean of 2 common"]
    assert line(suite, "accuracy", 0, "mean of 2 common")[0][:2] == (1, 70.0)
    (suite,) = curves(table(*both[:2], *corrupted("a", "saturate", 0.0)), PLACE)
    assert suite["conditions"] == ["fog", "saturate"]


def test_variants_are_kept_apart_and_those_of_classes_and_bounds_left_out() -> None:
    names = ["gini: used", "gini: sharp", "gini: used, class 3", "gini: used, low"]
    rows = [("a", 0, "fog", k, name, 0.5) for name in names for k in (1, 2)]
    (suite,) = curves(table(*rows, suite="attention"), PLACE)
    found = [(m["metric"], m["variant"], m["title"]) for m in suite["metrics"]]
    assert found == [("gini", "used", "Gini coefficient"), ("gini", "sharp", "Gini coefficient")]


def nfe_rows(model: str, tolerances: tuple[float, ...] = ()) -> list[tuple]:
    rows = []
    for steps in (1, 2, 32):
        for name, value in (("accuracy", 0.9), ("nfe", 4.0 * steps)):
            rows.append((model, 0, "rk4", steps, name, value))
    for level in tolerances:
        for name, value in (("accuracy", 0.9), ("nfe", 20 - math.log10(level))):
            rows.append((model, 0, "dopri5", level, name, value))
    return rows


def test_accuracy_is_drawn_against_evaluations_where_they_are_counted() -> None:
    (suite,) = curves(table(*nfe_rows("a", (0.1, 0.001)), suite="nfe"), PLACE)
    assert suite["x"] == "NFE" and suite["log"] and suite["conditions"] == ["rk4", "dopri5"]
    assert [m["metric"] for m in suite["metrics"]] == ["accuracy"]
    assert suite["cells"] == [[0, 1.0], [0, 2.0], [0, 32.0], [1, 0.001], [1, 0.1]]
    assert suite["at"] == {"0": [4.0, 8.0, 128.0, 23.0, 21.0]}


def test_costs_of_the_whole_network_are_axes_where_they_are_counted() -> None:
    rows = nfe_rows("a", (0.1, 0.001))
    rows += [
        (*row[:4], name, of(row[5]))
        for row in rows
        if row[4] == "nfe"
        for name, of in (("evaluations", lambda v: v + 7), ("macs", lambda v: 1e7 * (v + 7)))
    ]
    rows += [("b", 0, "depth", 0, name, v) for name, v in (("accuracy", 0.8), ("evaluations", 8.0))]
    (suite,) = curves(table(*rows, suite="nfe"), PLACE)
    first, second = suite["axes"]
    assert suite["x"] == first["x"] == "residual evaluations" and suite["log"]
    assert (
        suite["at"]
        == first["at"]
        == {
            "0": [11.0, 15.0, 135.0, 30.0, 28.0, None],
            "1": [None] * 5 + [8.0],
        }
    )
    assert second["x"] == "multiply-adds, millions"
    assert second["at"] == {"0": [110.0, 150.0, 1350.0, 300.0, 280.0, None]}
    assert [m["metric"] for m in suite["metrics"]] == ["accuracy"]


def test_models_without_a_solver_stand_beside_every_curve() -> None:
    depth = [("b", 0, "depth", 0, name, v) for name, v in (("accuracy", 0.8), ("nfe", 8.0))]
    mixed = [("a", 0, "dopri5, gaussian_noise 0-5", 0.001, "accuracy", 0.7)]
    (suite,) = curves(table(*nfe_rows("a"), *depth, *mixed, suite="nfe"), PLACE)
    assert suite["conditions"] == ["rk4", "depth"] and suite["everywhere"] == 1
    assert line(suite, "accuracy", 1, "depth")[0][:2] == (0, 80.0)
    assert suite["at"]["1"] == [None, None, None, 8.0]
    (without,) = curves(table(*nfe_rows("a"), suite="nfe"), PLACE)
    assert without["everywhere"] is None
    assert curves(table(*depth, suite="nfe"), PLACE) == []


def test_levels_far_apart_have_a_logarithmic_axis() -> None:
    rows = [("a", 0, "batch", level, "latency_s", 0.1) for level in (1, 8, 128)]
    (suite,) = curves(table(*rows, suite="cost"), PLACE)
    assert suite["log"] and suite["x"] == "level"
    attacked = [("a", 0, "linf_pgd", level, "accuracy", 0.5) for level in (0.01, 0.3)]
    (suite,) = curves(
        table(("a", 0, "clean", 0, "accuracy", 0.9), *attacked, suite="adversarial"), PLACE
    )
    assert not suite["log"] and suite["x"] == "level (0: clean)"


def test_a_suite_without_levels_has_no_curves() -> None:
    rows = [("a", 0, "clean", 0, "accuracy", 0.9), ("a", 0, "clean", 0, "accuracy: class 0", 0.8)]
    assert curves(table(*rows, suite="clean"), PLACE) == []


def test_suites_and_data_sets_are_kept_apart() -> None:
    first, second = table(*fog()), table(*fog()).assign(dataset="e")
    found = curves(pd.concat([first, second]), PLACE)
    assert [(suite["dataset"], suite["suite"]) for suite in found] == [
        ("d", "robustness"),
        ("e", "robustness"),
    ]
