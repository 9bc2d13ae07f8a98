"""The one loop that trains every model, by any recipe.

Images stay uint8 on the device, crops are drawn for an epoch at a time and cut in batches, the loss
is summed on the device: no step waits for the host.

All draws come from generators keyed by (seed, epoch), whose states are kept: a run that is killed
anywhere goes on bit for bit on the same machine.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness import stopping
from harness.models.base import Augmenting, Fitted, Recalibrated, check_images
from harness.refusal import Failure
from harness.running.crops import crop_and_flip, draw_crops
from harness.running.recipes import Recipe, attack_radius, learning_rate
from harness.running.repeatable import repeatable, seed_for
from harness.running.state import State, Stopwatch
from harness.running.step import Replayed, Step, arithmetic
from harness.suites.datasets import Split, as_input
from harness.suites.stored_images import Images, blocks, take

TRAINER = 2  # raised by every change of the weights that a training ends with
KEEP_S = 120.0  # between two states that are kept within an epoch
RECALIBRATION = 5000  # training images that batch statistics are measured on, where asked for


class Report(Protocol):
    """Called about twice a second with the progress; `loss` and `accuracy` are of this epoch.

    `accuracy` is None for a model with a loss of its own, which nobody asks for logits meanwhile.
    """

    def __call__(self, *, step: int, steps: int, loss: float, accuracy: float | None) -> None: ...


def train(
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    partial: Path | None = None,
    identity: dict[str, Any] | None = None,
    report: Report | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    watch: Stopwatch | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a model from its initial weights; return it with loss and accuracy of each epoch.

    A `Fitted` one is given all images at once; it has no epochs.

    Args:
        seed: Training seed.
        partial: Where the state is kept after each epoch, every few minutes and where the program
            is asked to end; a training found there goes on, if it is of the same `identity`, recipe
            and seed.
        identity: What is trained on what; JSON-able.
        report: Called about twice a second.
        tell: Called with a sentence on the state that was found.
        watch: Runs from before the call; gets the time of earlier stretches of the training.

    Raises:
        Failure: The loss is no longer finite.
        ValueError: The model's augmentation leaves [0, 1].
    """
    identity = (identity or {}) | {"recipe": recipe.described(), "seed": seed}
    identity = json.loads(json.dumps(identity))  # as it comes back from a file
    model = model.to(device).to(memory_format=torch.channels_last)
    if isinstance(model, Fitted):
        model.fit(*_whole(split, device))
        return model.eval(), []
    state = State.start(model, recipe)
    state.watch = watch or state.watch
    if partial is not None and (found := state.resume(partial, identity)):
        tell(found)
    keep = _Keeping(state, partial, identity)
    images, labels = split.images.to(device), split.labels.to(device)
    held, kept = (x.to(device) for x in hold_out(len(split), recipe, seed))
    held_images, held_labels = take(images, held), labels[held]
    if len(held):
        images, labels = take(images, kept), labels[kept]
    # Compiled code belongs to the class: several seeds of one model share it.
    forward = torch.compile(model) if recipe.compiled else model
    learn = Replayed(Step(state, forward, recipe, device))
    with repeatable(device, recipe.batch_size), stopping.finishing():
        while state.epoch < recipe.epochs:
            _epoch(state, learn, images, labels, recipe, seed, keep, report)
            if len(held):
                _validate(state, held_images, held_labels, recipe)
            if state.epoch < recipe.epochs:
                keep()
        state.finish()
        if isinstance(model, Recalibrated):
            ends = range(0, min(len(images), RECALIBRATION), 500)
            model.recalibrate(as_input(images[i : min(i + 500, RECALIBRATION)]) for i in ends)
    return model.eval(), state.history


def _whole(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """All images and labels on a device, those in a file read into memory."""
    return torch.cat([b.to(device) for b in blocks(split.images)]), split.labels.to(device)


def _validate(state: State, images: Images, labels: Tensor, recipe: Recipe) -> None:
    """Record the accuracy on held-out images; keep the best weights, of equals the later."""
    with state.evaluated():
        accuracy = held_accuracy(state.model, images, labels, recipe)
        if accuracy >= max((h["held_out"] for h in state.history[:-1]), default=0.0):
            state.best = {k: v.clone() for k, v in state.model.state_dict().items()}
    state.history[-1]["held_out"] = accuracy


def hold_out(count: int, recipe: Recipe, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions of the images that are held out, and of those that are trained on."""
    generator = torch.Generator().manual_seed(seed_for(seed, "held out"))
    held = recipe.held(count)
    first, rest = torch.randperm(count, generator=generator).split((held, count - held))
    return first.sort().values, rest.sort().values


def held_accuracy(model: nn.Module, images: Images, labels: Tensor, recipe: Recipe) -> float:
    """Return a model's accuracy on uint8 images (N, 3, H, H), arithmetic as in training."""
    hits = torch.zeros((), device=images.device)
    model.eval()
    with torch.no_grad(), arithmetic(recipe, images.device):
        for i, y in enumerate(labels.split(500)):
            x = images[500 * i : 500 * (i + 1)]
            hits += (model(as_input(x)).argmax(dim=1) == y).sum()
    return float(hits) / len(labels)


def _epoch(
    state: State,
    learn: Replayed,
    images: Images,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    keep: "_Keeping",
    report: Report | None,
) -> None:
    step, model = learn.step, state.model.train()
    torch.manual_seed(seed_for(seed, "layers", state.epoch))  # dropout and its like
    # A stream for each purpose: models that augment see the same order and crops as those that do
    # not, so that two models of one seed are a pair.
    purposes = ("order and crops", "augmentation", *(("loss",) if step.own_loss else ()))
    generators = {
        purpose: torch.Generator().manual_seed(seed_for(seed, purpose, state.epoch))
        for purpose in purposes
    }
    crops, step.generator = generators.pop("order and crops"), generators.get("loss")
    losses, hits = state.enter(generators)
    step.losses.copy_(losses)
    step.hits.copy_(hits)
    per_epoch, first = len(images) // recipe.batch_size, state.step
    steps, clock = per_epoch * recipe.epochs, Clock()
    batches = _batches(model, images, recipe, crops, generators["augmentation"], first)
    for i, (batch, which) in enumerate(batches, first):
        done = state.epoch * per_epoch + i
        step.radius.fill_(attack_radius(recipe, done, steps))
        learn(batch, labels[which], learning_rate(recipe, done, steps))
        if report is not None and (clock.due() or i + 1 == per_epoch):
            loss, accuracy = step.means(i + 1)
            report(step=done + 1, steps=steps, loss=loss, accuracy=accuracy)
        if i + 1 < per_epoch and keep.due():
            state.leave(i + 1, generators, step.losses, step.hits)
            keep()
    loss, accuracy = step.means(per_epoch)
    if not math.isfinite(loss):
        raise Failure(
            f"Training diverged: the loss of epoch {state.epoch + 1} is {loss}. Check that "
            "the model is stable, or choose another `--recipe`."
        )
    state.epoch, state.step, state.within = state.epoch + 1, 0, {}
    state.history.append({"epoch": state.epoch, "loss": loss})
    if accuracy is not None:
        state.history[-1]["accuracy"] = accuracy


def _batches(
    model: nn.Module,
    images: Images,
    recipe: Recipe,
    crops: torch.Generator,
    augmentation: torch.Generator,
    first: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch from the `first` on, augmented and cropped, and of which images."""
    count, padding = len(images) // recipe.batch_size, recipe.crop_padding
    order = torch.randperm(len(images), generator=crops).to(images.device)
    shifts, mirrored = (
        x.to(images.device) for x in draw_crops(count, recipe.batch_size, padding, crops)
    )
    for i in range(first, count):
        which = order[i * recipe.batch_size : (i + 1) * recipe.batch_size]
        flips = mirrored[i] if recipe.flip else torch.zeros_like(mirrored[i])
        batch = images[which]
        if isinstance(model, Augmenting):
            # Before the crop: no image has the black border that smoothing would carry into it.
            batch = model.augment(as_input(batch), augmentation)
            if i == first:
                check_images(batch)
        batch = crop_and_flip(batch, shifts[i], flips, padding)
        batch = as_input(batch) if batch.dtype == torch.uint8 else batch
        yield batch.contiguous(memory_format=torch.channels_last), which


class _Keeping:
    """Keeps the state of a training, and ends the program there if it was asked to end."""

    def __init__(self, state: State, partial: Path | None, identity: dict[str, Any]) -> None:
        self._state, self._partial, self._identity = state, partial, identity
        self._clock = Clock(KEEP_S)

    def due(self) -> bool:
        """Return whether to keep the state within an epoch."""
        return stopping.asked() or (self._partial is not None and self._clock.due())

    def __call__(self) -> None:
        if self._partial is not None:
            self._state.save(self._partial, self._identity)
        stopping.check()


class Clock:
    """Says twice a second that it is time to report, since a report waits for the device."""

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.last = time.monotonic()

    def due(self) -> bool:
        """Return whether the interval has passed since the last time."""
        if time.monotonic() - self.last < self.interval_s:
            return False
        self.last = time.monotonic()
        return True
