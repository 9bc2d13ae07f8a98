"""The one recipe and the one loop.

Stochastic gradient descent with Nesterov momentum, a triangular learning rate (from a fifth of the
peak up to it over the first fifth of the steps, then down to 0), weight decay, random crop of a
zero-padded image, and a random flip where the data allow it; the last weights count. After
K. Jordan's ResNet-18 recipes, https://github.com/KellerJordan/ResNet-PyTorch-CIFAR10, without
cutout and without test-time augmentation.

All draws come from generators keyed by (seed, epoch), so a run that is killed after any epoch goes
on bit for bit on the same machine.
"""

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from harness import checkpoints
from harness.files import Damaged, read_tensors
from models.base import Augmenting, Constrained, Regularized, check_images
from suites.datasets import Split

EPOCHS = {"fast": 26, "full": 80}
SHORT_STEP = 128  # images; below it a step runs on one CPU thread


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the same for all models on a data set.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step; the rest of an epoch is left out.
        peak_lr: Highest learning rate.
        momentum: Of Nesterov's method.
        weight_decay: L2 coefficient on all parameters, but of models with a penalty of their own.
        crop_padding: Pixels of zeros on each side, from which a crop of the original size is drawn.
        flip: Whether half of the images are mirrored.
        dtype: Of convolutions and matrix products; parameters and statistics are float32.
    """

    epochs: int
    batch_size: int
    peak_lr: float
    momentum: float
    weight_decay: float
    crop_padding: int
    flip: bool
    dtype: str


class Report(Protocol):
    """Told after every step how far a training is; `loss` and `accuracy` are of this epoch."""

    def __call__(self, *, step: int, steps: int, loss: float, accuracy: float) -> None: ...


def recipe_for(split: Split, epochs: int, device: torch.device) -> Recipe:
    """Return the recipe for a training set: batches of 1 % of it, between 64 and 500 images.

    The peak learning rate is 0.2 for 500 images and proportional to the batch.
    """
    batch_size = min(500, max(64, len(split) // 100), len(split))
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        peak_lr=0.2 * batch_size / 500,
        momentum=0.9,
        weight_decay=5e-4,
        crop_padding=split.image_size // 8,
        flip=split.flip,
        dtype="bfloat16" if gains_from_bfloat16(device) else "float32",
    )


def gains_from_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the triangular learning rate of a step, 0 <= step < steps."""
    rise = max(1, round(0.2 * steps))
    if step < rise:
        return recipe.peak_lr * (0.2 + 0.8 * step / rise)
    return recipe.peak_lr * (steps - step) / (steps - rise) if steps > rise else recipe.peak_lr


def keyed(seed: int, *key: object) -> int:
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


def initialized(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model whose initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed(seed, "initialization"))
        return build()


def crop_and_flip(images: Tensor, generator: torch.Generator, padding: int, flip: bool) -> Tensor:
    """Shift each image by up to `padding` pixels into zeros, and mirror it with probability 1/2.

    Args:
        images: (N, C, H, H), any type; the result has it too, and is channels-last in memory.
        generator: On the CPU.
    """
    n, _, size, _ = images.shape
    shift = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    grid = torch.arange(size)
    rows = shift[0] + grid  # (N, H) into the padded image
    columns = shift[1] + (torch.where(mirrored, grid.flip(0), grid) if flip else grid)
    rows, columns = (index.to(images.device, non_blocking=True) for index in (rows, columns))
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

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer
        return tensors

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
        self.epoch, self.history = description["epoch"], description["history"]


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
        FloatingPointError: The loss is no longer finite.
        ValueError: The model's augmentation leaves [0, 1].
    """
    identity = (identity or {}) | {"recipe": asdict(recipe), "seed": seed}
    model = initialized(build, seed).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        # A model with a penalty of its own has that in place of weight decay.
        weight_decay=0.0 if isinstance(model, Regularized) else recipe.weight_decay,
        nesterov=True,
        fused=True,
    )
    state = State(model, optimizer, 0, [])
    if partial is not None and partial.is_file():
        try:
            tensors, description = read_tensors(partial)
            if description.get("identity") == identity:
                state.restore(tensors, description)
        except Damaged:
            partial.unlink()
    images, labels = split.images.to(device), split.labels.to(device)
    with repeatable(device, recipe.batch_size):
        while state.epoch < recipe.epochs:
            _epoch(state, images, labels, recipe, seed, report)
            if partial is not None and state.epoch < recipe.epochs:
                description = {
                    "identity": identity,
                    "epoch": state.epoch,
                    "history": state.history,
                }
                checkpoints.write(partial, state.tensors(), description)
    return model.eval(), state.history


def _epoch(
    state: State,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    report: Report | None,
) -> None:
    device, model = images.device, state.model.train()
    torch.manual_seed(keyed(seed, "layers", state.epoch))  # dropout and its like
    # A stream for each purpose: models that augment see the same order and crops as those that do
    # not, so that two models of one seed are a pair.
    crops, augmentation = (
        torch.Generator().manual_seed(keyed(seed, purpose, state.epoch))
        for purpose in ("order and crops", "augmentation")
    )
    order = torch.randperm(len(images), generator=crops).to(device)
    per_epoch = len(images) // recipe.batch_size
    steps = per_epoch * recipe.epochs
    loss_sum, hit_sum = torch.zeros((), device=device), torch.zeros((), device=device)
    clock = Clock()
    for i in range(per_epoch):
        step = state.epoch * per_epoch + i
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        which = order[i * recipe.batch_size : (i + 1) * recipe.batch_size]
        batch = crop_and_flip(images[which], crops, recipe.crop_padding, recipe.flip)
        batch = batch.float() / 255
        if isinstance(model, Augmenting):
            batch = model.augment(batch, augmentation)
            if i == 0:
                check_images(batch)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
            logits = model(batch)
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
        raise FloatingPointError(
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
