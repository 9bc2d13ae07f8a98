"""What all figures share: nothing cut off, no text over another, sizes, formats, files."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from harness.analysis.numbers import cell_differences, cell_intervals
from harness.plots.attention import attention_statistics, instability_curve
from harness.plots.figures import draw
from harness.plots.generic import metric_figure
from harness.plots.labels import END, short, tell_apart
from harness.plots.nfe import nfe_curve, solver_matrix
from harness.plots.severity import difference_figure, severity_curve
from harness.plots.stability import growth_curves
from harness.plots.style import Looks, Size, parse_size, save
from harness.plots.training import curves, training_curves
from harness.refusal import Refusal
from harness.storage.json_files import write_json
from harness.storage.results import COLUMNS, csv_path
from harness.storage.sources import is_current
from harness.suites.catalog import COMMON, FAMILIES

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


def measured(models: Sequence[str], suite: str, cells: Sequence[tuple]) -> pd.DataFrame:
    """Rows of (condition, level, metric, variant, value), a little different by model and seed."""
    rows = [
        (m, suite, "d", seed, *cell[:4], cell[4] * (1 + 0.03 * (i % 9)) + 1e-3 * seed, 99, "r")
        for i, m in enumerate(models)
        for seed in (0, 1)
        for cell in cells
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def of_severity(models: Sequence[str], size: Size | None) -> Figure:
    return severity_curve(cell_intervals(table(models, COMMON)), Looks(models), size)


def of_differences(models: Sequence[str], size: Size | None) -> Figure:
    found = cell_differences(table(models, NOISE_AND_BLUR), None, models[0])
    return difference_figure(found, Looks(models, models[0]), size)


def solved(models: Sequence[str]) -> pd.DataFrame:
    cells = [
        (name, level, metric, "", value)
        for name, cost in (("euler", 1), ("rk4", 4), ("dopri5", 14))
        for level in ((1, 4, 16) if cost < 14 else (0.1, 1e-3, 1e-5))
        for metric, value in (
            ("accuracy", 0.6 - (0.3 / level if name == "euler" else 0)),
            ("evaluations", 7 + (cost * level if cost < 14 else 14 - np.log10(level))),
            ("macs", 1e7 * (9 + (cost * level if cost < 14 else 14 - np.log10(level)))),
        )
    ]
    costs = (("accuracy", 0.62), ("evaluations", 8), ("macs", 2e8))
    depth = [("depth", 0, metric, "", value) for metric, value in costs]
    fixed = [f"fixed{i}" for i in range(len(models))]
    long = pd.concat([measured(models, "nfe", cells), measured(fixed, "nfe", depth)])
    return cell_intervals(long, metric=None)


def of_nfe(models: Sequence[str], size: Size | None) -> Figure:
    numbers = solved(models[:20])
    return nfe_curve(numbers, Looks(numbers["model"].unique()), size)


def of_multiply_adds(models: Sequence[str], size: Size | None) -> Figure:
    numbers = solved(models[:20])
    return nfe_curve(numbers, Looks(numbers["model"].unique()), size, "macs")


def of_solvers(models: Sequence[str], size: Size | None) -> Figure:
    return solver_matrix(solved(models), size)


MAPS = ("sharp", "matched", "used")


def of_maps(models: Sequence[str], size: Size | None) -> Figure:
    statistics = ("entropy", "gini", "total_variation", "distance", "spread", "border")
    cells = [("clean", 0, s, m, 0.2 + 0.1 * i) for s in statistics for i, m in enumerate(MAPS)]
    found = cell_intervals(measured(models, "attention", cells), metric=None, variant=None)
    return attention_statistics(found, Looks(models), size)


def of_instability(models: Sequence[str], size: Size | None) -> Figure:
    cells = [
        (c, level, "instability", m, 0.05 * level)
        for c in NOISE_AND_BLUR for level in (1, 3, 5) for m in MAPS
    ]  # fmt: skip
    found = cell_intervals(measured(models, "attention", cells), metric=None, variant=None)
    return instability_curve(found[found["condition"] != "mean"], Looks(models), size)


def of_growth(models: Sequence[str], size: Size | None) -> Figure:
    cells = [
        (where, level, metric, f"trunk.{k}", 0.1 * k)
        for where, level, metric in (
            ("random direction", 1e-3, "log10_growth"),
            ("gradient direction", 1e-3, "log10_growth"),
            ("clean", 0, "log10_gradient_norm"),
            ("clean", 0, "spectral_norm"),
        )
        for k in range(5)
    ]
    return growth_curves(measured(models, "stability", cells), Looks(models), size)


def of_training(models: Sequence[str], size: Size | None) -> Figure:
    rows = [
        (m, s, e, (2 + 0.01 * i + 0.1 * s) / e, 1 - 0.6 / e, 0.9 - 0.5 / e)
        for i, m in enumerate(models)
        for s in (0, 1)
        for e in range(1, 9)
    ]
    columns = ["model", "seed", "epoch", "loss", "accuracy", "held_out"]
    return curves(pd.DataFrame(rows, columns=columns), Looks(models), size)


def of_any(models: Sequence[str], size: Size | None) -> Figure:
    cells = [
        (c, level, metric, "", 0.5) for c in ("rain", "hail") for level in range(1, 6)
        for metric in ("accuracy", "nll", "unheard_of")
    ]  # fmt: skip
    return metric_figure(
        cell_intervals(measured(models, "own", cells), metric=None), Looks(models), size
    )


def of_clean(models: Sequence[str], size: Size | None) -> Figure:
    cells = [("clean", 0, metric, "", 0.5) for metric in ("accuracy", "nll", "brier", "ece")]
    return metric_figure(
        cell_intervals(measured(models, "clean", cells), metric=None), Looks(models), size
    )


def texts_of(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, np.ndarray, bool]]:
    """Each text that is drawn, with its (x0, y0, x1, y1) in pixels; and whether it is straight."""
    seen: list[Text] = []
    with monkeypatch.context() as patch:
        own = Text.draw
        patch.setattr(Text, "draw", lambda self, renderer: (seen.append(self), own(self, renderer)))
        figure.draw_without_rendering()
    renderer = figure._get_renderer()  # type: ignore[attr-defined]
    return [
        (
            t.get_text(),
            np.asarray(Text.get_window_extent(t, renderer).extents),
            t.get_rotation() % 90 == 0,
        )
        for t in dict.fromkeys(seen)
        if t.get_text().strip() and t.get_visible()
    ]


@pytest.mark.parametrize("count, size", [(2, None), (7, "column"), (12, None), (40, "column")])
@pytest.mark.parametrize(
    "make",
    [
        of_severity,
        of_differences,
        of_nfe,
        of_multiply_adds,
        of_solvers,
        of_maps,
        of_instability,
        of_growth,
        of_training,
        of_any,
        of_clean,
    ],
)
def test_nothing_is_cut_off_and_no_text_covers_another(
    make: Callable[[Sequence[str], Size | None], Figure],
    count: int,
    size: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = ["resnet18", "pde_aug", "a_model_with_a_very_long_name_of_its_own"]
    models = (models + [f"model_{i}" for i in range(count)])[:count]
    figure = make(models, parse_size(size))
    texts = texts_of(figure, monkeypatch)
    width, height = figure.bbox.size
    for text, box, _ in texts:
        assert box[0] > -0.5 and box[1] > -0.5 and box[2] < width + 0.5 and box[3] < height + 0.5, (
            text
        )
    straight = [(t, box) for t, box, plain in texts if plain]
    for (a, p), (b, q) in itertools.combinations(straight, 2):
        across = min(p[2], q[2]) - max(p[0], q[0])
        down = min(p[3], q[3]) - max(p[1], q[1])
        assert across <= 1 or down <= 1.5, f"{a!r} and {b!r}"


def test_what_is_not_known_or_not_finite_leaves_a_gap() -> None:
    cells = [
        ("clean", 0, "log10_gradient_norm", f"b{k}", value) for k, value in enumerate((1, 400))
    ]
    long = measured(["resnet18", "pde_aug"], "stability", cells)
    figure = growth_curves(long, Looks(["resnet18", "pde_aug"]))
    assert not [t for t in figure.axes[0].texts if t.get_label() == END], "10^400 has no place"
    one = measured(["resnet18"], "own", [("clean", 0, "nll", "", 0.5)]).query("seed == 0")
    figure = metric_figure(cell_intervals(one, metric=None), Looks(["resnet18"]))
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [0.5], "without an interval"


def test_names_of_sizes() -> None:
    assert parse_size(None) is None and parse_size("column") == (3.5, None)
    assert parse_size("page") == (7.2, None) and parse_size("4x2.5") == (4, 2.5)
    for wrong in ("4", "4x", "0.1x3", "400x2", "wide"):
        with pytest.raises(Refusal, match=f"WIDTHxHEIGHT in inches .*got `{wrong}`"):
            parse_size(wrong)
    assert severity_curve(
        cell_intervals(table(ORDER, ["fog"])), Looks(ORDER), (4, 2.5)
    ).get_size_inches().tolist() == [4, 2.5]


def test_a_size_that_holds_no_panels_is_refused() -> None:
    with pytest.raises(Refusal, match="does not fit into 1 x 1 inches. Give a larger `--size`"):
        severity_curve(cell_intervals(table(ORDER, COMMON)), Looks(ORDER), (1, 1))


def test_long_names_keep_both_ends() -> None:
    name = "a_model_with_a_very_long_name_of_its_own"
    assert (
        len(short(name)) == 24 and short(name).startswith("a_model") and short(name).endswith("own")
    )
    assert short("pde_aug") == "pde_aug"
    steps = [f"ode_block(num_steps={k}, solver='euler')" for k in (1, 8)]
    assert [short(name) for name in steps] == ["ode_block(1, euler)", "ode_block(8, euler)"]
    assert short("ode_block(atol=0.01, rtol=0.01, solver='bosh3')") == "ode_block(\u2026, bosh3)"
    assert tell_apart(steps) == ["ode_block(1, euler)", "ode_block(8, euler)"]
    alike = [f"ode_block(atol=0.01, penalty={p}, rtol=0.01, solver='dopri5')" for p in (0.1, 0.2)]
    assert len({short(name) for name in alike}) == 1
    assert tell_apart(alike) == [f"ode_block(0.01, {p}, 0.01, dopri5)" for p in (0.1, 0.2)]


@pytest.fixture
def results(tmp_path: Path, store_table: Callable[..., None]) -> Path:
    """Stored runs of robustness, clean images and a suite of a user's."""
    for suite, conditions in (("robustness", ["fog", "snow"]), ("clean", []), ("own", ["rain"])):
        store_table(tmp_path, table(ORDER, conditions).assign(suite=suite))
    return tmp_path


def test_figures_are_looked_up_by_suite_and_a_user_may_bring_one(results: Path) -> None:
    suites, own = ["robustness", "clean", "own"], Figure()
    paths = draw(results, suites, ["d"], results)
    assert [path.name for path in paths] == [
        "d-clean.png",
        "d-own.png",
        "d-robustness.png",
        "d-robustness-differences.png",
    ]
    seen: list[pd.DataFrame] = []

    def figure(rows: pd.DataFrame) -> Figure:
        seen.append(rows)
        return own

    (path,) = draw(results, ["own"], ["d"], results, ["pde_aug"], figures={"own": figure})
    assert path.name == "d-own.png" and set(seen[0]["model"]) == {"pde_aug", "resnet18"}


def test_models_that_share_no_corruption_have_no_differences_to_draw(
    tmp_path: Path, store_table: Callable[..., None]
) -> None:
    store_table(tmp_path, table(["resnet18"], ["fog"]))
    store_table(tmp_path, table(["pde_aug"], ["snow"]))
    paths = draw(tmp_path, ["robustness"], ["d"], tmp_path)
    assert [path.name for path in paths] == ["d-robustness.png"]


@pytest.mark.parametrize("format", ["png", "pdf", "svg"])
def test_equal_figures_are_equal_bytes_with_text_as_text(results: Path, format: str) -> None:
    made = []
    for _ in range(2):
        (path, _) = draw(results, ["robustness"], ["d"], results, format=format, size=(3.5, None))
        made.append(path.read_bytes())
    assert made[0] == made[1] and path.suffix == f".{format}"
    if format == "svg":
        assert b">pde_aug</text>" in made[0] and b"<dc:date>" not in made[0]
        assert b"95 % intervals" in made[0], "what it shows, for those who do not see it"
    if format == "pdf":
        assert b"/FontFile2" in made[0] and b"/Type3" not in made[0], "TrueType, embedded"


def test_other_formats_are_refused(results: Path) -> None:
    with pytest.raises(Refusal, match="There is no format `jpg`. Use png, pdf or svg."):
        draw(results, ["robustness"], ["d"], results, format="jpg")
    with pytest.raises(Refusal, match="no format `gif`"):
        save(Figure(), results / "x.gif", "")


def test_a_figure_says_what_it_was_drawn_from(results: Path) -> None:
    (path,) = draw(results, ["own"], ["d"], results, out=results / "elsewhere")
    assert path == results / "elsewhere/figures/d-own.png"
    with Image.open(path) as image:
        source = image.info["Source"]
    assert is_current(source, "d-own.png", results)
    assert not is_current(source, "d-clean.png", results)
    files = json.loads(source)["files"]
    assert set(files) == {f"d/own/{model}/seed{seed}.csv" for model in ORDER for seed in range(3)}
    csv_path(results, "d", "own", "pde_aug", 1).write_text("another run")
    assert not is_current(source, "d-own.png", results)


def test_training_curves_are_drawn_where_training_happened(results: Path) -> None:
    assert training_curves(results) == {}
    for seed in (0, 1):
        path = results / "checkpoints" / "d" / "pde_aug" / f"seed{seed}.json"
        history = [{"epoch": e, "loss": 1 / e + seed, "accuracy": 1 - 0.5 / e} for e in (1, 2, 3)]
        log = {"model": "pde_aug", "dataset": "d", "seed": seed, "history": history}
        write_json(path, log)
    figure = training_curves(results)["d"]
    loss, accuracy = figure.axes
    assert (loss.get_title(), accuracy.get_title()) == ("training loss", "training accuracy")
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1.5, 1.0, 1 / 3 + 0.5])
    assert [t.get_text() for t in accuracy.texts if t.get_label() == END] == ["pde_aug"]
    assert training_curves(results, ["resnet18"]) == {}
    path = results / "checkpoints" / "d" / "unseen" / "seed0.json"
    write_json(path, log | {"model": "unseen", "seed": 0})  # trained and never evaluated
    names = [path.name for path in draw(results, ["clean"], ["d"], results)]
    assert names == ["d-clean.png", "d-training.png"]
