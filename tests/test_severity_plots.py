import pandas as pd
import pytest
from matplotlib.colors import to_hex

from harness.plots.severity import severity_curve
from harness.plots.style import GRAY
from harness.storage.results import COLUMNS

ORDER = ["resnet18", "pde_aug", "gaussian_blur_aug"]


def table(models: list[str], conditions: list[str]) -> pd.DataFrame:
    rows = []
    for i, model in enumerate(models):
        rows.append((model, "robustness", "d", 0, "clean", 0, "accuracy", 0.95, 100, "r"))
        for c in conditions:
            for level in range(1, 6):
                value = 0.95 - 0.1 * level - 0.02 * i
                rows.append((model, "robustness", "d", 0, c, level, "accuracy", value, 100, "r"))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lines(figure) -> dict:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_one_panel_a_corruption_and_one_for_their_mean() -> None:
    figure = severity_curve(table(ORDER, ["fog", "snow", "frost"]), "resnet18", ORDER)
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == ["fog", "snow", "frost", "mean of all"]


def test_curves_start_at_clean_and_show_the_numbers() -> None:
    curve = lines(severity_curve(table(ORDER, ["fog"]), "resnet18", ORDER))["pde_aug"]
    assert list(curve.get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert list(curve.get_ydata()) == pytest.approx([0.95, 0.83, 0.73, 0.63, 0.53, 0.43])


def test_the_baseline_is_gray_and_others_keep_their_color() -> None:
    alone = lines(severity_curve(table(["gaussian_blur_aug"], ["fog"]), "resnet18", ORDER))
    together = lines(severity_curve(table([*ORDER, "mine"], ["fog"]), "resnet18", ORDER))
    assert to_hex(together["resnet18"].get_color()) == GRAY
    assert together["gaussian_blur_aug"].get_color() == alone["gaussian_blur_aug"].get_color()
    assert len({line.get_color() for line in together.values()}) == 4


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no corruptions to draw. Run `harness run"):
        severity_curve(table(ORDER, []), "resnet18", ORDER)
