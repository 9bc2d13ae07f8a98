"""Models that are no functions of one image: found out, and measured in one fixed way."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.models.catalog import CATALOG
from harness.models.in_memory import source_of
from harness.progress import Progress
from harness.refusal import Refusal
from harness.running.behavior import BATCH, ORDINARY, PROBABILITIES, declared, probe, seeded
from harness.running.execute import execute
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage.cells import CellStore
from harness.storage.results import read, read_provenances
from harness.suites.datasets import as_input, load

QUIET = Progress(Console(quiet=True))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return as_input(load("digits", train=False, root=Path()).images[:32])


class Head(nn.Module):
    """Ten numbers of an image, whatever is done to them afterwards."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(images, 8).flatten(1))


class Dropout(Head):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(images), 0.5)


class NumpyNoise(Head):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + float(np.random.normal())  # noqa: NPY002


class PythonNoise(Head):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + random.random()


class OwnGenerator(Head):
    """Draws from a generator that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.own = np.random.default_rng(0)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + float(self.own.normal())


class Counting(Head):
    """Answers by how often it was asked, which its state does not say."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


class Averaging(Head):
    """Keeps a mean of what it saw, in its state."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        self.seen = 0.9 * self.seen + 0.1 * found.mean(0)
        return found - self.seen


class Centered(Head):
    """Less the mean of its batch."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found - found.mean(0)


class Adapting(Head):
    """Batch statistics in evaluation, as adaptation at test time has them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(10)

    def forward(self, images: Tensor) -> Tensor:
        self.norm.train()
        return self.norm(super().forward(images))


class ByBrightness(Head):
    """Another answer where the batch as a whole is bright."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 if images.mean() < 0.5 else -1)


class Neighbors(Head):
    """The image before it in the batch has a say."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found + found.roll(1, 0)


DEPENDS = f"depends on its batch of {BATCH} images"
KINDS: dict[type[Head], tuple[str, ...]] = {
    Head: (),
    Dropout: ("random",),
    NumpyNoise: ("random",),
    PythonNoise: ("random",),
    OwnGenerator: ("changes itself",),
    Counting: ("changes itself",),
    Averaging: ("changes itself", DEPENDS),
    Centered: (DEPENDS,),
    Adapting: ("changes itself", DEPENDS),
    ByBrightness: (DEPENDS,),
    Neighbors: (DEPENDS,),
}
OTHERS = [kind for kind, words in KINDS.items() if words]


@pytest.mark.parametrize("kind, words", KINDS.items(), ids=[k.__name__ for k in KINDS])
def test_what_a_model_is_shows_when_it_is_asked(
    kind: type[Head], words: tuple[str, ...], images: Tensor
) -> None:
    model = kind().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = probe(model, images, None, "m")
    assert found.words == words
    assert (found.batch, found.fresh) == ((BATCH, True) if words else (0, False))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert getattr(model, "calls", 0) == 0, "the model itself is not asked"


class Probabilities(Head):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class ProbabilitiesOfABatch(Centered):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class LogProbabilities(Head):
    """Logits as good as others."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).log_softmax(1)


@pytest.mark.parametrize(
    "kind, words",
    [
        (Probabilities, (PROBABILITIES,)),
        (ProbabilitiesOfABatch, (DEPENDS, PROBABILITIES)),
        (LogProbabilities, ()),
    ],
)
def test_probabilities_are_no_logits(
    kind: type[Head], words: tuple[str, ...], images: Tensor
) -> None:
    assert probe(kind().eval(), images, None, "m").words == words


@pytest.mark.parametrize("name", ["resnet18", "pde_layer", "pde_attention", "ode_block"])
def test_our_models_are_functions_of_an_image(name: str, images: Tensor) -> None:
    model = MODELS[name](num_classes=10, width=8).eval()
    assert not CATALOG[name].transductive
    assert probe(model, images[:8], None, name) is ORDINARY


def test_what_a_model_says_of_itself_is_believed(images: Tensor) -> None:
    model = MODELS["coin"](num_classes=10, width=8).eval()
    assert declared(model).words == ("depends on its batch of 1024 images",)
    assert probe(model, images, None, "coin") == declared(model)


class WithLock(Centered):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Unrepeatable(Head):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 10 * random.SystemRandom().random()


def test_what_cannot_be_measured_in_a_fixed_way_is_refused(images: Tensor) -> None:
    with pytest.raises(Refusal, match="`m` is no function of single images, and cannot be copied"):
        probe(WithLock(), images, None, "m")
    with pytest.raises(Refusal, match="`m` gives other answers .* even from a fresh copy"):
        probe(Unrepeatable(), images, None, "m")


def test_a_model_that_cannot_be_copied_but_is_a_function_is_measured(images: Tensor) -> None:
    class Locked(Head):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    assert probe(Locked(), images, None, "m") is ORDINARY


def test_generators_are_put_back() -> None:
    def draws() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    with seeded(1, torch.device("cpu")):
        inside = draws()
    after = draws()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    assert draws() == after
    with seeded(1, torch.device("cpu")):
        assert draws() == inside


Measure = Callable[..., pd.DataFrame]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """A function that evaluates a network under a corruption, and returns the rows."""

    def run(kind: type[Head], folder: str = "results", **options: object) -> pd.DataFrame:
        given = Options(
            results=tmp_path / folder, data=tmp_path, corruptions=("contrast",), limit=230
        )
        given = replace(given, **options)
        source = source_of(kind(), "net")
        list(execute(plan([source], ["digits"], [0], ["robustness"], given), given, QUIET))
        return read(given.root)

    return run


@pytest.mark.parametrize("kind", OTHERS)
def test_a_run_that_was_stopped_ends_with_the_same_numbers(
    kind: type[Head], measure: Measure, tmp_path: Path
) -> None:
    whole = measure(kind)
    store = CellStore(tmp_path / "results" / "cells")
    cells = read_provenances(tmp_path / "results" / "quick")["digits", "robustness", "net", 0]
    for key in list(cells["cells"].values())[1::2]:
        store.path(key).unlink()
    pd.testing.assert_frame_equal(measure(kind), whole)
    pd.testing.assert_frame_equal(measure(kind, "again"), whole)
    assert cells["behavior"] == list(KINDS[kind]) and cells["batch_size"] == BATCH


def test_another_batch_is_another_model_where_it_matters(measure: Measure) -> None:
    assert set(measure(Centered)["model"]) == {"net"}
    both = measure(Centered, batch_size=7)
    assert set(both["model"]) == {"net", "net[batch 7]"}
    nll = both[both["metric"] == "nll"].groupby("model")["value"].mean()
    assert nll["net"] != nll["net[batch 7]"]
    assert set(measure(Head, "other", batch_size=7)["model"]) == {"net"}


def test_a_batch_dependent_model_is_asked_as_a_plain_loop_would(measure: Measure) -> None:
    """Batches of a hundred in the order of the data set."""
    rows = measure(Adapting, limit=0, corruptions=("contrast",))
    told = rows[(rows["metric"] == "nll") & (rows["condition"] == "clean")]["value"].item()
    split, model = load("digits", train=False, root=Path()), Adapting().eval()
    with torch.no_grad():
        logits = torch.cat([model(as_input(part)) for part in split.images.split(BATCH)])
    own = nn.functional.cross_entropy(logits, split.labels)
    assert told == pytest.approx(float(own), abs=2e-6)


class Energy(Head):
    """A step down the gradient of an energy, taken in the forward pass."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            x = images.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(super().forward(x).square().sum(), x)
        return super().forward(images - 0.1 * slope)


def test_a_model_may_differentiate_in_its_forward_pass(measure: Measure) -> None:
    rows = measure(Energy)
    assert rows["value"].notna().all() and set(rows["n"]) == {230}
