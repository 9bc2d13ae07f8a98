"""Images under attack: what a search knows of them, its gradients and its random draws.

A row is a run on an image. Several runs on one image, such as those towards its target classes, may
be rows of one search: they begin with their own draws, and leave together when one is successful.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.models.ops import philox
from harness.suites.attacks.balls import NORMS, Ball, column
from harness.suites.attacks.losses import Loss, at, without

Classifier = Callable[..., Tensor]  # images to logits, or images and indices: see `ask`
OF_ROWS = ("images", "labels", "indices", "clean", "targets", "owners", "runs")


def ask(subject: Classifier, images: Tensor, indices: Tensor) -> Tensor:
    """Return logits (N, K) of images (N, 3, H, W).

    A subject with a true attribute `by_index` is told which image of the data set each row is,
    `subject(images, indices)`; its rows may then depend on that, as random draws do.
    """
    return subject(images, indices) if getattr(subject, "by_index", False) else subject(images)


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether finite logits are largest at the label, the first of equal ones, (N,)."""
    return (logits.argmax(1) == labels) & logits.isfinite().all(1)


def slope_of(value: Tensor, inputs: Tensor, *, keep: bool = False) -> Tensor:
    """Return the gradient of values (N,) at the inputs that each depends on.

    Args:
        keep: Whether the graph is needed once more.
    """
    ones = torch.ones_like(value)
    (gradient,) = torch.autograd.grad(value, inputs, ones, retain_graph=keep)
    return gradient.nan_to_num(nan=0.0)


@dataclass(frozen=True)
class Problem:
    """Images under attack, one row for each.

    Args:
        name: Name of the attack, which keys its random draws.
        subject: Function of images to logits, or of images and indices; see `ask`.
        images, labels, indices: The images, their classes, their positions in the data set.
        ball: Norm and radius.
        seed: Seed of all random draws.
        draws: Number of forward passes that gradients and verdicts take, for a subject that draws
            random numbers itself; 1 for all others.
        clean: Logits of the images, (N, K).
        targets: Class that each image shall be moved to; its label where there is none.
        owners: int64 (N,), which image a row is of.
        runs: int64 (N,), numbers of the rows' runs, which key their random draws.
    """

    name: str
    subject: Classifier
    images: Tensor
    labels: Tensor
    indices: Tensor
    ball: Ball
    seed: int
    draws: int
    clean: Tensor
    targets: Tensor
    owners: Tensor
    runs: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: Tensor) -> "Problem":
        """Return the problem of some images; `rows` are positions, or a mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in OF_ROWS})

    def in_runs(self, numbers: Sequence[int], restarts: int = 1, targets: int = 0) -> "Problem":
        """Return the problem with a row for each image in each run, run after run.

        Args:
            numbers: Of the runs, each target's restarts before the next target.
            restarts: Number of runs of each target.
            targets: Number of targets; 0 for a search without.
        """
        count, device = len(self), self.labels.device
        made = self.part(torch.arange(count, device=device).repeat(len(numbers)))
        runs = torch.tensor(numbers, device=device).repeat_interleave(count)
        made = replace(made, runs=runs)
        return made.towards(runs // restarts) if targets else made

    def towards(self, rank: int | Tensor) -> "Problem":
        """Return the problem with the class of that rank as target, or of each row's rank.

        Rank 0 has the largest logit of the clean image, of all classes but the label.
        """
        others = without(self.clean, self.labels)
        order = others.argsort(dim=1, descending=True, stable=True)
        ranks = torch.as_tensor(rank, device=order.device).expand(len(self))
        return replace(self, targets=at(order, ranks))

    def of_same_images(self, rows: Tensor) -> Tensor:
        """Return which rows are of an image that one of some rows, a mask, is of, (N,)."""
        return torch.isin(self.owners, self.owners[rows])

    def logits(self, points: Tensor) -> Tensor:
        """Return logits in at least float32."""
        out = ask(self.subject, points, self.indices)
        return out.float() if out.dtype in (torch.float16, torch.bfloat16) else out

    def right(self, points: Tensor) -> Tensor:
        """Return which points are classified correctly, in most of fresh random draws, (N,)."""
        votes = torch.zeros_like(self.labels)
        for _ in range(self.draws):
            votes += is_right(self.logits(points), self.labels)
        return 2 * votes > self.draws

    def trace(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs, equal to the points, and logits that autograd connects to them.

        Raises:
            ValueError: The logits do not depend on the images in a way that autograd follows.
        """
        with torch.enable_grad():
            inputs = points.detach().clone().requires_grad_()
            logits = self.logits(inputs)
        if not logits.requires_grad:
            raise ValueError(
                "The logits carry no gradient. Leave out `no_grad` and `detach` in the model, or "
                "attack with `square`, which needs none."
            )
        return inputs, logits

    def ascend(self, points: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the last draw, the loss and its gradient, means over the draws.

        The gradient is right up to a positive factor of each image. Draws whose logits are not
        finite do not count; where none is, the loss is -inf.
        """
        logits, values, weight, total = self._ascend(points, loss)
        counts = (~values.isnan()).to(values.dtype)
        values = values.nan_to_num(nan=0.0)
        for _ in range(1, self.draws):
            logits, value, another, gradient = self._ascend(points, loss)
            # Weights relative to the largest one yet, so that no draw is lost to underflow.
            top = torch.maximum(weight, another)
            total = total * column((weight - top).exp()) + gradient * column((another - top).exp())
            weight, counts = top, counts + ~value.isnan()
            values = values + value.nan_to_num(nan=0.0)
        return logits, torch.where(counts > 0, values / counts, -torch.inf), total

    def _ascend(self, points: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inputs, logits = self.trace(points)
        with torch.enable_grad():
            value, weight = loss(logits, self.labels, self.targets)
        slope = slope_of(value, inputs)
        lightest = torch.finfo(weight.dtype).min / 4  # finite, so that differences are numbers
        weight = torch.where(weight.isnan(), lightest, weight).clamp_min(lightest)
        return logits.detach(), value.detach(), weight, slope

    def uniform(
        self, part: int = 0, parts: int = 1, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """Return numbers uniform in [0, 1), (N, *shape), by default of the shape of the images.

        Args:
            part: Which of the draws of a run, of `parts`.
        """
        return self._drawn(philox.uniform, part, parts, shape).to(self.images.dtype)

    def normal(self, part: int = 0, parts: int = 1) -> Tensor:
        """Return standard normal numbers of the shape of the images; arguments of `uniform`."""
        return self._drawn(philox.normal, part, parts, None).to(self.images.dtype)

    def words(self, part: int, parts: int, shape: tuple[int, ...]) -> Tensor:
        """Return int64 numbers uniform in 0..2^32-1, (N, *shape); arguments of `uniform`."""
        return self._drawn(philox.words, part, parts, shape)

    def _drawn(
        self, draw: Callable[..., Tensor], part: int, parts: int, shape: tuple[int, ...] | None
    ) -> Tensor:
        size = tuple(self.images.shape[1:]) if shape is None else shape
        level = NORMS.index(self.ball.norm)
        found = None
        for number in self.runs.unique().tolist():
            rows = self.runs == number
            keys = self.indices[rows]
            key = (len(keys), *size), self.seed, f"attack:{self.name}", level, keys
            made = draw(*key, number * parts + part)
            found = made.new_empty((len(self), *size)) if found is None else found
            found[rows] = made
        assert found is not None
        return found
