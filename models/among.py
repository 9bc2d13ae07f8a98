"""A network asked about some of its classes alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Among(nn.Module):
    """A network's logits (N, K) of the classes `index`: what it would say if it had to choose one.

    Args:
        index: Of each class that is kept, 0 <= index < K, in the order of the new logits.
    """

    def __init__(self, net: nn.Module, index: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.index = tuple(index)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net(images)
        return logits[:, torch.tensor(self.index, device=logits.device)]
