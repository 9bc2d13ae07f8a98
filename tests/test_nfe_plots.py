import pandas as pd
import pytest

from harness.plots.nfe import costs, nfe_curve, solver_matrix
from harness.storage.results import COLUMNS


def frame(models: dict[str, dict[tuple[str, float], tuple[float, float]]]) -> pd.DataFrame:
    """Two seeds of (accuracy, nfe) by model and (condition, level)."""
    rows = [
        (model, "nfe", "digits", seed, condition, level, metric, value, 100, "run")
        for model, found in models.items()
        for seed in (0, 1)
        for (condition, level), (accuracy, nfe) in found.items()
        for metric, value in (("accuracy", accuracy + 0.1 * seed), ("nfe", nfe))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


SOLVED = {("euler", 1): (0.2, 1), ("euler", 4): (0.6, 4), ("dopri5", 1e-3): (0.7, 14.5)}
MIXED = {("dopri5, gaussian_noise 0-5", 1e-3): (0.3, 20)}


def test_costs_are_means_over_seeds() -> None:
    table = costs(frame({"ode_block": SOLVED}))
    first = table[(table["condition"] == "euler") & (table["level"] == 4)].iloc[0]
    assert first["accuracy"] == pytest.approx(0.65) and first["nfe"] == 4 and first["n"] == 100


def test_a_line_for_each_solver_and_a_cross_for_each_fixed_network() -> None:
    models = {"b": SOLVED | MIXED, "a": SOLVED, "resnet18": {("depth", 0): (0.9, 8)}}
    figure = nfe_curve(frame(models), ["a", "b"])
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == ["a", "b"]
    for axis in panels:
        lines = {c.get_label(): c.lines[0] for c in axis.containers}
        assert list(lines) == ["euler", "dopri5"], "noisy images are not on this curve"
        assert list(lines["euler"].get_xdata()) == [1, 4]
        assert list(lines["euler"].get_ydata()) == pytest.approx([0.25, 0.65])
        assert [t.get_text() for t in axis.texts] == ["resnet18"]


def test_the_matrix_has_models_by_solvers() -> None:
    figure = solver_matrix(frame({"b": SOLVED, "a": SOLVED}), ["a", "b"])
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["euler 1", "euler 4", "dopri5 0.001"]
    assert [t.get_text() for t in axis.texts] == ["25", "65", "75"] * 2


def test_models_without_a_solver_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="No model here has a solver"):
        nfe_curve(frame({"resnet18": {("depth", 0): (0.9, 8)}}), ["resnet18"])
