"""Accuracy by corruption and severity, and differences from the baseline."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis.groups import with_cells
from harness.analysis.leaderboard import leaderboard
from harness.analysis.numbers import cell_differences, cell_intervals, cell_samples, intervals_of
from harness.plots.labels import END
from harness.plots.severity import difference_figure, severity_curve
from harness.plots.style import GRAY, PALE, Looks
from harness.storage.results import COLUMNS
from harness.suites.catalog import FAMILIES

ORDER = ["resnet18", "pde_aug", "gaussian_blur_aug"]
NOISE_AND_BLUR = FAMILIES["noise"] + FAMILIES["blur"]


def table(models: Sequence[str], conditions: Sequence[str], seeds: int = 3) -> pd.DataFrame:
    """Accuracy 0.95 - 0.1 level - 0.02 place of the model - 0.005 place of the corruption."""
    rows = []
    for (i, model), seed in itertools.product(enumerate(models), range(seeds)):
        luck = 0.004 * (seed - (seeds - 1) / 2) * (1 + i % 3)
        key = (model, "robustness", "d", seed)
        rows.append((*key, "clean", 0, "accuracy", "", 0.95 - 0.02 * (i % 20) + luck, 100, "r"))
        for (k, c), level in itertools.product(enumerate(conditions), range(1, 6)):
            value = 0.95 - 0.1 * level - 0.02 * (i % 20) - 0.005 * k + luck
            rows.append((*key, c, level, "accuracy", "", value, 100, "r"))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lines(axis: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axis.get_lines()}


def names_of(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.texts if text.get_label() == END]


def bars(axis: Any) -> set[tuple[float, float]]:
    """The ends of all vertical intervals of a panel, to six decimals."""
    found = [
        s[:, 1] for c in axis.collections if hasattr(c, "get_segments") for s in c.get_segments()
    ]
    return {(round(float(low), 6), round(float(high), 6)) for low, high in found}


def test_one_panel_a_corruption_and_one_for_their_mean() -> None:
    numbers = cell_intervals(table(ORDER, ["fog", "snow", "frost"]))
    figure = severity_curve(numbers, Looks(ORDER))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["snow", "frost", "fog", "mean of all"], "in the order of all tables"


def test_validation_corruptions_are_drawn_and_enter_no_mean() -> None:
    numbers = cell_intervals(table(ORDER, ["fog", "snow", "spatter"]))
    figure = severity_curve(numbers, Looks(ORDER))
    *single, mean = figure.axes
    assert [a.get_title() for a in single] == ["snow", "fog", "spatter"]
    assert mean.get_title() == "mean of 2 common"
    np.testing.assert_allclose(lines(mean)["resnet18"].get_ydata()[1], 0.85 - 0.0025)


def test_curves_start_at_clean_and_show_the_numbers() -> None:
    figure = severity_curve(cell_intervals(table(ORDER, ["fog"])), Looks(ORDER))
    curve = lines(figure.axes[0])["pde_aug"]
    assert list(np.round(curve.get_xdata())) == [0, 1, 2, 3, 4, 5]
    assert list(curve.get_ydata()) == pytest.approx([0.93, 0.83, 0.73, 0.63, 0.53, 0.43])


def test_bars_end_where_the_leaderboards_intervals_do() -> None:
    long = table(ORDER, NOISE_AND_BLUR)
    figure = severity_curve(cell_intervals(long), Looks(ORDER))
    board = leaderboard(long)
    clean = board[board["group"] == "clean"]
    wanted = {(round(r.low, 6), round(r.high, 6)) for r in clean.itertuples()}
    for axis in figure.axes:
        assert wanted <= bars(axis), "every curve starts at the clean images"
    numbers = intervals_of(cell_samples(long, grouping=with_cells))
    here = numbers[(numbers["condition"] == "motion_blur") & numbers["level"].notna()]
    (panel,) = [axis for axis in figure.axes if axis.get_title() == "motion blur"]
    assert bars(panel) - wanted == {(round(r.low, 6), round(r.high, 6)) for r in here.itertuples()}


def test_differences_are_those_of_a_comparison_in_points() -> None:
    long = table(ORDER, NOISE_AND_BLUR)
    found = cell_differences(long, None, "resnet18")
    figure = difference_figure(found, Looks(ORDER))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["clean", "noise", "blur", "mean of all"]
    assert len(titles) == 4 + 8, "and a panel for each corruption and their mean"
    axes: list[Any] = figure.axes
    first, noise = axes[:2]
    assert [t.get_text() for t in first.get_yticklabels()] == ["pde_aug", "gaussian_blur_aug"]
    rows = found[found["group"] == "noise"].set_index("model").loc[ORDER[1:]]
    points = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in noise.lines[:2])
    np.testing.assert_allclose(points, [(i, 100 * rows["value"].iloc[i]) for i in (0, 1)])
    segments = sorted((c.get_segments()[0] for c in noise.collections), key=lambda s: s[0, 1])
    ends = [segment[:, 0] for segment in segments]
    np.testing.assert_allclose(ends, 100 * rows[["low", "high"]].to_numpy())
    assert "images not paired" in str(figure.get_label())
    assert "points" in figure.get_supylabel()


def test_up_to_eight_models_have_a_color_and_a_name_and_no_legend() -> None:
    models = [f"m{i}" for i in range(7)] + ["resnet18"]
    figure = severity_curve(cell_intervals(table(models, ["fog"])), Looks(models))
    colors = [line.get_color() for line in lines(figure.axes[0]).values()]
    assert len(set(colors)) == 8 and PALE not in colors
    assert set(names_of(figure.axes[-1])) == set(models) and not figure.legends


def test_of_more_models_the_best_have_a_color_and_the_worst_a_name() -> None:
    models = ["resnet18"] + [f"m{i}" for i in range(11)]
    figure = severity_curve(cell_intervals(table(models, ["fog"])), Looks(models))
    drawn = lines(figure.axes[0])
    colored = {m for m, line in drawn.items() if line.get_color() != PALE}
    assert len(drawn) == 12 and colored == {"resnet18", "m0", "m1", "m2", "m3"}
    assert set(names_of(figure.axes[-1])) == colored | {"m9", "m10"}


def test_a_model_looks_the_same_whoever_is_drawn_beside_it_and_like_no_other() -> None:
    models = [f"m{i}" for i in range(60)] + ORDER
    looks = Looks(models)
    marks = {m: looks.mark(m) for m in models}
    assert len({color for color, _ in marks.values()}) == len(models)
    assert marks["resnet18"][0] == GRAY
    for shown in (ORDER, [*ORDER, "m1", "m2"], models):
        found = looks.of(shown, shown)
        assert {m: (look.color, look.marker) for m, look in found.items()} == {
            m: marks[m] for m in shown
        }


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no corruptions to draw. Run `harness run"):
        severity_curve(cell_intervals(table(ORDER, [])), Looks(ORDER))
