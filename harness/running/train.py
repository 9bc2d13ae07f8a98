"""The one loop that trains every model, by any recipe.

Images stay uint8 on the device, crops are drawn for an epoch at a time and cut in batches, the loss
is summed on the device: no step waits for the host.

All draws come from generators keyed by (seed, epoch), so a run that is killed after any epoch goes
on bit for bit on the same machine.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from harness.models.base import Augmenting, Constrained, Recalibrated, Regularized, check_images
from harness.refusal import Failure
from harness.running.recipes import Recipe, learning_rate
from harness.storage import checkpoints
from harness.storage.arrays import Damaged
from harness.suites.datasets import Split, as_input

RECALIBRATION = 5000  # training images that batch statistics are measured on, where asked for
SHORT_STEP = 128  # images; below it a step runs on one CPU thread


class Report(Protocol):
    """Told after every step how far a training is; `loss` and `accuracy` are of this epoch."""

    def __call__(self, *, step: int, steps: int, loss: float, accuracy: float) -> None: ...


def seed_for(seed: int, *key: object) -> int:
    """Return a seed for a generator that depends on everything in `key`."""
    content = repr((seed, *key)).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1


@contextlib.contextmanager
def repeatable(device: torch.device, batch_size: int) -> Iterator[None]:
    """Make sums come out in one order on `device`, and leave the global generator as it was.

    A step on a small batch is too short for several CPU threads, which wait for each other at every
    operation: with 64 images of 32 pixels at width 16, two threads on two cores were 1.4 times as
    fast as one while the machine was idle, and six times as slow while it was busy.
    """
    before = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    if device.type == "cpu" and batch_size < SHORT_STEP:
        torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.set_num_threads(threads)


def initialize(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model whose initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "initialization"))
        return build()


def draw_crops(
    count: int, batch_size: int, padding: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the crops of `count` batches at once, so that no step waits for the host.

    Returns:
        Shifts (count, 2, batch_size) in [0, 2 padding], and (count, batch_size), true for half of
        the images: those to be mirrored. On the CPU.
    """
    shifts, mirrored = [], []
    for _ in range(count):
        shifts.append(torch.randint(0, 2 * padding + 1, (2, batch_size, 1), generator=generator))
        mirrored.append(torch.rand(batch_size, 1, generator=generator) < 0.5)
    return torch.stack(shifts)[..., 0], torch.stack(mirrored)[..., 0]


def crop_and_flip(images: Tensor, shifts: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """Cut images out of themselves between `padding` pixels of zeros, and mirror some.

    Args:
        images: (N, C, H, H), any type; the result has it too, and is channels-last in memory.
        shifts: (2, N), rows and columns of the padded image that come first.
        mirrored: (N,), bool.
    """
    n, _, size, _ = images.shape
    grid = torch.arange(size, device=images.device)
    rows = shifts[0, :, None] + grid  # (N, H) into the padded image
    columns = shifts[1, :, None] + torch.where(mirrored[:, None], grid.flip(0), grid)
    padded = pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    which = torch.arange(n, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass
class State:
    """A training between two epochs."""

    model: nn.Module
    optimizer: torch.optim.SGD
    epoch: int
    history: list[dict[str, float]]
    best: dict[str, Tensor] = field(default_factory=dict)  # weights, where images are held out

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer
        return tensors | {f"best.{k}": v for k, v in self.best.items()}

    def restore(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        self.model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        for name, parameter in self.model.named_parameters():
            buffer = tensors.get(f"momentum.{name}")
            if buffer is not None:
                # In the parameter's own memory format, which the fused step takes for granted.
                own = torch.empty_like(parameter).copy_(buffer)
                self.optimizer.state[parameter]["momentum_buffer"] = own
        device = next(self.model.parameters()).device
        self.best = {
            k.removeprefix("best."): v.to(device)
            for k, v in tensors.items()
            if k.startswith("best.")
        }
        self.epoch, self.history = description["epoch"], description["history"]

    def judge(self, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        """Note the accuracy on held-out images, and keep the best weights; ties take the later."""
        accuracy = held_accuracy(self.model, images, labels, recipe)
        if accuracy >= max((h["held_out"] for h in self.history[:-1]), default=0.0):
            self.best = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.history[-1]["held_out"] = accuracy


def train(
    build: Callable[[], nn.Module],
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    partial: Path | None = None,
    identity: dict[str, Any] | None = None,
    report: Report | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train the model that `build` gives, and return it with loss and accuracy of each epoch.

    Args:
        partial: Where the state is kept after each epoch; a training found there goes on, if it
            is of the same `identity`, recipe and seed.
        identity: What is trained on what; JSON-able.
        report: Called about twice a second.

    Raises:
        Failure: The loss is no longer finite.
        ValueError: The model's augmentation leaves [0, 1].
    """
    identity = (identity or {}) | {"recipe": asdict(recipe), "seed": seed}
    identity = json.loads(json.dumps(identity))  # as it comes back from a file
    model = initialize(build, seed).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        # A model with a penalty of its own has that in place of weight decay.
        weight_decay=0.0 if isinstance(model, Regularized) else recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=True,
    )
    for parameter in model.parameters():
        # From the start, since the fused step cannot add one for a branch that was left out so far.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    state = State(model, optimizer, 0, [])
    if partial is not None and partial.is_file():
        try:
            tensors, description = checkpoints.read_tensors(partial)
            if description.get("identity") == identity:
                state.restore(tensors, description)
        except Damaged:
            partial.unlink()
    images, labels = split.images.to(device), split.labels.to(device)
    held = torch.arange(0)
    if recipe.held_out:
        generator = torch.Generator().manual_seed(seed_for(seed, "held out"))
        held, kept = torch.randperm(len(split), generator=generator).split(
            (count := recipe.held(len(split)), len(split) - count)
        )
        held, kept = held.sort().values.to(device), kept.sort().values.to(device)
        (images, labels), held_split = (images[kept], labels[kept]), (images[held], labels[held])
    # Compiled code belongs to the class: several seeds of one model share it.
    forward = torch.compile(model) if recipe.compiled else model
    with repeatable(device, recipe.batch_size):
        while state.epoch < recipe.epochs:
            _epoch(state, forward, images, labels, recipe, seed, report)
            if recipe.held_out:
                state.judge(*held_split, recipe)
            if partial is not None and state.epoch < recipe.epochs:
                description = {
                    "identity": identity,
                    "epoch": state.epoch,
                    "history": state.history,
                }
                checkpoints.write(partial, state.tensors(), description)
        if recipe.held_out:
            model.load_state_dict(state.best)
        if isinstance(model, Recalibrated):
            model.recalibrate(as_input(x) for x in images[:RECALIBRATION].split(500))
    return model.eval(), state.history


def held_accuracy(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> float:
    """Return a model's accuracy on uint8 images (N, 3, H, H), arithmetic as in training."""
    hits = torch.zeros((), device=images.device)
    with (
        torch.inference_mode(),
        torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"),
    ):
        model.eval()
        for x, y in zip(images.split(500), labels.split(500), strict=True):
            hits += (model(as_input(x)).argmax(dim=1) == y).sum()
    return float(hits) / len(labels)


def _epoch(
    state: State,
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    report: Report | None,
) -> None:
    device, model = images.device, state.model.train()
    torch.manual_seed(seed_for(seed, "layers", state.epoch))  # dropout and its like
    # A stream for each purpose: models that augment see the same order and crops as those that do
    # not, so that two models of one seed are a pair.
    crops, augmentation = (
        torch.Generator().manual_seed(seed_for(seed, purpose, state.epoch))
        for purpose in ("order and crops", "augmentation")
    )
    order = torch.randperm(len(images), generator=crops).to(device)
    per_epoch = len(images) // recipe.batch_size
    shifts, mirrored = (
        x.to(device) for x in draw_crops(per_epoch, recipe.batch_size, recipe.crop_padding, crops)
    )
    steps = per_epoch * recipe.epochs
    loss_sum, hit_sum = torch.zeros((), device=device), torch.zeros((), device=device)
    clock = Clock()
    for i in range(per_epoch):
        step = state.epoch * per_epoch + i
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        which = order[i * recipe.batch_size : (i + 1) * recipe.batch_size]
        flips = mirrored[i] if recipe.flip else torch.zeros_like(mirrored[i])
        batch = crop_and_flip(images[which], shifts[i], flips, recipe.crop_padding)
        batch = as_input(batch)
        if isinstance(model, Augmenting):
            batch = model.augment(batch, augmentation)
            if i == 0:
                check_images(batch)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
            logits = forward(batch)
        loss = cross_entropy(logits.float(), labels[which])
        if isinstance(model, Regularized):
            loss = loss + model.regularization()
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        if isinstance(model, Constrained):
            model.constrain_()
        loss_sum += loss.detach()
        hit_sum += (logits.detach().argmax(dim=1) == labels[which]).float().mean()
        if report is not None and (clock.due() or i + 1 == per_epoch):
            report(
                step=step + 1,
                steps=steps,
                loss=float(loss_sum) / (i + 1),
                accuracy=float(hit_sum) / (i + 1),
            )
    loss_mean, accuracy = float(loss_sum) / per_epoch, float(hit_sum) / per_epoch
    if not math.isfinite(loss_mean):
        raise Failure(
            f"Training diverged: the loss of epoch {state.epoch + 1} is {loss_mean}. Check that "
            "the model is stable, or train it with `--dtype float32`."
        )
    state.epoch += 1
    state.history.append({"epoch": state.epoch, "loss": loss_mean, "accuracy": accuracy})


class Clock:
    """Says twice a second that it is time to report, since a report waits for the device."""

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last < self.interval_s:
            return False
        self.last = time.monotonic()
        return True
