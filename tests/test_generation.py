"""The suite generation: which samples are made, what is kept of them, its commands."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from harness.analysis import boards
from harness.analysis.collect import collect_samples
from harness.analysis.numbers import COLUMNS
from harness.cli import app
from harness.console import Console
from harness.models.base import capabilities
from harness.models.ops import samplers
from harness.plots import show_generation
from harness.plots.generation import LOOKS, METRICS, PUBLISHED, quality_curve
from harness.plots.show_generation import chosen, montage
from harness.progress import Progress
from harness.running.evaluate import Evaluated, calibrated, observe
from harness.storage import results
from harness.storage.arrays import read_arrays
from harness.suites import generation, image_features
from harness.suites.base import Arrays, Setting, Where
from harness.suites.datasets import Split
from harness.suites.generation import (
    BUDGETS,
    FINE,
    OF_FINE,
    OF_TEST,
    SDE,
    TEST,
    TOLERANCES,
    TRAINING,
    cells,
    draw_training,
    evaluations,
)
from harness.suites.generation_metrics import PATH_RMS

CPU = torch.device("cpu")
MINE = """
import numpy as np
import torch
from torch import nn

def few(train, root):
    images = np.random.default_rng(int(train)).integers(0, 256, (24, 32, 32), np.uint8)
    return images, np.arange(24) % 3

class Gaussian(nn.Module):
    '''Images of one gray level a class, each with noise: the denoiser is known.'''

    sigma_min, sigma_max = 0.05, 20.0

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.register_buffer("mean", torch.linspace(-0.5, 0.5, num_classes))

    def forward(self, images):
        return self.head(images.mean((2, 3)))

    def denoise(self, noisy, sigma, labels):
        mean, share = self.mean[labels], 0.09 / (0.09 + sigma**2)
        return torch.lerp(mean.view(-1, 1, 1, 1), noisy, share.view(-1, 1, 1, 1))

def gaussian(num_classes):
    torch.manual_seed(0)
    return Gaussian(num_classes)

class Broken(Gaussian):
    def denoise(self, noisy, sigma, labels):
        return torch.full_like(noisy, torch.nan)

def broken(num_classes):
    return Broken(num_classes)

def classifier(num_classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_features, "STEPS", 3)
    monkeypatch.setattr(generation, "_KNOWN", {})


def split(count: int, seed: int) -> Split:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 60, (count, 3, 32, 32), generator=draw) + 60 * labels.view(
        -1, 1, 1, 1
    )
    return Split(images.byte(), labels, ("a", "b", "c"), flip=False)


def setting(training: Split | None = None, seed: int = 0) -> Setting:
    half = training or split(30, 1)
    return Setting(32, 3, seed=seed, can=frozenset({"denoiser"}), training=lambda: half)


def model() -> nn.Module:
    namespace: dict[str, Callable[[int], nn.Module]] = {}
    exec(MINE, namespace)
    return namespace["gaussian"](3)


def observed(
    network: nn.Module, told: Setting, *, batch_size: int = 12, only: tuple[str, ...] = ()
) -> dict[Where, Arrays]:
    """The arrays of every cell, or of those of some conditions and what they build on."""
    suite, found = generation.generation(), dict[Where, Arrays]()
    subject, test = Evaluated(network, CPU, seed=told.seed), split(12, 2)
    find = suite.calibrate(told)
    assert find is not None and told.training is not None
    subject = calibrated(subject, find, told.training())
    for cell in suite.cells(told):
        if not only or cell.condition in (TEST, FINE, *only):
            earlier = {where: found[where] for where in cell.after}
            found[cell.condition, cell.level] = observe(
                suite, cell, subject, test, batch_size=batch_size, earlier=earlier
            )
    return found


class TestCells:
    def test_they_are_solvers_by_evaluations_or_tolerances(self) -> None:
        found = cells(setting())
        assert len({(c.condition, c.level) for c in found}) == len(found)
        assert [c.condition for c in found[:3]] == [TEST, TRAINING, FINE]
        assert {c.condition for c in found[3:]} == {*BUDGETS, *TOLERANCES}
        assert {c.method for c in found} - {""} <= set(samplers.SAMPLERS)
        assert [c.level for c in found if c.condition == "euler"] == list(BUDGETS["euler"])
        assert [c.level for c in found if c.condition == "heun"] == [5, 7, 9, 15, 19, 39, 79]
        assert all((c.level < 1) == (c.tolerance is not None) for c in found[3:])

    def test_a_level_is_what_is_spent(self) -> None:
        for method, budget in (("euler", 6), ("heun", 6), ("rk4", 317), ("dpmpp_2m", 10)):
            spent = evaluations(method, budget)
            assert spent <= budget
            assert samplers.steps_for(method, spent) == samplers.steps_for(method, budget)

    def test_other_training_images_are_other_cells(self) -> None:
        one, same, other = (cells(setting(split(30, k))) for k in (1, 1, 4))
        assert one[0].constants == same[0].constants != other[0].constants

    def test_only_models_of_images_have_them(self) -> None:
        with pytest.raises(ValueError, match="needs a model that makes images, with `denoise`"):
            cells(Setting(32, 3, training=lambda: split(30, 1)))
        with pytest.raises(ValueError, match="there are none"):
            cells(Setting(32, 3, can=frozenset({"denoiser"})))


class TestObserving:
    def test_numbers_do_not_depend_on_the_batch_size(self) -> None:
        suite, told = generation.generation(), setting()
        only = ("heun", "dpmpp_2m", SDE, "bosh3", TRAINING)
        whole, parts = (observed(model(), told, batch_size=n, only=only) for n in (12, 5))
        assert whole.keys() == parts.keys()
        for cell in suite.cells(told):
            if (where := (cell.condition, cell.level)) in whole:
                a, b = (list(suite.measure(cell, found[where])) for found in (whole, parts))
                assert [(r.metric, r.variant, r.n) for r in a] == [
                    (r.metric, r.variant, r.n) for r in b
                ]
                assert [r.value for r in b] == pytest.approx([r.value for r in a], abs=2e-3)

    def test_the_path_error_falls_at_the_order_of_the_solver(self) -> None:
        found = observed(model(), setting(), only=("euler", "heun", "dpmpp_2m"))
        error = {
            where: float(a["path_rms"].mean()) for where, a in found.items() if "path_rms" in a
        }
        assert 1.7 < error["euler", 40] / error["euler", 80] < 2.4
        for second, a, b in (("heun", 39.0, 79.0), ("dpmpp_2m", 40.0, 80.0)):
            assert 3 < error[second, a] / error[second, b] < 6
            assert error[second, b] < error["euler", 80] / 4
        for (_, level), arrays in found.items():
            if "nfe" in arrays:
                assert (arrays["nfe"] == level).all()

    def test_the_fine_solution_is_the_equations(self) -> None:
        """Of Gaussian images x(s) - m shrinks as the root of their variance plus s^2."""
        network, told = model(), setting(seed=5)
        found = observed(network, told, only=(FINE,))[OF_FINE]
        assert found["images"].shape == (12, 3, 32, 32)
        noise = samplers.noise(torch.arange(12), (3, 32, 32), seed=5)
        mean = torch.linspace(-0.5, 0.5, 3)[torch.arange(12) % 3].view(-1, 1, 1, 1)
        end = mean + (20 * noise - mean) * ((0.09 + 0.05**2) / (0.09 + 20**2)) ** 0.5
        exact = mean + (end - mean) * 0.09 / (0.09 + 0.05**2)  # the last step, to 0, is D
        assert np.abs(found["images"] - exact.numpy()).max() < 1e-4

    def test_of_an_sde_there_is_no_path(self) -> None:
        found = observed(model(), setting(), only=(SDE,))
        assert all("path_rms" not in a for (name, _), a in found.items() if name == SDE)

    def test_training_images_are_drawn_by_class_and_index(self) -> None:
        known = torch.tensor([2, 0, 0, 1, 2, 2])
        labels, indices = torch.tensor([0, 1, 2] * 50), torch.arange(150)
        drawn = draw_training(labels, indices, 0, known)
        assert torch.equal(known[drawn], labels)
        assert set(drawn.tolist()) == set(range(6))
        some = torch.tensor([140, 3])
        assert torch.equal(draw_training(labels[some], some, 0, known), drawn[some])
        assert not torch.equal(draw_training(labels, indices, 1, known), drawn)
        assert (draw_training(torch.tensor([3]), torch.tensor([0]), 0, known) < 6).all()

    def test_bytes_of_a_cell_are_few(self) -> None:
        found = observed(model(), setting(), only=("euler",))
        assert sum(a.nbytes for a in found["euler", 5].values()) < 700 * 12

    def test_real_images_are_those_of_the_places(self) -> None:
        found = observed(model(), setting(), only=("euler",))
        for name in ("features", "projections"):
            assert np.array_equal(found["euler", 5][f"real_{name}"], found[OF_TEST][name])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generation, "BUDGETS", {"euler": (5, 10), "heun": (5, 9), SDE: (10,)})
    monkeypatch.setattr(generation, "TOLERANCES", {"bosh3": (1e-1,)})
    Path("mine.py").write_text(MINE)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def run(name: str, *more: str) -> Result:
    words = ["--model", f"mine.py:{name}", "--dataset", "mine.py:few", "--recipe", "untrained"]
    return command("run", "--suite", "generation", *words, *more)


def test_a_run_is_stored_printed_and_drawn(here: Path) -> None:
    done = run("gaussian")
    assert done.exit_code == 0, done.output
    assert Path("results/figures/few-generation.png").is_file()
    text = command("table", "--suite", "generation").output
    assert "sliced" in text and "training images: drawn anew" in text and "none is an FID" in text
    again = run("gaussian")
    assert "0 conditions measured" in again.output
    stored = [read_arrays(path) for path in Path("results/cells").rglob("*") if path.is_file()]
    seen = {described["condition"] for _, described in stored if "condition" in described}
    assert seen == {TEST, TRAINING, FINE, "euler", "heun", SDE, "bosh3"}


def test_each_seed_has_samples_of_its_own_that_stand_beside_the_others(here: Path) -> None:
    done = run("gaussian", "--seed", "0", "--seed", "1")
    assert done.exit_code == 0, done.output
    table = results.read(Path("results"))
    errors = table[(table["metric"] == PATH_RMS.name) & (table["level"] == 5)]
    assert len(errors) == 8  # two solvers, seeds and variants
    assert errors.groupby(["condition", "variant"])["value"].nunique().eq(2).all()
    real = table[(table["condition"] == TEST)]
    assert real.groupby(["metric", "variant"])["value"].nunique().eq(1).all()
    with boards.open_outcomes(Path("results"), errors, Progress(Console())) as outcomes:
        samples = collect_samples(errors[errors["variant"] == ""], outcomes)
    assert [(s.seeds, s.outcomes is None) for s in samples.values()] == [(2, False)] * 2
    again = run("gaussian", "--seed", "0", "--seed", "1")
    assert "0 conditions measured" in again.output


def test_a_classifier_is_refused_with_one_sentence(here: Path) -> None:
    done = run("classifier")
    assert done.exit_code == 2 and "needs a model that makes images" in done.output
    assert not Path("results").exists()
    shown = command("show", "generation", "--model", "mine.py:classifier", "--recipe", "untrained")
    assert shown.exit_code == 2 and "makes no images" in shown.output


def test_samples_that_are_no_numbers_are_named(here: Path) -> None:
    done = run("broken")
    assert done.exit_code == 1 and "are not finite" in done.output


def test_samples_and_trajectories_are_drawn(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show_generation, "BUDGETS", (5, 9))
    words = ["--model", "mine.py:gaussian", "--dataset", "mine.py:few", "--recipe", "untrained"]
    done = command("show", "generation", *words)
    assert done.exit_code == 0, done.output
    for kind in ("samples", "trajectories"):
        path = Path(f"results/figures/{kind}-gaussian-few.png")
        assert str(path) in done.output and path.stat().st_size > 10_000


class TestPictures:
    def test_a_montage_holds_every_image_in_its_place(self) -> None:
        images = torch.linspace(-1, 1, 6).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
        found = montage(images, across=4)
        assert found.shape == (3, 2 * 32 + 2, 4 * 32 + 3 * 2)
        assert (found[:, 34:, 34:66] == 255).all() and (found[:, :32, :32] == 0).all()
        assert (found[:, 32:34] == 255).all() and (found[:, 34:, 68:] == 255).all()

    def test_one_image_of_each_class_is_chosen_first(self) -> None:
        assert chosen(split(12, 0)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert len(chosen(split(5, 0))) == 5

    def test_published_numbers_stand_in_a_panel_that_says_so(self) -> None:
        of_metric = {"nfe": 1.0, "path_rms": 0.1, "sliced_w2": 0.02, "feature_mmd2": -0.001}
        cells = (("euler", 5.0, 5), ("euler", 10.0, 10), ("heun", 9.0, 9), ("bosh3", 0.1, 30))
        rows = [
            ("d", "generation", "net", metric, variant, f"{name} {level:g}", name, level,
             value * spent if metric == "nfe" else value, np.nan, np.nan, 1, 12, "nothing", ())
            for name, level, spent in cells
            for metric, value in of_metric.items()
            for variant in (("", "low", "high") if metric == "feature_mmd2" else ("",))
        ]  # fmt: skip
        figure = quality_curve(pd.DataFrame(rows, columns=list(COLUMNS)))
        titles = [axis.get_title() for axis in figure.axes]
        assert titles[:3] == list(METRICS.values())
        assert titles[3].startswith("PUBLISHED, another measure")
        drawn = {line.get_label(): line for line in figure.axes[3].lines}
        for name, numbers in PUBLISHED.values():
            assert drawn[name].get_ydata().tolist() == [numbers[n] for n in sorted(numbers)]
        assert figure.axes[0].lines[0].get_xdata().tolist() == [5, 10]
        assert figure.axes[0].lines[0].get_ydata().tolist() == [0.1, 0.1]
        assert set(BUDGETS) | set(TOLERANCES) <= set(LOOKS)


def test_its_model_has_the_capability_by_structure() -> None:
    assert "denoiser" in capabilities(model())
    assert "denoiser" not in capabilities(nn.Identity())
