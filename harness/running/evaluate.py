"""One model under one condition: what is observed of every image, in batches, on a device."""

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.folding import fold
from harness.models.fusing import fuse
from harness.running.ahead import Ahead, batches_kept, in_turn
from harness.running.behavior import declared
from harness.running.shared_images import Shared
from harness.suites.base import (
    Arrays,
    Batch,
    Cell,
    Measurement,
    Subject,
    Suite,
    Tensors,
    Where,
    unchanged,
)
from harness.suites.datasets import Split, as_input
from harness.suites.nfe_metrics import STOPPED
from harness.suites.observe import check_finite

PROTOCOL = 2  # raised by every change of what any suite observes; a part of a cell's key
DRAWS = 8  # of a model that is random in evaluation
CALIBRATION = 1000  # training images, spread evenly
FIRST = 32  # images on which a folded network must answer as before
ROUNDING = {"float32": 1e-3, "bfloat16": 0.1}  # of the largest logit
REMEMBERED = 2**30  # bytes kept of the clean images between conditions


def spread_evenly(count: int, limit: int) -> Tensor:
    """Return the positions of `limit` images spread evenly over `count`, or of all for 0."""
    if limit == 0 or limit >= count:
        return torch.arange(count)
    return torch.arange(limit) * count // limit


def batch_size_for(device: torch.device, image_size: int) -> int:
    """Return the default batch size, which does not affect results.

    On a CPU few, whose maps stay in the cache: at 32 pixels and width 16 a hundred were faster than
    500; and fewer of large images, of which a hundred of 224 pixels take a gigabyte. On a GPU many,
    so that starting its kernels takes no time: a thousand of 32 pixels.
    """
    if device.type == "cpu":
        return min(100, max(8, 2**21 // image_size**2))
    return min(2000, max(50, 2**20 // image_size**2))


def batch_size_of(suite: Suite, device: torch.device, image_size: int) -> int:
    """Return the default batch size of a suite."""
    size = batch_size_for(device, image_size)
    return suite.batches * size if device.type == "cpu" else size


def dtype_for(suite: Suite, dtype: str) -> str:
    """Return the type of arithmetic of `suite` where `dtype` is asked for."""
    return "float32" if suite.inside or suite.gradients else dtype


@dataclass(frozen=True)
class Evaluated:
    """A model in evaluation mode, with arithmetic in `dtype`; a `harness.suites.base.Subject`.

    A stochastic model gives the logarithm of its mean probabilities over `DRAWS` draws, keyed by
    the images' positions.
    """

    model: nn.Module
    device: torch.device
    dtype: str = "float32"
    seed: int = 0
    calibration: Tensors = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.eval().to(self.device).to(memory_format=torch.channels_last)
        if self.device.type == "cuda" and self.dtype == "float32":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    def arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        """Return autocast to bfloat16, or nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits (N, num_classes), float32."""
        model: Any = self.model
        with self.arithmetic():
            if not getattr(model, "stochastic", False):
                return model(batch.images).float()
            draws = [
                model.sample(batch.images, batch.indices, self.seed, draw)
                .float()
                .log_softmax(dim=1)
                for draw in range(DRAWS)
            ]
        return torch.stack(draws).logsumexp(dim=0) - math.log(DRAWS)


def calibrated(
    subject: Evaluated, find: Callable[[Subject, Tensor], Tensors], training: Split
) -> Evaluated:
    """Return the subject with what a suite finds of it beforehand, from training images."""
    with torch.no_grad():
        images = training.images[spread_evenly(len(training), CALIBRATION)].to(subject.device)
        return replace(subject, calibration=find(subject, as_input(images)))


@contextlib.contextmanager
def folding(suite: Suite, subject: Evaluated, split: Split, *, ours: bool) -> Iterator[int]:
    """Make a model of ours fast for one suite: fold its batch norms, where nothing looks at them.

    Gives the number of norms. A network of draws is asked by another way than its forward pass, and
    one that compares images jumps between near neighbors by rounding: these stay as they are. So
    does every model of others: what happens in its forward pass, only it knows. A network that
    answers otherwise on the first images is evaluated unfolded.

    On a CUDA device what folding leaves behind, a bias for every norm, costs more than it saves,
    unless it can be fused with its convolution: in bfloat16, in basic blocks.
    """
    model, cuda = subject.model, subject.device.type == "cuda"
    if not ours or suite.inside or declared(model).words or (cuda and subject.dtype == "float32"):
        yield 0
        return
    images = as_input(split.images[:FIRST].to(subject.device))
    with torch.no_grad(), subject.arithmetic():
        before = model(images).float()
    with contextlib.ExitStack() as stack:
        count = stack.enter_context(fold(model, images[:8]))
        if cuda and not stack.enter_context(fuse(model)):
            stack.close()
            count = 0
        with torch.no_grad(), subject.arithmetic():
            after = model(images).float()
        largest = float(before.abs().amax())
        if not float((after - before).abs().amax()) <= ROUNDING[subject.dtype] * largest:
            stack.close()
            count = 0
        yield count


class Memory:
    """What a suite remembers of clean images, batch by batch, as far as it fits."""

    def __init__(self, suite: Suite, subject: Evaluated) -> None:
        self._suite, self._subject = suite, subject
        self._kept: dict[tuple[int, int], Tensors] = {}
        self._left = REMEMBERED

    def of(self, batch: Batch) -> Tensors:
        """Return what the suite, which must remember something, does of a batch of clean images."""
        assert self._suite.remember is not None
        key = int(batch.indices[0]), len(batch)
        if key not in self._kept:
            found = self._suite.remember(self._subject, batch)
            size = sum(t.numel() * t.element_size() for t in found.values())
            if size > self._left:
                return found
            self._left -= size
            self._kept[key] = found
        return self._kept[key]


def stopped_early(model: nn.Module, count: int) -> Tensor | None:
    """Return whether a solver stopped before the end, by image of the last call, (N,), uint8.

    None for a model without adaptive solver.
    """
    told = [getattr(part, "spent", None) for part in model.modules()]
    found = [spent for spent in told if isinstance(spent, Tensor) and spent.shape == (count,)]
    return torch.stack(found).any(dim=0).to(torch.uint8) if found else None


def forget_stopped(model: nn.Module) -> None:
    """Forget what solvers said of the last call, so that it is of none before."""
    for part in model.modules():
        if isinstance(spent := vars(part).get("spent"), Tensor):
            vars(part)["spent"] = spent[:0]


def measured(suite: Suite, cell: Cell, arrays: Arrays) -> list[Measurement]:
    """Return what a suite measures of stored arrays, and how many solutions are unfinished."""
    rows = list(suite.measure(cell, arrays))
    stopped = arrays.get(STOPPED.name)
    if stopped is not None and not any(row.metric == STOPPED.name for row in rows):
        rows.append(cell.row(STOPPED, float(stopped.mean()), len(stopped)))
    return rows


def observe(suite: Suite, cell: Cell, subject: Evaluated, split: Split, **how: Any) -> Arrays:
    """Return what `suite` observes of `subject` under `cell`, one row an image.

    The arguments and errors are those of `observe_stepwise`.
    """
    steps = observe_stepwise(suite, cell, subject, split, **how)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def observe_stepwise(
    suite: Suite,
    cell: Cell,
    subject: Evaluated,
    split: Split,
    *,
    batch_size: int,
    limit: int = 0,
    memory: Memory | None = None,
    earlier: Mapping[Where, Arrays] = {},
    shared: Shared | None = None,
    advance: Callable[[int], None] = lambda n: None,
    ahead: Ahead = Ahead(),  # noqa: B008  frozen
) -> Generator[None, None, Arrays]:
    """Observe `subject` under `cell` batch by batch, so that others can have each batch in between.

    Args:
        split: On any device.
        limit: Number of images, 0 for all.
        memory: Of this suite and subject, to share among its cells.
        earlier: What was observed of the same images under the conditions of the cell's `after`.
        shared: Who makes the images, for all subjects that are observed in step.
        advance: Called with the number of images after each batch.
        ahead: What may be done ahead of its turn, as of `ahead_of`.

    Returns:
        `indices` and `labels` (N,), and the suite's own arrays, ordered by name as they are stored:
        rows of results must not tell whether they were measured or read.

    Raises:
        FloatingPointError: The model gave something that is not a number.
    """
    indices, split = spread_evenly(len(split), limit), split.to(subject.device)
    memory, shared = memory or Memory(suite, subject), shared or Shared(split, batches_kept())
    told = {
        where: {name: torch.tensor(found) for name, found in earlier[where].items()}
        for where in cell.after
    }
    # Which images a transductive model sees together is part of what it is.
    parts = indices.split(getattr(subject.model, "graph_batch", batch_size))
    size = len(parts[0])

    def look(number: int) -> Tensors:
        part = parts[number]
        rows = slice(number * size, number * size + len(part))
        before = {
            at: {name: found[rows].to(subject.device) for name, found in arrays.items()}
            for at, arrays in told.items()
        }
        with torch.no_grad():  # not inference mode, which a model that differentiates cannot leave
            images, labels = shared.batch(cell, parts, number, subject.seed)
            remembered = None
            if cell.prepare is not unchanged and suite.remember is not None:
                clean = as_input(split.images[part.to(subject.device)])
                remembered = memory.of(Batch(clean, labels, part))
            batch = Batch(as_input(images), labels, part, remembered, before, told)
            forget_stopped(subject.model)
            found = dict(suite.observe(subject, batch, cell))
            stopped = stopped_early(subject.model, len(part))
        return found if stopped is None else found | {STOPPED.name: stopped}

    def make(number: int) -> object:
        return shared.batch(cell, parts, number, subject.seed)

    taken: list[Tensors] = []
    with contextlib.closing(in_turn(cell, len(parts), make, look, ahead)) as looks:
        for part, found in zip(parts, looks, strict=True):
            taken.append(found)
            advance(len(part))
            yield
    whole = {k: torch.cat([t[k] for t in taken]).cpu() for k in taken[0]}
    whole |= {"indices": indices, "labels": split.labels.cpu()[indices]}
    arrays = {name: whole[name].numpy() for name in sorted(whole)}
    if "logits" in arrays:
        check_finite(arrays, cell)
    return arrays
