"""Classifiers trained on images diffused by random amounts, and their null model.

    pde_aug            u_t = div(g(|grad u|) grad u),  g(s) = 1 / (1 + s^2 / kappa^2),  u(0) = image
    gaussian_blur_aug  u_t = Laplacian(u):  the same without g, hence a Gaussian of variance 2 t

In training, each image is replaced with probability 1/2 by u(t), t = num_steps dt with dt = 0.2 and
num_steps uniform in 1..20; kappa is log-uniform in 0.02..0.2, in units of intensity on [0, 1]. In
evaluation nothing is done to the images. The null model takes the same draws, so that it blurs the
same images for the same times: what it gains is not due to the edges that g keeps.

Reference: P. Perona and J. Malik, Scale-space and edge detection using anisotropic diffusion, IEEE
TPAMI 12(7), 1990; as augmentation: S. Mishra et al., Learning visual representations for transfer
learning by suppressing texture, https://arxiv.org/abs/2011.01901. Deviations: probability, steps
and kappa are ours, neither source gives them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.base import MODELS, card
from models.ops import heat, perona_malik
from models.papers import DIFFUSIFYNET, MISHRA_2020, PERONA_MALIK
from models.resnet import resnet18

DT = 0.2  # pixel^2 a step; the explicit scheme is stable up to 1/4


@dataclass(frozen=True)
class Draws:
    """Which images of a batch are diffused, and how; on the CPU.

    `indices` (M,), sorted by falling number of steps; `num_steps` and `kappa` (M,) beside it.
    """

    indices: Tensor
    num_steps: list[int]
    kappa: Tensor


def draw(
    count: int,
    generator: torch.Generator,
    *,
    probability: float,
    max_steps: int,
    kappa: tuple[float, float],
) -> Draws:
    """Draw the diffusion of `count` images; the same three numbers for each, used or not."""
    chosen = torch.rand(count, generator=generator) < probability
    num_steps = torch.randint(1, max_steps + 1, (count,), generator=generator)
    low, high = (math.log(k) for k in kappa)
    scale = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    order = num_steps.argsort(descending=True, stable=True)
    indices = order[chosen[order]]
    return Draws(indices, num_steps[indices].tolist(), scale[indices])


class DiffusionAugmented(nn.Module):
    """A backbone, images (N, 3, H, W) to logits, that is trained on diffused images.

    Explicit Euler with dt = 0.2 and no flux through the border, one g from the gradient norm over
    all channels: stable, since dt <= 1/4 and g <= 1, and within the range of the image.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        edges: bool,
        probability: float = 0.5,
        max_steps: int = 20,
        kappa: tuple[float, float] = (0.02, 0.2),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.edges = edges
        self.probability = probability
        self.max_steps = max_steps
        self.kappa = kappa

    @torch.no_grad()
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Diffuse a random half of `images` (N, 3, H, W) in [0, 1] for random times."""
        draws = draw(
            len(images),
            generator,
            probability=self.probability,
            max_steps=self.max_steps,
            kappa=self.kappa,
        )
        indices = draws.indices.to(images.device, non_blocking=True)
        kappa = draws.kappa.to(images.device, images.dtype, non_blocking=True)
        u = images[indices].contiguous()
        # Sorted by falling number of steps, the images still to be diffused are a prefix.
        done = 0
        for num_steps in sorted(set(draws.num_steps)):
            left = sum(n >= num_steps for n in draws.num_steps)
            steps = num_steps - done
            if self.edges:
                u[:left] = perona_malik(u[:left], dt=DT, num_steps=steps, kappa=kappa[:left])
            else:
                u[:left] = heat(u[:left], dt=DT, num_steps=steps)
            done = num_steps
        augmented = images.clone()
        augmented[indices] = u.clamp(0, 1)  # round-off may leave [0, 1] by one unit
        return augmented

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)


@MODELS.register
@card(
    "touchpoint",
    "u_t = div(g(|grad u|) grad u) on training images",
    (DIFFUSIFYNET, PERONA_MALIK, MISHRA_2020),
    ("gaussian_blur_aug",),
)
def pde_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """ResNet-18 trained with Perona-Malik diffusion of its images."""
    return DiffusionAugmented(resnet18(num_classes, width), edges=True)


@MODELS.register
@card("null", "u_t = Laplacian(u) on training images")
def gaussian_blur_aug(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `pde_aug`: ResNet-18 trained with isotropic blur of matched strength."""
    return DiffusionAugmented(resnet18(num_classes, width), edges=False)
