"""When a step of training becomes a graph, with a graph in Python; CUDA's: test_models_on_gpu."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.running import step as steps
from harness.running.recipes import Recipe
from harness.running.state import State
from harness.running.step import Replayed, Step

RECIPE = Recipe(1, 8, 0.1, 0.9, 5e-4, 0, False, "float32")
CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, drawing: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        self.drawing = drawing

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images) * (torch.rand(()) if self.drawing else 1)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decisions on the CPU: its generator stands for the device's."""
    state = torch.zeros(1, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda kept, device: None)
    monkeypatch.setattr(steps, "_without_waiting", lambda device: contextlib.nullcontext())


class Learner(Replayed):
    """Its graph does what `error` adds to the step."""

    def __init__(self, step: Step, error: float = 0.0) -> None:
        super().__init__(step)
        self.why_not, self.error, self.replays = "", error, 0

    def _capture(self, batch: Tensor, labels: Tensor) -> str:
        self._graph: Any = self
        return ""

    def _replay(self, batch: Tensor, labels: Tensor, rate: float) -> None:
        self.replays += 1
        self.step(batch, labels, rate + self.error)


def learn(kind: Any, drawing: bool = False, **more: float) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    model = Net(drawing)
    learner = kind(Step(State.start(model, RECIPE), model, RECIPE, CPU), **more)
    for _ in range(6):
        learner(torch.rand(8, 3, 2, 2), torch.arange(8) % 3, 0.1)
    return learner, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_graph_of_the_same_bits_takes_over(graphs: None) -> None:
    plain, expected = learn(Replayed)
    assert plain.why_not == "the device has no graphs"
    learner, found = learn(Learner)
    assert torch.equal(found, expected) and learner.why_not == "" and learner.replays == 4
    assert float(learner.step.losses) == float(plain.step.losses) > 0


@pytest.mark.parametrize(
    "how, why",
    [({"error": 1e-3}, "its graph gives other bits"), ({"drawing": True}, "a step draws on the")],
)
def test_what_a_graph_would_change_trains_without_one(
    graphs: None, how: dict[str, Any], why: str
) -> None:
    _, expected = learn(Replayed, drawing="drawing" in how)
    learner, found = learn(Learner, **how)
    assert learner.why_not.startswith(why) and learner.replays <= 1
    assert torch.equal(found, expected)
