from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from harness.analysis.numbers import cell_intervals
from harness.plots.labels import END
from harness.plots.nfe import ADAPTIVE, FIXED, costs, doubling, nfe_curve, solver_matrix
from harness.plots.style import Looks
from harness.storage.results import COLUMNS

Measured = dict[tuple[str, float], tuple[float, float]]


def numbers(models: dict[str, Measured], apart: float = 0.1) -> pd.DataFrame:
    """Two seeds of (accuracy, nfe) by model and (condition, level)."""
    rows = [
        (model, "nfe", "digits", seed, condition, level, metric, "", value, 100, "run")
        for model, found in models.items()
        for seed in (0, 1)
        for (condition, level), (accuracy, nfe) in found.items()
        for metric, value in (("accuracy", accuracy + apart * seed), ("nfe", nfe))
    ]
    return cell_intervals(pd.DataFrame(rows, columns=list(COLUMNS)), metric=None)


SOLVED: Measured = {("rk4", 1): (0.65, 4), ("euler", 1): (0.2, 1), ("euler", 4): (0.6, 4)}
SOLVED |= {("dopri5", 1e-3): (0.7, 14.5), ("dopri5", 0.1): (0.68, 14)}
MIXED: Measured = {("dopri5, gaussian_noise 0-5", 1e-3): (0.3, 20)}
DEPTH: Measured = {("depth", 0): (0.9, 8)}
ORDER = ["b", "a", "resnet18"]


def test_costs_are_means_over_seeds_with_the_tables_interval() -> None:
    found = numbers({"ode_block": SOLVED})
    table = costs(found)
    first = table[(table["condition"] == "euler") & (table["level"] == 4)].iloc[0]
    assert first["value"] == pytest.approx(0.65) and first["cost"] == 4
    row = found[(found["group"] == "euler 4") & (found["metric"] == "accuracy")].iloc[0]
    assert (first["low"], first["high"]) == (row["low"], row["high"])


def test_a_line_for_each_solver_and_a_named_line_for_each_fixed_network() -> None:
    found = numbers({"b": SOLVED | MIXED, "a": SOLVED, "resnet18": DEPTH})
    figure = nfe_curve(found, Looks(ORDER))
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    for axis in figure.axes:
        lines = {str(line.get_label()): line for line in axis.lines}
        solvers = [name for name in lines if not name.startswith("_")]
        assert solvers == ["euler", "rk4", "dopri5"], "noisy images are not on this curve"
        assert list(lines["euler"].get_xdata()) == [1, 4]
        assert list(lines["euler"].get_ydata()) == pytest.approx([0.25, 0.65])
        fixed = [to_hex(lines[name].get_color()) for name in ("euler", "rk4")]
        assert set(fixed) <= set(FIXED) and to_hex(lines["dopri5"].get_color()) in ADAPTIVE
        assert axis.get_xscale() == "log"
    last = figure.axes[-1]
    assert [t.get_text() for t in last.texts if t.get_label() == END] == ["resnet18"]
    crosses = [line for line in last.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [8]


def whole(models: dict[str, Measured], rest: int = 7) -> pd.DataFrame:
    """As `numbers`, with costs of the whole network in place of nfe."""
    found = {
        metric: numbers({m: {k: (a, of(k, nfe)) for k, (a, nfe) in cells.items()}
                         for m, cells in models.items()})
        for metric, of in (
            ("evaluations", lambda k, nfe: nfe + rest * (k[0] != "depth")),
            ("macs", lambda k, nfe: 1e8 * (nfe + rest * (k[0] != "depth"))),
        )
    }  # fmt: skip
    frames = [f.assign(metric=f["metric"].replace("nfe", m)) for m, f in found.items()]
    second = frames[1][frames[1]["metric"] == "macs"]
    return pd.concat([frames[0], second], ignore_index=True)


def test_costs_are_those_of_the_whole_network_where_they_were_measured() -> None:
    found = whole({"a": SOLVED, "resnet18": DEPTH})
    figure = nfe_curve(found, Looks(ORDER))
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert list(lines["euler"].get_xdata()) == [8, 11]
    (cross,) = (line for line in figure.axes[0].lines if line.get_marker() == "x")
    assert cross.get_xdata()[0] == 8, "its blocks count alike"
    assert "residual functions" in figure.get_supxlabel()
    macs = nfe_curve(found, Looks(ORDER), axis="macs")
    lines = {str(line.get_label()): line for line in macs.axes[0].lines}
    assert list(lines["euler"].get_xdata()) == [800, 1100], "in millions"
    assert "multiply-adds" in macs.get_supxlabel()


def test_marks_of_an_axis_double_and_are_few() -> None:
    assert doubling(pd.Series([8.0, 71.0])) == [8, 16, 32, 64, 128]
    assert doubling(pd.Series([0.4])) == [1, 2]
    assert len(doubling(pd.Series([1.0, 5000.0]))) <= 8


def test_the_setting_of_training_is_framed() -> None:
    found = whole({"b": SOLVED, "a": SOLVED})
    marks = [("b", "euler", 4), ("a", "dopri5", 1e-3)]
    rows = [
        {"model": m, "condition": c, "level": level, "metric": "trained_with", "variant": "",
         "value": 1.0}
        for m, c, level in marks
    ]  # fmt: skip
    figure: Any = solver_matrix(pd.concat([found, pd.DataFrame(rows)], ignore_index=True))
    frames = {
        axis.get_title(): [(p.get_x() + 0.46, p.get_y() + 0.46) for p in axis.patches]
        for axis in figure.axes
    }
    assert frames["euler, steps"] == [pytest.approx((1, 1))], "its second model, second setting"
    assert frames["dopri5, tolerance"] == [pytest.approx((1, 0))] and not frames["rk4, steps"]


def test_the_band_is_the_interval_of_the_finest_setting_and_bars_are_outside_it() -> None:
    found = numbers({"a": SOLVED}, apart=0.001)
    axis: Any = nfe_curve(found, Looks(["a"])).axes[0]
    finest = costs(found).sort_values("cost").iloc[-1]
    (band,) = axis.patches
    low, high = band.get_y(), band.get_y() + band.get_height()
    np.testing.assert_allclose((low, high), (finest["low"], finest["high"]))
    drawn = sum(len(c.get_segments()) for c in axis.collections)
    table = costs(found)
    assert drawn == int((~table["value"].between(low, high)).sum()) > 0


def test_of_many_fixed_networks_three_are_drawn() -> None:
    fixed = {f"f{i}": {("depth", 0.0): (0.5 + 0.02 * i, 8.0 + i)} for i in range(9)}
    found = numbers({"a": SOLVED, "resnet18": DEPTH} | fixed)
    (axis,) = nfe_curve(found, Looks(found["model"].unique())).axes
    assert {t.get_text() for t in axis.texts} == {"resnet18", "f0"}, "the baseline is the best"


def test_the_matrix_has_models_by_settings_in_points_less_their_best() -> None:
    figure = solver_matrix(numbers({"b": SOLVED, "a": SOLVED}))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["euler, steps", "rk4, steps", "dopri5, tolerance"]
    euler, _, dopri5 = figure.axes
    assert [t.get_text() for t in euler.get_yticklabels()] == ["a  75.0", "b  75.0"]
    assert [t.get_text() for t in dopri5.get_xticklabels()] == ["1e-1", "1e-3"], "coarse to fine"
    assert [t.get_text() for t in euler.texts] == ["\u221250", "\u221210"] * 2
    assert [t.get_text() for t in dopri5.texts] == ["\u22122.0", "0"] * 2
    white = [t for t in euler.texts if t.get_color() == "white"]
    assert [t.get_text() for t in white] == ["\u221250"] * 2, "light on dark, dark on light"


def test_models_without_a_solver_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="No model here has a solver"):
        nfe_curve(numbers({"resnet18": DEPTH}), Looks(["resnet18"]))
