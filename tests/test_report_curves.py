import math

import pandas as pd
import pytest

from harness.analysis import wilson
from harness.report.curves import curves
from harness.storage.results import COLUMNS

PLACE = {"a": 0, "b": 1}


def table(*rows: tuple, suite: str = "robustness", n: int = 1000) -> pd.DataFrame:
    """(model, seed, condition, level, metric, value)."""
    whole = [(m, suite, "d", s, c, level, name, v, n, "r") for m, s, c, level, name, v in rows]
    return pd.DataFrame(whole, columns=list(COLUMNS))


def line(suite: dict, metric: str, model: int, condition: str) -> list[tuple]:
    """(level, value, low, high) of a curve."""
    flat = next(m for m in suite["metrics"] if m["metric"] == metric)["models"][str(model)]
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
    assert not suite["log"] and suite["seeds"] == [0, 1] and suite["images"] == [1000]


def test_the_band_of_a_rate_is_wilsons() -> None:
    (suite,) = curves(table(*fog()), PLACE)
    low, high = wilson(800, 1000)
    assert line(suite, "accuracy", 0, "fog")[1] == (
        1,
        80.0,
        round(100 * low, 1),
        round(100 * high, 1),
    )


def test_the_band_of_another_number_is_students_over_seeds() -> None:
    rows = [("a", s, "fog", level, "nll", 1.0 + s * 0.2) for s in (0, 1) for level in (1, 2)]
    (suite,) = curves(table(*rows), PLACE)
    half = 12.706 * 0.1  # t(0.975, 1) times the standard error of 1.0 and 1.2
    _, value, low, high = line(suite, "nll", 0, "fog")[0]
    assert value == 1.1 and low == pytest.approx(1.1 - half, abs=1e-3)
    assert high == pytest.approx(1.1 + half, abs=1e-3)
    (single,) = curves(table(*rows[:2]), PLACE)
    assert line(single, "nll", 0, "fog")[0] == (1, 1.0, None, None)


def test_what_a_model_lacks_is_no_point() -> None:
    (suite,) = curves(table(*fog(), *fog("b")[:2]), PLACE)
    assert line(suite, "accuracy", 1, "fog")[2] == (2, None, None, None)


def test_an_infinite_value_is_no_point() -> None:
    rows = [("a", 0, "depth", level, "growth", v) for level, v in ((1, 2.0), (2, math.inf))]
    (suite,) = curves(table(*rows, suite="stability"), PLACE)
    assert [point[1] for point in line(suite, "growth", 0, "depth")] == [2.0, None]


def test_the_mean_is_over_the_common_corruptions_of_models_that_have_them_all() -> None:
    def of(model: str, condition: str, value: float) -> list[tuple]:
        return [(model, 0, condition, level, "accuracy", value) for level in (1, 2)]

    both = table(*of("a", "fog", 0.8), *of("a", "snow", 0.6), *of("b", "fog", 0.9))
    (suite,) = curves(both, PLACE)
    assert line(suite, "accuracy", 0, "mean of all")[0][:2] == (1, 70.0)
    assert line(suite, "accuracy", 1, "mean of all")[0][1] is None
    (suite,) = curves(table(*of("a", "fog", 0.8), *of("a", "saturate", 0.0)), PLACE)
    assert line(suite, "accuracy", 0, "mean of the common")[0][:2] == (1, 80.0)


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


def test_a_suites_own_interval_is_that_of_a_single_seed() -> None:
    rows = nfe_rows("a")
    for steps in (1, 2, 32):
        for name, value in (("", 0.25), ("_low", 0.125), ("_high", 0.5)):
            rows.append(("a", 0, "rk4", steps, f"nfe_rho_loss{name}", value))
    (suite,) = curves(table(*rows, suite="nfe"), PLACE)
    assert [m["metric"] for m in suite["metrics"]] == ["accuracy", "nfe_rho_loss"]
    assert line(suite, "nfe_rho_loss", 0, "rk4")[0] == (1, 0.25, 0.125, 0.5)
    again = [(model, 1, *rest) for model, _, *rest in rows]
    (both,) = curves(table(*rows, *again, suite="nfe"), PLACE)
    assert line(both, "nfe_rho_loss", 0, "rk4")[0] == (1, 0.25, 0.25, 0.25)


def test_levels_far_apart_have_a_logarithmic_axis() -> None:
    rows = [("a", 0, "batch", level, "latency_s", 0.1) for level in (1, 8, 128)]
    (suite,) = curves(table(*rows, suite="cost"), PLACE)
    assert suite["log"] and suite["x"] == "level"
    rows = [("a", 0, "linf_pgd", level, "accuracy", 0.5) for level in (0.01, 0.3)]
    (suite,) = curves(
        table(("a", 0, "clean", 0, "accuracy", 0.9), *rows, suite="adversarial"), PLACE
    )
    assert not suite["log"] and suite["x"] == "level (0: clean)"


def test_a_suite_without_levels_has_no_curves() -> None:
    rows = [("a", 0, "clean", 0, "accuracy", 0.9), ("a", 0, "clean", 0, "accuracy_class_0", 0.8)]
    assert curves(table(*rows, suite="clean"), PLACE) == []


def test_suites_and_data_sets_are_kept_apart() -> None:
    first, second = table(*fog()), table(*fog()).assign(dataset="e")
    found = curves(pd.concat([first, second]), PLACE)
    assert [(suite["dataset"], suite["suite"]) for suite in found] == [
        ("d", "robustness"),
        ("e", "robustness"),
    ]
