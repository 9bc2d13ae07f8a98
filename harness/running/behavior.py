"""Whether a model is a function of one image, found out by asking it.

Some models are not: they draw noise, count their calls, learn from what they see, or normalize by
the batch at hand. Their answers are measured in one fixed way, so that a number does not depend on
where a run was stopped: images in their order, in batches of one size, for each condition a fresh
copy of the model and fresh seeds of all generators. What was found stands in every table.
"""

import contextlib
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.refusal import Refusal
from harness.running.repeatable import seed_for
from harness.storage.checkpoints import digest

PROBED = 32  # images of the data set that a model is asked about
PARTS = (slice(0, 1), slice(1, 2), slice(0, 3), slice(-3, None))  # asked without the others
BATCH = 100  # images that a model sees together whose answers depend on it
PROBABILITIES = "gives probabilities in place of logits: its NLL, Brier and ECE are not right"
TOLERANCE = 1e-4  # of the largest logit; sums in another order differ by far less


@dataclass(frozen=True)
class Behavior:
    """How a model answers.

    Args:
        batch: Images that it must be asked together; 0 where that does not matter.
        words: What stands in tables; none for a function of one image.
        fresh: Whether each condition needs a copy of its own, and seeds.
    """

    batch: int = 0
    words: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def kinds(self) -> frozenset[str]:
        """Return what `Setting.can` says of a model that was found to be no function of images."""
        if not self.fresh:
            return frozenset()
        if "changes itself" in self.words or any(w.startswith("depends on") for w in self.words):
            return frozenset({"transductive"})
        return frozenset({"random"})


ORDINARY = Behavior()


def declared(model: nn.Module) -> Behavior:
    """Return the behavior of a model that says itself what it is."""
    if getattr(model, "transductive", False):
        batch = int(getattr(model, "graph_batch", BATCH))
        return Behavior(words=(f"depends on its batch of {batch} images",))
    return Behavior(words=("mean over draws",)) if getattr(model, "stochastic", False) else ORDINARY


def probe(model: nn.Module, images: Tensor, batch_size: int | None, name: str) -> Behavior:
    """Ask a model about the same images twice and in other company, and return what it is.

    Every second image is asked inverted, so that a batch has bright and dark ones.

    Args:
        model: Network in evaluation mode; left as it was if it can be copied.
        images: (N, 3, H, W) in [0, 1], some of the data set's.
        batch_size: What was asked for; None takes `BATCH` where it matters.
        name: For messages.

    Raises:
        Refusal: It gives other answers whatever is fixed, or is no function and cannot be copied.
    """
    said = declared(model)
    if said.words:
        return said
    images = images[:PROBED].clone()
    images[1::2] = 1 - images[1::2]
    one = _copy(model)
    before = digest(one.state_dict())
    first, again = _ask(one, images, 0), _ask(one, images, 1)
    changed, varies = digest(one.state_dict()) != before, not _equal(first, again)
    parts = [part for part in PARTS if len(images[part]) < len(images)]
    together = any(_answers_otherwise(model, images[part], first[part]) for part in parts)
    scale = (PROBABILITIES,) if _are_probabilities(first) else ()
    if not (varies or changed or together):
        return Behavior(words=scale) if scale else ORDINARY
    if one is model:
        raise Refusal(
            f"`{name}` is no function of single images, and cannot be copied to be measured in one "
            "fixed way. Let it keep no open files, handles or graphs as attributes."
        )
    if not _equal(_ask(_copy(model), images, 0), first):
        raise Refusal(
            f"`{name}` gives other answers to the same images even from a fresh copy with the same "
            "seeds. Let it draw from PyTorch's, NumPy's or Python's generator, or hold its own."
        )
    words = ["random"] if not _equal(_ask(_copy(model), images, 1), first) else []
    words += ["changes itself"] if changed or (varies and not words) else []
    batch = batch_size or BATCH
    if together and "random" not in words:  # whose draws depend on what was drawn before
        words.append(f"depends on its batch of {batch} images")
    return Behavior(batch, (*words, *scale), fresh=True)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every generator that a model may draw from, and put them back at the end."""
    numbers, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numbers)  # noqa: NPY002
            random.setstate(python)


def _copy(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with a model; itself where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # whatever a user's attributes raise
        return model


def _answers_otherwise(model: nn.Module, images: Tensor, before: Tensor) -> bool:
    """Whether images alone get other answers than among others, or none at all."""
    try:
        return not _equal(_ask(_copy(model), images, 0), before)
    except Exception:  # batch norm, for one, cannot normalize by a single value
        return True


def _are_probabilities(answers: Tensor) -> bool:
    """Whether all rows are probabilities, of which a softmax would make others."""
    close = (answers.sum(dim=1) - 1).abs() <= TOLERANCE
    return bool((close & (answers >= 0).all(dim=1)).all())


def _ask(model: nn.Module, images: Tensor, seed: int) -> Tensor:
    device = images.device
    with seeded(seed_for(seed, "probe"), device), torch.no_grad():
        return model(images).float()


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two answers differ by no more than rounding; NaN equals NaN."""
    largest = float(torch.nan_to_num(torch.cat([a, b]), 0, 0, 0).abs().amax())
    close = (a - b).abs() <= TOLERANCE * max(largest, 1e-30)
    return bool((close | (a == b) | (a.isnan() & b.isnan())).all())
