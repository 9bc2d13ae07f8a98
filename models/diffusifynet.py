"""ResNet-18 with differential equations at all four touchpoints, each of which can be replaced.

    images          u_t = div(g(|grad u|) grad u)                pde_aug, in training
    features        u_t = kappa_c Laplacian(u)                   pde_layer
    attention       alpha = softmax(D Q K^T / sqrt(d))           pde_attention
    last block      z_t = f(t, z)                                ode_block

in the order stem - stages 1 to 3 - layer - attention - first block of stage 4 - ODE block - head.
Discretizations and limits are those of the four models. Every touchpoint can be switched off, or
replaced by the null that would explain its gain: the 2^4 grid of on and off is `GRID`. With
everything off it is ResNet-18 with a plain slot in stage 4, weight for weight. What stands at a
touchpoint has one name in all networks of the grid (`layer3.layer`, `layer3.2`, `layer4.1`), for
attention and block that of the model that has it alone: networks of one seed share its initial
values.

Reference: When Physics Teaches Vision (DiffusifyNet), 2026, https://diffusify.in. Deviations: the
page fixes the order CNN - PDE layer - attention - ODE block - pooling and nothing else; see the
files of the touchpoints.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.augmented import Augmentation
from harness.models.augmix import augmix
from harness.models.base import AttentionMap, Rule
from harness.models.cards import MODELS, card
from harness.models.matched_aug import as_strong, matched_blur
from harness.models.ode_block import ODEBlock
from harness.models.ops.solvers import Solver, solver
from harness.models.papers import DIFFUSIFYNET
from harness.models.pde_attention import (
    Attention,
    PDEAttention,
    TemperatureAttention,
    maps_of,
    redirect,
)
from harness.models.pde_aug import Smoothed, bilateral, blur, diffuse, median
from harness.models.pde_layer import (
    START,
    STEPS,
    AnisotropicLayer,
    DepthwiseConvLayer,
    DepthwiseHeatLayer,
    GaussianBlurLayer,
    PDELayer,
)
from harness.models.registry import unknown
from harness.models.resnet import SmallImageResNet
from harness.models.slots import EulerSlot, bound
from harness.models.tied_blocks import Autonomous, TiedBlock, UntiedBlock

OFF = "off"
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "pde_layer": PDELayer,
    "pde_layer_aniso": AnisotropicLayer,
    "gaussian_blur_layer": lambda c: GaussianBlurLayer(c, (2 * STEPS * START) ** 0.5, True),
    "pde_layer_frozen": lambda c: PDELayer(c, learned=False),
    "depthwise_heat_layer": DepthwiseHeatLayer,
    "depthwise_conv_layer": DepthwiseConvLayer,
}
ATTENTIONS: dict[str, Callable[[int], Attention]] = {
    "pde_attention": PDEAttention,
    "plain_attention": Attention,
    "temperature_attention": TemperatureAttention,
}
AUGMENTATIONS: dict[str, Augmentation] = {
    "pde_aug": Smoothed(diffuse),
    "gaussian_blur_aug": Smoothed(blur),
    "matched_blur_aug": Smoothed(matched_blur),
    "matched_median_aug": Smoothed(as_strong(median)),
    "matched_bilateral_aug": Smoothed(as_strong(bilateral)),
    "augmix_like_aug": augmix,
}
BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "ode_block": lambda c: ODEBlock(c, solver("rk4", num_steps=2)),
    "one_step": lambda c: ODEBlock(c, solver("euler", num_steps=1)),
    "tied_steps": lambda c: ODEBlock(c, solver("euler", num_steps=8)),
    "untied_resnet": lambda c: UntiedBlock(c, 8),
    "tied_resnet": lambda c: TiedBlock(Autonomous(c), 8, 1.0),
    "resnet18_slot4": EulerSlot,
}
TOUCHPOINTS: dict[str, dict[str, Any]] = {
    "layer": LAYERS,
    "attention": ATTENTIONS,
    "augmentation": AUGMENTATIONS,
    "block": BLOCKS,
}
GRID = tuple(  # arguments of the 16 combinations of on and off
    {
        touchpoint: next(iter(choices)) if on else OFF
        for (touchpoint, choices), on in zip(TOUCHPOINTS.items(), switches, strict=True)
    }
    for switches in product((False, True), repeat=4)
)


class DiffusifyNet(SmallImageResNet):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes).

    What is off cannot be done: then there are no attention maps, the solver is None, and augmented
    images are the images.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        *,
        layer: Callable[[int], nn.Module] | None,
        attention: Callable[[int], nn.Module] | None,
        augmentation: Augmentation | None,
        block: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(num_classes, width)
        self.augmentation = augmentation
        stage4: Any = self.net.layer4
        stage4[1] = block(8 * width)
        bound(self, width)
        stage3: Any = self.net.layer3
        for name, touchpoint in (("layer", layer), ("2", attention)):
            if touchpoint is not None:
                stage3.add_module(name, touchpoint(4 * width))

    @torch.no_grad()
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change training images (N, 3, H, W) in [0, 1] at random."""
        return images if self.augmentation is None else self.augmentation(images, generator)

    def attention_maps(self, images: Tensor) -> dict[str, AttentionMap]:
        """Return the attention of its block, if there is one."""
        return maps_of(self, images)

    def attend_by(self, rule: Rule | None) -> None:
        """Take the weights of attention from `rule`, until it is None again."""
        redirect(self, rule)

    @property
    def solver(self) -> Solver | None:
        block = self.net.get_submodule("layer4.1")
        return block.solver if isinstance(block, ODEBlock) else None

    @solver.setter
    def solver(self, solver: Solver) -> None:
        block = self.net.get_submodule("layer4.1")
        if not isinstance(block, ODEBlock):
            raise ValueError("There is no ODE block to solve. Build it with `block='ode_block'`.")
        block.solver = solver

    @property
    def nfe(self) -> Tensor | None:
        """Evaluations spent on each image of the last call, (N,); None without an ODE block."""
        block = self.net.get_submodule("layer4.1")
        return block.nfe if isinstance(block, ODEBlock) else None


def pick(touchpoint: str, name: str) -> Any:
    """Return what stands at a touchpoint, None for "off"."""
    if name == OFF:
        return None
    choices = TOUCHPOINTS[touchpoint]
    if name not in choices:
        raise unknown(f"{touchpoint} of `diffusifynet`", name, [*choices, OFF])
    return choices[name]


@MODELS.register
@card(
    "touchpoint",
    "diffusion of images, features and attention, and z_t = f(t, z)",
    (DIFFUSIFYNET,),
    ("diffusifynet_nulls", "resnet18_slot4"),
)
def diffusifynet(
    num_classes: int = 10,
    width: int = 64,
    layer: str = "pde_layer",
    attention: str = "pde_attention",
    augmentation: str = "pde_aug",
    block: str = "ode_block",
) -> nn.Module:
    """All four touchpoints; without attention it has 2 % fewer weights, and 8 evaluations or 1.

    The 2^4 grid: each of the four arguments as it is, or "off"; as a model's name for instance

        diffusifynet                                              all on
        diffusifynet(layer='off')                                 the layer left out
        diffusifynet(attention='off', block='off', layer='off')   augmentation alone
        diffusifynet(attention='off', augmentation='off', block='off', layer='off')

    The last one is `resnet18_slot4`. `diffusifynet_nulls` has the null of each touchpoint; one
    null alone is `diffusifynet(layer='gaussian_blur_layer')`, `attention='plain_attention'`,
    `augmentation='matched_blur_aug'` or `block='one_step'`.

    Args:
        layer: "pde_layer", "pde_layer_aniso", one of their nulls, or "off".
        attention: "pde_attention", one of its nulls, or "off".
        augmentation: "pde_aug", one of its nulls, or "off".
        block: "ode_block"; its f in one Euler step, "one_step", or in eight of 1/8, "tied_steps";
            "untied_resnet", "tied_resnet", or "off" for the plain slot.
    """
    return DiffusifyNet(
        num_classes,
        width,
        layer=pick("layer", layer),
        attention=pick("attention", attention),
        augmentation=pick("augmentation", augmentation),
        block=pick("block", block) or EulerSlot,
    )


@MODELS.register
@card("null", "blur, plain attention and one step of f in place of four equations")
def diffusifynet_nulls(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `diffusifynet`: at every touchpoint its null; 1 evaluation of the block."""
    return diffusifynet(
        num_classes,
        width,
        "gaussian_blur_layer",
        "plain_attention",
        "matched_blur_aug",
        "one_step",
    )
