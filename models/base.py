"""What a model is, and the capabilities that a suite may ask for.

A model takes images (N, 3, H, W), float, in [0, 1], any H = W >= 32, and returns logits
(N, num_classes). Whatever else it can do it shows by structure, never by its name: the protocols
below.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

MIN_SIZE = 32  # pixels; four stages of stride 2 leave nothing of a smaller image


@runtime_checkable
class Augmenting(Protocol):
    """A model that changes its training images; the training loop calls it, nobody else."""

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (N, 3, H, W) in [0, 1] for images of the same shape and range.

        Args:
            images: Images on any device.
            generator: Only source of randomness, on the CPU; so the same draws are made on every
                device.
        """
        ...


@dataclass(frozen=True)
class AttentionMap:
    """Attention of one layer.

    Args:
        scores: (N, heads, queries, keys), what an ordinary softmax would be taken of: before any
            diffusion or temperature.
        weights: (N, heads, queries, keys), what multiplies the values; rows sum to one.
        height: Height of the grid of keys, in tokens; keys = height x width.
        width: Width of the grid.
    """

    scores: Tensor
    weights: Tensor
    height: int
    width: int


@runtime_checkable
class Attending(Protocol):
    """A model that attends."""

    def attention_maps(self, images: Tensor) -> Mapping[str, AttentionMap]:
        """Return the attention of each layer by name, for images (N, 3, H, W)."""
        ...


Rule = Callable[[str, Tensor], Tensor]  # a layer's name and its scores to weights of their shape


@runtime_checkable
class Redirectable(Protocol):
    """An attending model whose weights can be replaced."""

    def attend_by(self, rule: Rule | None) -> None:
        """Take the weights of all layers from `rule` until it is None again.

        Args:
            rule: (name of the layer, scores (N, heads, queries, keys)) to weights of the same
                shape, whose rows sum to one; names and scores are those of `attention_maps`.
        """
        ...


@runtime_checkable
class Solving(Protocol):
    """A model that solves a differential equation, by a solver that can be replaced.

    Args:
        solver: One of `harness.models.ops.solvers`.
        nfe: Evaluations of the right-hand side spent on each image of the last call, (N,).
    """

    solver: Any
    nfe: Tensor


@runtime_checkable
class Layered(Protocol):
    """A model whose depth can be looked into."""

    def blocks(self) -> Mapping[str, nn.Module]:
        """Return its blocks in the order of evaluation, each a map of features to features."""
        ...


@runtime_checkable
class Regularized(Protocol):
    """A model with a penalty of its own; the training loop adds it to the loss.

    The penalty stands in place of weight decay, unless the model has an attribute `decayed` that is
    True.
    """

    def regularization(self) -> Tensor:
        """Return the penalty, a scalar."""
        ...


@runtime_checkable
class Constrained(Protocol):
    """A model whose weights are confined; the training loop confines them after every step."""

    def constrain_(self) -> None:
        """Project the weights, in place."""
        ...


@runtime_checkable
class Recalibrated(Protocol):
    """A model whose batch norms are fed otherwise in evaluation than in training."""

    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure its batch statistics as evaluation feeds them; called after training.

        Args:
            batches: Training images (N, 3, H, W) in [0, 1].
        """
        ...


@runtime_checkable
class Stochastic(Protocol):
    """A model that is random in evaluation too; its answer is the mean over draws.

    Calling it gives the noiseless answer. `stochastic` is True for a model that is to be averaged.
    """

    stochastic: bool

    def sample(self, images: Tensor, indices: Tensor, seed: int, draw: int) -> Tensor:
        """Return the logits of one draw.

        Args:
            indices: (N,), int64, the images' positions in their data set; with `seed` and `draw`
                they determine the noise of an image, whatever else is in the batch.
        """
        ...


@runtime_checkable
class Transductive(Protocol):
    """A model whose answer for an image depends on the other images of its batch, by definition.

    Args:
        graph_batch: Number of images, in the order of the data set, that are seen together.
    """

    transductive: bool
    graph_batch: int


@runtime_checkable
class Denoising(Protocol):
    """A model of the distribution of images: the mean of the clean image, given a noisy one.

    Images are scaled to [-1, 1] here; noise of standard deviation sigma is added to them. The
    probability-flow equation is dx/dsigma = (x - denoise(x; sigma)) / sigma (Karras et al. 2022,
    equation 1 with sigma(t) = t). Calling the model classifies by Bayes' rule.

    Args:
        sigma_min: Smallest level of noise that it knows, above 0.
        sigma_max: Largest level; samples start there.
    """

    sigma_min: float
    sigma_max: float

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean of clean images (N, 3, H, W) in [-1, 1].

        Args:
            noisy: (N, 3, H, W), clean images plus `sigma` times standard normal noise.
            sigma: (N,), the level of noise of each image.
            labels: (N,), int64, the class that each image is known to belong to; None where it may
                be any.
        """
        ...


@runtime_checkable
class Fitted(Protocol):
    """A model that keeps its training images instead of learning by gradients.

    Training calls `fit` once, and takes no step. Before that, logits say nothing of the classes.
    """

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Keep what it needs of the training set, in buffers.

        Args:
            images: uint8 (N, 3, H, W), the whole training set.
            labels: (N,), int64.
        """
        ...


@runtime_checkable
class WithOwnLoss(Protocol):
    """A model with a loss of its own in place of cross-entropy of its logits."""

    def training_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss, a scalar.

        Args:
            images: (N, 3, H, W) in [0, 1], augmented as the recipe says.
            labels: (N,), int64.
            generator: Only source of randomness, on the CPU.
        """
        ...


@runtime_checkable
class Averaged(Protocol):
    """A model that is evaluated with an exponential moving average of its weights.

    Args:
        ema: Share of the average that stays at each step, in (0, 1).
    """

    ema: float


def capabilities(model: nn.Module) -> frozenset[str]:
    """Return what a suite may ask of a model beyond logits, or must know of it.

    "solver", "attention", "blocks" and "denoiser" can be asked for; a model whose solver is None,
    or that gives no attention maps, has switched it off. The answers of "stochastic" and
    "transductive" ones are no functions of single images; a "fitted" one has no training to choose,
    and one with a "loss" is not trained by cross-entropy.
    """
    found = {name for name in ("stochastic", "transductive") if getattr(model, name, False)}
    if getattr(model, "solver", None) is not None:
        found.add("solver")
    if isinstance(model, Attending):
        with torch.no_grad():
            if model.attention_maps(torch.zeros(1, 3, MIN_SIZE, MIN_SIZE)):
                found.add("attention")
    if isinstance(model, Layered):
        found.add("blocks")
    if isinstance(model, Denoising):
        found.add("denoiser")
    if isinstance(model, Fitted):
        found.add("fitted")
    if isinstance(model, WithOwnLoss):
        found.add("loss")
    return frozenset(found)


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of images (N, 3, H, W), float, in [0, 1], H = W >= 32.

    Raises:
        ValueError: Says what is wrong, and the cure.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"`images` must have shape (N, 3, H, H); got {tuple(images.shape)}. "
            "Expand gray images to three equal channels, crop to squares."
        )
    if images.shape[2] < MIN_SIZE:
        raise ValueError(
            f"`images` must be at least {MIN_SIZE} pixels wide; got {images.shape[2]}. "
            "Resize them first."
        )
    if not images.is_floating_point():
        raise ValueError(f"`images` must be floating point; got {images.dtype}. Divide by 255.")
    if images.numel():
        low, high = (float(v) for v in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"`images` must lie in [0, 1]; got [{low:.3g}, {high:.3g}]. "
                "Normalization belongs inside the model."
            )
