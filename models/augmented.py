"""A classifier behind a change of its training images.

training: logits = f(augment(images)),   evaluation: logits = f(images)
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # images in [0, 1] to the same shape


class Augmented(nn.Module):
    """A backbone, images (N, 3, H, W) to logits, that is trained on changed images."""

    def __init__(self, backbone: nn.Module, augmentation: Augmentation) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.augmentation = augmentation

    @torch.no_grad()
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change `images` (N, 3, H, W) in [0, 1] at random, into such images."""
        return self.augmentation(images, generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def blocks(self) -> Mapping[str, nn.Module]:
        """Return the blocks of the backbone."""
        return self.backbone.blocks()
