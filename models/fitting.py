"""What models share that keep their training images: buffers of any size, and levels of noise."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

SIGMA_MIN, SIGMA_MAX = 0.02, 80.0  # of images in [-1, 1]
# Levels that a classifier chooses from: a quarter of an octave apart.
LEVELS = tuple(SIGMA_MIN * 2 ** (i / 4) for i in range(49))  # 0.02 to 82
HELD, MOST = 500, 1 << 25  # images that are held out for it, and distances that are kept


class FittedModule(nn.Module):
    """A model whose buffers have the size of what they are filled with, in training or by a file.

    Args:
        num_classes: Number of classes, C.
        sigma: Level of noise at which it classifies, > 0, for images in [-1, 1]; None chooses the
            one of `LEVELS` under which held-out training images have the smallest cross-entropy.
    """

    sigma_min, sigma_max = SIGMA_MIN, SIGMA_MAX
    level: Tensor
    counts: tuple[int, ...] = ()  # images of each class

    def __init__(self, num_classes: int, sigma: float | None) -> None:
        super().__init__()
        if sigma is not None and not 0 < sigma < torch.inf:
            raise ValueError(f"`sigma` must be > 0; got {sigma}. Leave it out, and it is chosen.")
        self.num_classes, self.sigma = num_classes, sigma
        self.counts = (0,) * num_classes
        self.register_buffer("level", torch.tensor(sigma or 1.0))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace buffers, of which one is `labels`."""
        for name, value in tensors.items():
            setattr(self, name, value.contiguous())
        self._count(tensors["labels"])

    def _count(self, labels: Tensor) -> None:
        self.counts = tuple(torch.bincount(labels, minlength=self.num_classes).tolist())

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            value = state_dict.get(prefix + name)
            if value is not None and value.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if prefix + "labels" in state_dict:
            self._count(state_dict[prefix + "labels"])

    def logits_of(self, evidence: Tensor) -> Tensor:
        """Return log p(c | x), float32, of log p(x, c) (N, C) plus a constant; finite always."""
        return evidence.clamp(min=-1e30).log_softmax(1).float()


def held_out(count: int) -> Tensor:
    """Return which of `count` training images a level is chosen on, bool (count,).

    Spread evenly; at most a fifth of them.
    """
    number = max(1, min(count // 5, HELD, MOST // max(1, count)))
    held = torch.zeros(count, dtype=torch.bool)
    held[torch.arange(number) * count // number] = True
    return held


def choose_level(evidence: Callable[[float], Tensor], labels: Tensor) -> float:
    """Return the one of `LEVELS` at which the mean cross-entropy is smallest, of equals the first.

    Args:
        evidence: Of a level, log p(x, c) (N, C) of held-out images, plus a constant.
        labels: (N,), their classes.
    """
    losses = [float(cross_entropy(evidence(s).clamp(min=-1e30), labels)) for s in LEVELS]
    return LEVELS[losses.index(min(losses))]


def scaled(images: Tensor) -> Tensor:
    """Return images in [0, 1] as images in [-1, 1], float32 at least, outside of autocast."""
    return 2 * images.to(torch.promote_types(images.dtype, torch.float32)) - 1
