"""The suite adversarial: its numbers against closed forms, its cells, the command."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from harness.analysis.verdicts import verdicts
from harness.cli import app
from harness.plots.adversarial import robustness_curve
from harness.plots.style import Looks
from harness.running.evaluate import Evaluated, dtype_for, observe
from harness.storage.results import read
from harness.suites import adversarial, attack_cells, radii
from harness.suites.adversarial_metrics import TRANSFER
from harness.suites.attacks import Entry, fab
from harness.suites.attacks.apgd import apgd_ce
from harness.suites.attacks.balls import Ball
from harness.suites.base import Setting, Surrogate
from harness.suites.datasets import Split, as_input
from harness.suites.metric import array_name
from harness.suites.ranks import median_interval

CPU = torch.device("cpu")
SUITE = adversarial.adversarial()
Found = dict[tuple[str, float], Mapping[str, np.ndarray]]
QUICK = {
    "apgd_ce": {"iterations": 30},
    "apgd_dlr": {"iterations": 10},
    "apgd_t": {"iterations": 10, "targets": 3},
    "fab_t": {"iterations": 10, "targets": 3},
    "square": {"queries": 60},
}


@cache
def fitted(classes: int) -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    kept = y < max(classes, 3)
    y = np.where(y == 2, 1, y) if classes == 2 else y
    fit = LogisticRegression(C=1, max_iter=5000).fit(x[kept][::2] / 16, y[kept][::2])
    w, b = torch.tensor(fit.coef_), torch.tensor(fit.intercept_)
    return (torch.cat([-w, w]) / 2, torch.cat([-b, b]) / 2) if classes == 2 else (w, b)


class Linear(nn.Module):
    """x W' + b of the channels' mean, in float64, so that rounding does not depend on a batch."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        w, b = fitted(num_classes)
        self.register_buffer("w", w)
        self.register_buffer("b", b)
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        flat = images.double().mean(1).flatten(1)
        return ((flat[:, None] * self.w).sum(2) + self.b).float()


class Noisy(Linear):
    """The same with noise by image and draw."""

    stochastic = True

    def sample(self, images: Tensor, indices: Tensor, seed: int, draw: int) -> Tensor:
        angle = (indices * 31 + draw * 17 + seed)[:, None].double() + torch.arange(10) * 5
        return self(images) + (angle * 12.9898).sin().float()


def split(count: int = 60, classes: int = 10) -> Split:
    x, y = load_digits(return_X_y=True)
    x, y = x[1::2], y[1::2]
    kept = y < max(classes, 3)
    y = np.where(y == 2, 1, y) if classes == 2 else y
    pixels = torch.tensor(x[kept][:count] * 255 / 16).round().byte().view(-1, 1, 8, 8)
    names = tuple("abcdefghij"[:classes])
    images = pixels.expand(-1, 3, -1, -1).contiguous()
    return Split(images, torch.tensor(y[kept][:count]).long(), names, flip=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small budgets, and sizes at which a linear classifier of digits loses some images."""

    def entries(few: int) -> tuple[Entry, ...]:
        names = {2: "apgd_ce fab_t square", 3: "apgd_ce apgd_dlr fab_t square"}
        chosen = names.get(few, "apgd_ce apgd_t fab_t square").split()
        return tuple(Entry(name, QUICK[name]) for name in chosen)

    monkeypatch.setattr(attack_cells, "standard", entries)
    draws = {"iterations": 5, "draws": 20}
    monkeypatch.setattr(attack_cells, "rand", lambda k: (Entry("apgd_ce", draws),))
    linf = radii.Grid(1 / 255, (4, 12, 20), 12, 12, 1)
    monkeypatch.setitem(radii.GRIDS, "linf", linf)
    monkeypatch.setitem(radii.GRIDS, "l2", radii.Grid(1, (0.4, 0.8), 0.8, 0.8, 1e4))


def observed(
    model: nn.Module, images: Split, batch_size: int = 400, found: Found | None = None, **told: Any
) -> Found:
    """All cells that are not in `found` yet."""
    subject, found = Evaluated(model, CPU), {} if found is None else found
    for cell in SUITE.cells(Setting(8, len(images.classes), **told)):
        where = cell.condition, cell.level
        if where not in found:
            before = {at: found[at] for at in cell.after}
            found[where] = observe(
                SUITE, cell, subject, images, batch_size=batch_size, earlier=before
            )
    return found


def rows(found: Found, images: Split, **told: Any) -> list:
    cells = SUITE.cells(Setting(8, len(images.classes), **told))
    return [row for c in cells for row in SUITE.measure(c, found[c.condition, c.level])]


def robust(found: Found, norm: str, level: float) -> np.ndarray:
    where = (norm, level) if level else (radii.distance_of(norm), 0)
    return found[where]["robust_accuracy"].astype(bool)


def distances(images: Split, norm: str) -> np.ndarray:
    """Exact distances of a linear classifier's images to the nearest misclassified one."""
    w, b = fitted(len(images.classes))
    x = images.images[:, 0].flatten(1).double() / 255
    a = w - w[images.labels][:, None]  # (N, K, 64)
    gap = (a * x[:, None]).sum(2) + b - b[images.labels][:, None]
    room = torch.where(a > 0, 1 - x[:, None], x[:, None])
    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e4)
    for _ in range(80):  # of the multiplier, whose move is the smallest that reaches so far
        middle = ((low + high) / 2)[..., None]
        move = torch.minimum(middle * (a.abs() if norm == "l2" else 1), room)
        short = gap + (a.abs() * move).sum(2) < 0
        low, high = (
            torch.where(short, middle[..., 0], low),
            torch.where(short, high, middle[..., 0]),
        )
    move = torch.minimum(high[..., None] * (a.abs() if norm == "l2" else 1), room)
    size = (3 * move.square().sum(2)).sqrt() if norm == "l2" else high  # three equal channels
    reached = gap + (a.abs() * move).sum(2) >= -1e-9
    size = torch.where(reached, size, torch.inf).scatter(1, images.labels[:, None], torch.inf)
    wrong = gap.argmax(1) != images.labels
    return torch.where(wrong, 0, size.min(1).values).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_classifiers_numbers_are_those_of_the_closed_form(quick: None, norm: str) -> None:
    images = split(150)
    found = observed(Linear(), images)
    exact, grid = distances(images, norm), radii.GRIDS[norm]
    for level in grid.levels:
        here, expected = robust(found, norm, level), exact > level * grid.unit
        print(norm, level, here.mean(), expected.mean())
        assert not (expected & ~here).any(), "no attack breaks what is robust"
        assert (here & ~expected).mean() <= 0.015
        assert 0 < expected.mean() < 0.98
    told = {r.variant: r.value for r in rows(found, images) if r.metric == "minimal_distance"
            and r.condition == radii.distance_of(norm)}  # fmt: skip
    assert np.median(exact) <= told[""] <= 1.03 * np.median(exact)
    assert told["low"] < told[""] < told["high"]
    radius = found[radii.distance_of(norm), 0]["radius"]
    assert (radius >= exact * (1 - 1e-4)).all() and (radius[exact == 0] == 0).all()
    assert (radius == 0).sum() == (exact == 0).sum() > 0


def test_curves_fall_and_broken_images_are_not_attacked_again(quick: None) -> None:
    images = split()
    found = observed(Linear(), images)
    for norm in radii.GRIDS:
        left = found["clean", 0]["logits"].argmax(1) == images.labels.numpy()
        assert (robust(found, norm, 0) == left).all()
        for cell in SUITE.cells(Setting(8, 10)):
            arrays = found[cell.condition, cell.level]
            if cell.norm != norm or cell.level == 0:
                continue
            if cell.entry is not None:
                given = np.isfinite(arrays["attack_success"])
                before = found[cell.after[0]]["radius"] > cell.eps
                assert (given == before).all() and (given <= left).all()
            here = arrays["robust_accuracy"].astype(bool)
            assert (here <= left).all()
            left = here
    totals = [robust(found, "linf", level).sum() for level in radii.GRIDS["linf"].levels]
    assert totals == sorted(totals, reverse=True) and totals[0] > totals[-1]
    model = Linear()
    observed(model, images, found={k: v for k, v in found.items() if k != ("linf", 12)})
    assert model.asked == 0, "what is put together needs no network"


def test_rows_are_the_same_at_any_batch_size_and_order(quick: None) -> None:
    images = split(20)
    whole = observed(Linear(), images, 128)
    for size in (1, 13):
        assert rows(observed(Linear(), images, size), images) == rows(whole, images)

    class Shuffled(Linear):
        """Asked about other images first, which must leave no trace."""

        def forward(self, batch: Tensor) -> Tensor:
            return super().forward(batch.flip(0)).flip(0)

    assert rows(observed(Shuffled(), images, 17), images) == rows(whole, images)


def test_few_classes_have_the_attacks_that_they_allow(quick: None) -> None:
    def attacks(classes: int) -> list[str]:
        told = Setting(32, classes)
        return [
            c.entry.attack
            for c in SUITE.cells(told)
            if c.condition.startswith("linf ") and c.level == 12 and c.entry
        ]

    assert attacks(3) == ["apgd_ce", "apgd_dlr", "fab_t", "square"]
    assert attacks(2) == ["apgd_ce", "fab_t", "square"]
    for classes in (2, 3):
        images = split(40, classes)
        found = observed(Linear(classes), images)
        exact = distances(images, "linf") > 12 / 255
        assert (robust(found, "linf", 12) == exact).mean() >= 0.97


def test_the_published_budgets_are_those_of_autoattack() -> None:
    told = {
        (c.condition, c.level): (c.entry and dict(c.entry.settings), c.constants)
        for c in SUITE.cells(Setting(32, 10))
    }
    assert told["linf apgd_t", 8][0] == {"iterations": 100, "restarts": 1, "targets": 9}
    assert told["linf square", 8][0]["queries"] == told["l2 square", 0.5][0]["queries"] == 5000
    assert told["linf fab_t", 8][0]["iterations"] == 100 == told["l2 apgd_ce", 0.5][0]["iterations"]
    assert told["linf apgd_ce", 8][1]["eps"] == repr(8 / 255)
    large = {(c.condition, c.level) for c in SUITE.cells(Setting(224, 1000))}
    assert ("linf square", 4) in large and ("linf square", 8) not in large
    assert dtype_for(SUITE, "bfloat16") == "float32"
    assert SUITE.variant(Setting(32, 10)) == ""


def test_a_random_network_is_judged_by_fresh_draws_and_once_with_fixed_noise(quick: None) -> None:
    images, can = split(30), frozenset({"stochastic"})
    model = Noisy()
    found = observed(model, images, 30, can=can)
    assert not any("fab_t" in where[0] or "square" in where[0] for where in found)
    assert found["linf fixed noise", 12]["attack_success"].shape == (30,)
    left = [robust(found, "linf", level).mean() for level in (0, 4, 12, 20)]
    assert left == sorted(left, reverse=True) and left[0] > 0.8 > left[-1]
    again = observed(Noisy(), images, 7, can=can)
    one, other = (
        [r for r in rows(each, images, can=can) if r.condition != "clean"]
        for each in (again, found)
    )
    checks = {"linf checks"}
    assert one == other and {r.condition for r in one if "eot" in r.metric} == checks
    assert not any(r.metric == "minimal_distance" for r in rows(found, images, can=can))


def test_what_cannot_be_attacked_is_refused() -> None:
    for told, match in (
        ({"can": frozenset({"transductive"})}, "attacks single images, and the answers of this"),
        ({"num_classes": 1}, "One class leaves nothing to attack"),
        (
            {"can": frozenset({"stochastic"}), "attack_source": "pyautoattack"},
            "cannot key a model's random draws by image. Leave out",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            SUITE.cells(Setting(**{"image_size": 32, "num_classes": 10, **told}))
    with pytest.raises(LookupError, match="There is no source of attacks called `autoattack`"):
        SUITE.cells(Setting(32, 10, attack_source="autoattack"))


@pytest.mark.parametrize(
    "asked, match",
    [
        ("linf 0", "a radius above 0, not `0`"),
        ("linf nan", "a radius above 0, not `nan`"),
        ("l1 8", "no attack `l1 8`. Use `linf` or `l2` for"),
        ("linf 8/255", "no attack `linf 8/255`"),
        ("", "no attack ``"),
    ],
)
def test_an_attack_is_a_norm_with_a_radius(asked: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SUITE.cells(Setting(32, 10, attack=(asked,)))


def test_chosen_attacks_have_whole_budgets_at_their_radii_and_nothing_else() -> None:
    def listed(*attack: str) -> list[tuple[str, float]]:
        made = SUITE.cells(Setting(32, 10, attack=attack))
        return [(c.condition, c.level) for c in made if not c.asks and c.norm]

    whole = ("apgd_ce", "apgd_t", "fab_t", "square")
    two = [(f"linf {name}", lv) for lv in (2, 8) for name in whole]
    two = [*two[:4], ("linf", 2), *two[4:], ("linf", 8)]
    assert listed("linf 8", "linf 2", "linf 8") == two
    assert listed("l2 0.3") == [(f"l2 {name}", 0.3) for name in whole] + [("l2", 0.3)]
    curve = [where for where in listed() if where[0].startswith("l2")]
    assert listed("l2") == listed("l2 1", "l2") == curve
    (apgd, *_) = (c for c in SUITE.cells(Setting(32, 10, attack=("linf 2",))) if c.entry)
    assert apgd.entry.settings["iterations"] == 100
    assert SUITE.variant(Setting(32, 10, attack=("linf 8", "l2"))) == "[l2, linf 8]"


def test_one_radius_alone_is_measured_and_believed(quick: None, here: Path) -> None:
    done = run("--attack", "linf 8")
    assert done.exit_code == 0, done.output
    assert "digits[linf 8]" in done.output and "distance" not in done.output
    (path,) = Path("results/quick").glob("digits-linf-8-*/adversarial/net/seed0.csv")
    found = pd.read_csv(path)
    assert set(found["level"]) == {0, 8} and not found["condition"].str.startswith("l2").any()
    assert (found["metric"] == "planted").any()
    refused = CliRunner().invoke(
        app, ["run", "--suite", "clean", "--model", "resnet18", "--attack", "linf"]
    )
    assert "`--attack linf` is for the suite `adversarial`" in refused.output


def test_a_package_that_is_missing_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.suites.attacks.authors.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed. Run `pip install pyautoattack`, or leave"):
        SUITE.cells(Setting(32, 10, attack_source="pyautoattack"))


def test_the_authors_attacks_leave_as_many_images(quick: None) -> None:
    pytest.importorskip("pyautoattack")
    images, state = split(100), torch.get_rng_state()
    theirs = observed(Linear(), images, attack_source="pyautoattack")
    assert torch.equal(torch.get_rng_state(), state)
    ours = observed(Linear(), images)
    for norm, grid in radii.GRIDS.items():
        for level in grid.levels:
            apart = robust(ours, norm, level).mean() - robust(theirs, norm, level).mean()
            assert abs(apart) <= 0.02
    assert SUITE.variant(Setting(32, 10, attack_source="pyautoattack")) == "[pyautoattack]"


def test_the_suite_sees_that_gradients_are_masked(quick: None) -> None:
    """A linear network is believed by its rows, the same behind a quantization is not."""

    class Quantized(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((4 * images).round() / 4)

    images = split(40)
    for model, expected in ((Linear(), "believed"), (Quantized(), "upper bound: the gradient of")):
        frame = pd.DataFrame([vars(row) for row in rows(observed(model, images), images)])
        frame = frame.assign(dataset="digits", suite="adversarial", model="net", seed=0)
        (said,) = verdicts(frame).values()
        assert said.startswith(expected), said


def test_images_made_on_another_network_break_what_masks_gradients(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose gradients point elsewhere is seen through by images of its honest twin."""

    class Astray(Linear):
        def forward(self, images: Tensor) -> Tensor:
            wrong = images.flip(3)  # its derivatives are taken at other pixels
            return super().forward(images.detach() + wrong - wrong.detach())

    monkeypatch.setitem(radii.GRIDS, "linf", radii.Grid(1 / 255, (4, 20), 20, 20, 1))
    images = split(100)
    twin = Surrogate("twin", "0", Linear().eval())
    for model, broken in ((Linear(), False), (Astray(), True)):
        found = observed(model, images, surrogates=(twin,))
        cell = found["linf transfer", 0]
        asked = np.isfinite(cell["transfer"])
        assert (cell["checked_eps"][asked] == 20).all()
        assert asked.sum() == np.isfinite(found["linf checks", 0]["zero_gradient"]).sum() > 15
        with torch.no_grad():
            points = apgd_ce(
                twin.model, as_input(images.images), images.labels, eps=20 / 255, norm="linf",
                indices=torch.arange(100), iterations=50, draws=2,
            )  # fmt: skip
            hit = (model(points).argmax(1) != images.labels).numpy()
        left = found["linf fab_t", 20]["robust_accuracy"].astype(bool)
        assert np.array_equal(cell["transfer"][asked].astype(bool), (hit & left)[asked])
        assert np.array_equal(cell["transfer"], cell[array_name(TRANSFER, "twin")], equal_nan=True)
        assert (cell["transfer"][asked].mean() > 0.1) == broken
        told = [row for row in rows(found, images, surrogates=(twin,)) if row.metric == "transfer"]
        assert [row.variant for row in told] == ["", "twin"]
        assert all(row.n == asked.sum() for row in told)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [fab.fab, fab.fab_t])
def test_fab_goes_on_to_the_nearest_point(attack: Any, norm: str) -> None:
    images = split(40)
    x, model = images.images.float() / 255, Linear()
    exact = torch.tensor(distances(images, norm))
    size = {}
    for nearest in (False, True):
        found = attack(
            model, x, images.labels, eps=5.0, norm=norm, iterations=10, restarts=2, nearest=nearest
        )
        assert (model(found).argmax(1) != images.labels).all()
        size[nearest] = Ball(1, norm).size(found - x).double()
    assert (size[True] <= size[False] + 1e-6).all() and (size[True] >= exact - 1e-5).all()
    assert (size[True] <= 1.05 * exact + 1e-6).double().mean() >= 0.9


def test_a_median_has_the_interval_of_order_statistics() -> None:
    values = np.arange(1.0, 101)
    assert median_interval(values) == (50.5, 40, 61)  # as in tables of the sign test for n = 100
    assert median_interval(np.array([1.0, 2, np.inf])) == (2, 1, np.inf)
    draws = np.random.default_rng(0).exponential(size=(2000, 41))
    ends = np.array([median_interval(one)[1:] for one in draws])
    share = ((ends[:, 0] <= np.log(2)) & (np.log(2) <= ends[:, 1])).mean()
    assert 0.94 <= share <= 0.98


MINE = """
import torch
from torch import nn

def net(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))

def other(num_classes=10):
    made = net(num_classes)
    nn.init.normal_(made[2].weight)
    return made

class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, images):
        with torch.set_grad_enabled(self.training):
            return self.net(images)

def blind(num_classes=10):
    return Blind()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    return tmp_path


def run(*more: str, results: str = "results", model: str = "mine.py:net") -> Result:
    words = ["run", "--suite", "adversarial", "--recipe", "untrained", "--limit", "40", "--model"]
    return CliRunner().invoke(app, [*words, model, "--results", results, *more])


def table(results: str = "results") -> Any:
    frame = read(Path(results, "quick"))
    return frame.drop(columns="run")


def test_a_killed_run_goes_on_with_the_same_rows(quick: None, here: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    stored = sorted(Path("results/cells").glob("*/*"))
    names = json.loads(Path("results/quick/digits/adversarial/net/seed0.json").read_text())["cells"]
    assert set(names) == {f"{c.condition} {c.level:g}" for c in SUITE.cells(Setting(32, 10))}
    assert len(stored) == len(names)
    whole = table()
    for gone in (
        [key for name, key in names.items() if name.startswith("l2") or name == "linf 20"],
        [names["linf apgd_ce 12"], names["clean 0"]],
        [names["linf square 12"]],
    ):
        for key in gone:
            Path("results/cells", key[:2], key).unlink()
        again = run("--batch-size", "17")
        assert f"{len(gone)} conditions measured, {len(names) - len(gone)} were stored" in (
            again.output
        )
        assert table().equals(whole)


def test_the_command_prints_the_numbers_and_draws_the_curves(quick: None, here: Path) -> None:
    done = run()
    shown = CliRunner().invoke(
        app, ["table", "--suite", "adversarial", "--results", "results/quick", "--json"]
    )
    found = [json.loads(line) for line in shown.stdout.splitlines()] if "\n{" in shown.stdout else (
        json.loads(shown.stdout)
    )  # fmt: skip
    (row,) = [r for r in found if "linf_distance" in r]
    frame = table().set_index(["condition", "level", "metric", "variant"])["value"]
    assert row["linf"] == pytest.approx(frame["linf", 12, "robust_accuracy", ""], abs=1e-6)
    assert row["linf_low"] <= row["linf"] <= row["linf_high"]
    assert row["linf_distance"] == pytest.approx(
        frame["linf distance", 0, "minimal_distance", ""] * 255, abs=1e-3
    )
    assert "Robust accuracy is an upper bound" in done.output
    assert Path("results/quick/figures/digits-adversarial.png").is_file()


def test_the_command_shows_images_made_on_another_network(quick: None, here: Path) -> None:
    other = ("--transfer-from", "mine.py:other")
    without = run(*other)
    assert without.exit_code == 2
    assert "There are no weights for `other`, seed 0" in without.output
    assert "which `--transfer-from` needs. Run `harness train" in without.output
    elsewhere = CliRunner().invoke(
        app, ["run", "--suite", "clean", "--model", "mine.py:net", *other]
    )
    assert "is for the suite `adversarial`" in elsewhere.output
    words = ["train", "--model", "mine.py:other", "--recipe", "untrained"]
    assert CliRunner().invoke(app, words).exit_code == 0
    done = run(*other, "--transfer-from", "mine.py:net")  # itself does not count
    assert done.exit_code == 0, done.output
    file = Path("results/quick/digits/adversarial/net/seed0.csv")
    (gain, of_one) = [line for line in file.read_text().splitlines() if ",transfer," in line]
    assert ",linf transfer,0,transfer,," in gain
    assert ",linf transfer,0,transfer,other," in of_one
    again = run()  # what was measured is kept
    assert "0 conditions measured" in again.output
    assert gain in file.read_text()


def test_a_network_without_gradients_is_refused(here: Path) -> None:
    done = run(model="mine.py:blind")
    assert done.exit_code == 1
    assert "The logits carry no gradient" in done.output


def test_the_figure_has_a_panel_a_norm_and_a_line_a_model() -> None:
    columns = ["model", "metric", "condition", "level", "value", "low", "high"]
    told = [("clean", 0.0), *((n, lv) for n, g in radii.GRIDS.items() for lv in g.levels)]
    numbers = pd.DataFrame(
        [
            (model, "accuracy" if name == "clean" else "robust_accuracy", name, level,
             share := 0.9 * np.exp(-k * level), share - 0.02, share + 0.02)
            for model, k in (("resnet18", 0.5), ("ode_block", 1.0))
            for name, level in told
        ],
        columns=columns,
    )  # fmt: skip
    figure = robustness_curve(numbers, Looks({"resnet18", "ode_block"}))
    assert [axis.get_title() for axis in figure.axes] == ["Linf", "L2"]
    for axis, grid in zip(figure.axes, radii.GRIDS.values(), strict=True):
        lines = [line for line in axis.lines if len(line.get_xdata()) > 2]
        assert len(lines) == 2
        assert list(lines[0].get_xdata()) == [0, *grid.levels]
    with pytest.raises(ValueError, match="There are no attacks to draw"):
        robustness_curve(numbers[numbers["condition"] == "clean"], Looks({"resnet18"}))
