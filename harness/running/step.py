"""One step of training; on a CUDA device as a graph, where that gives the same bits.

Starting the thousand kernels of a step takes a CPU longer than a GPU takes to run them: a
ResNet-18 of width 16 waits for its starts three quarters of the time. A graph starts all of them at
once (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-graphs). Whatever a step asks of
the host, draws on the CPU or decisions that depend on values, would be frozen in a graph; such
models are found by trying, and train step by step.
"""

import contextlib
import logging
import pickle
import random
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.models.base import Constrained, Regularized, WithOwnLoss
from harness.running.recipes import Recipe
from harness.running.state import State

WARM = 2  # steps before the graph: what is compiled or chosen at first calls is there
ATTACK_STEPS = 7  # of adversarial training, each a quarter of the radius
ALIKE = 2  # steps that are done both ways and compared bit for bit

log = logging.getLogger(__name__)


def arithmetic(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return autocast to bfloat16, or nothing, as the recipe says."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16")


class Step:
    """Loss, gradients and update on one batch.

    Args:
        forward: The state's model, or the same compiled.

    Attributes:
        radius: Of adversarial images, (), on the device.
        losses, hits: Sums over the steps of an epoch, (), on the device: of mean losses and of
            shares of batches that were classified right in training, which a model with a loss of
            its own is not asked.
        generator: What such a loss draws from, on the CPU; that of the epoch.
    """

    generator: torch.Generator | None = None

    def __init__(
        self,
        state: State,
        forward: Callable[[Tensor], Tensor],
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.state, self.forward, self.recipe, self.device = state, forward, recipe, device
        self.losses, self.hits, self.radius = (torch.zeros((), device=device) for _ in range(3))
        model = state.model
        own = model.training_loss if isinstance(model, WithOwnLoss) else None
        self.own_loss = torch.compile(own) if own and recipe.compiled else own

    def __call__(self, batch: Tensor, labels: Tensor, rate: float | Tensor) -> None:
        """Learn from images (N, 3, H, W) in [0, 1] and labels (N,) at a learning rate."""
        model, optimizer = self.state.model, self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        if self.recipe.attack_eps:
            batch = self.attacked(batch, labels)
            model.train()
        loss = self.loss(batch, labels)
        if isinstance(model, Regularized):
            loss = loss + model.regularization()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(model, Constrained):
            model.constrain_()
        if self.state.average is not None:
            self.state.average.update()
        self.losses += loss.detach()

    def loss(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, (), without a penalty; count what is classified right."""
        with arithmetic(self.recipe, self.device):
            if self.own_loss is not None:
                return self.own_loss(batch, labels, self.generator)  # type: ignore[arg-type]
            logits = self.forward(batch)
        self.hits += (logits.detach().argmax(dim=1) == labels).float().mean()
        return cross_entropy(logits.float(), labels)

    def means(self, count: int) -> tuple[float, float | None]:
        """Return the epoch's loss and accuracy after that many steps; None where it has none."""
        accuracy = None if self.own_loss is not None else float(self.hits) / count
        return float(self.losses) / count, accuracy

    def attacked(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Return adversarial images of a batch, at most `radius` away, in [0, 1].

        They are of the network in evaluation mode, in which it is left.
        """
        eps = self.radius
        self.state.model.eval()
        low, high = (batch - eps).clamp(min=0), (batch + eps).clamp(max=1)
        start = batch + eps * (2 * torch.rand_like(batch) - 1)
        found = start.clamp(0, 1)
        for _ in range(ATTACK_STEPS):
            x = found.detach().requires_grad_()
            with arithmetic(self.recipe, self.device):
                loss = cross_entropy(self.forward(x).float(), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, x)
            found = (found + eps / 4 * slope.sign()).clamp(low, high)
        return found.detach()


class Replayed:
    """A step that becomes a graph after some calls, if the graph gives the same bits.

    Attributes:
        step: The same without a graph.
        why_not: Why it stays as it is; empty before that is known, and for a graph.
    """

    def __init__(self, step: Step) -> None:
        self.step, self._calls, self._alike = step, 0, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self.why_not = "" if step.device.type == "cuda" else "the device has no graphs"
        if step.own_loss is not None:
            self.why_not = "the loss draws on the CPU"

    def __call__(self, batch: Tensor, labels: Tensor, rate: float) -> None:
        """Learn from a batch, as `Step`."""
        self._calls += 1
        if self.why_not or self._calls <= WARM:
            self.step(batch, labels, rate)
        elif self._alike < ALIKE:
            self._try(batch, labels, rate)
        else:
            self._replay(batch, labels, rate)

    def _try(self, batch: Tensor, labels: Tensor, rate: float) -> None:
        """Do a step both ways; the one without a graph counts unless both are equal."""
        before, drawn = self._snapshot(), _draws()
        try:
            with _without_waiting(self.step.device):
                self.step(batch, labels, rate)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            self._restore(before)
            self.step(batch, labels, rate)
            return self._give_up("a step waits for the device")
        if _draws() != drawn:
            return self._give_up("a step draws on the CPU")
        expected = self._snapshot()
        self._restore(before)
        if self._graph is None and (problem := self._capture(batch, labels)):
            self._restore(expected)
            return self._give_up(problem)
        self._replay(batch, labels, rate)
        found = self._snapshot()
        self._alike += 1
        if not all(torch.equal(found[name], value) for name, value in expected.items()):
            self._restore(expected)
            return self._give_up("its graph gives other bits")
        return None

    def _give_up(self, why: str) -> None:
        self.why_not, self._graph = why, None
        self.step.state.optimizer.zero_grad()
        log.info("Steps are started one by one: %s.", why)

    def _capture(self, batch: Tensor, labels: Tensor) -> str:
        """Make the graph; return why there is none."""
        self._batch, self._labels = batch.clone(), labels.clone()
        self._rate = torch.zeros((), device=self.step.device)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.step.device)
        try:
            with torch.cuda.graph(graph):
                self.step(self._batch, self._labels, self._rate)
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own
            return f"it cannot be a graph ({str(error).splitlines()[0]})"
        self._graph = graph
        return ""

    def _replay(self, batch: Tensor, labels: Tensor, rate: float) -> None:
        assert self._graph is not None
        self._batch.copy_(batch)
        self._labels.copy_(labels)
        self._rate.fill_(rate)
        self._graph.replay()

    def _snapshot(self) -> dict[str, Tensor]:
        """All that a step changes, copied."""
        device, held = self.step.device, self._held()
        drawn = {"draws on the device": torch.cuda.get_rng_state(device)}
        return {name: value.detach().clone() for name, value in held.items()} | drawn

    def _restore(self, kept: dict[str, Tensor]) -> None:
        torch.cuda.set_rng_state(kept["draws on the device"], self.step.device)
        with torch.no_grad():
            for name, value in self._held().items():
                value.copy_(kept[name])

    def _held(self) -> dict[str, Tensor]:
        state = self.step.state
        model: nn.Module = state.model
        held = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, parameter in model.named_parameters():
            for key, value in state.optimizer.state[parameter].items():
                held[f"{key} of {name}"] = value
        if state.average is not None:
            held |= {f"average of {name}": v for name, v in state.average.tensors().items()}
        return held | {"losses": self.step.losses, "hits": self.step.hits}


def _draws() -> tuple[bytes, ...]:
    """Where the global generators of the host are."""
    numpy = pickle.dumps(np.random.get_state())  # noqa: NPY002  to see whether a model uses it
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(random.getstate()), numpy


@contextlib.contextmanager
def _without_waiting(device: torch.device) -> Iterator[None]:
    """Raise where the host would wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*prototype feature.*")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
        torch.cuda.synchronize(device)
