"""How models are trained: recipes, data alone.

`fast` and `full` are the same for every model: stochastic gradient descent with Nesterov momentum,
a triangular learning rate (from a fifth of the peak up to it over the first fifth of the steps,
then down to 0), weight decay, random crop of a zero-padded image, and a random flip where the data
allow it; the last weights count. After K. Jordan's ResNet-18 recipes,
https://github.com/KellerJordan/ResNet-PyTorch-CIFAR10, without cutout and without test-time
augmentation.

`ruthotto_haber` is that of L. Ruthotto and E. Haber, Deep Neural Networks Motivated by Partial
Differential Equations, 2019, https://arxiv.org/abs/1804.04272, section 5: plain momentum, batches
of 125, a learning rate in stages, crops of images padded by 1/16, a fifth of the training images
held out, and the weights of the best accuracy on them.

`pgd7` is `fast` on adversarial images: of A. Madry et al., Towards Deep Learning Models Resistant
to Adversarial Attacks, ICLR 2018, https://arxiv.org/abs/1706.06083: every image is replaced by the
last of seven steps of the gradient's sign, each a quarter of the radius, from a uniform start in
the ball. Two choices are not theirs (T. Pang et al., Bag of Tricks for Adversarial Training, ICLR
2021, https://arxiv.org/abs/2010.00467, weighs both): the network is in evaluation mode meanwhile,
and the radius rises from 0 to 8/255 over the first half of the steps. Without them, training on the
1,442 images of the digits hardly begins: its loss stays near that of a guess.

`generative` is for models with a loss of their own, such as denoisers: Adam (D. Kingma and J. Ba,
ICLR 2015, https://arxiv.org/abs/1412.6980) with betas 0.9 and 0.999, no weight decay, and images
that are not cropped, since a model of images would learn the crops. Batches are half of those of
`fast`, the learning rate has its shape. On a CPU it computes in float32, since bfloat16 costs the
layers between the convolutions of a U-Net more time than it saves in them.

`untrained` is `fast` without learning: no weight changes, batch statistics become those of the
training images. It takes as many epochs as give 100 steps, after which nothing is left of the
statistics that a network starts with (0.9^100 = 3e-5). What networks show that were not trained
is what a learned effect is compared with.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from harness.suites.datasets import Split

EPOCHS = {
    "fast": 26, "full": 80, "generative": 60, "pgd7": 26, "ruthotto_haber": 100, "untrained": 1,
}  # fmt: skip
ADAM_LR = 2e-3  # highest learning rate of Adam
RADIUS = 8 / 255  # of adversarial training, in the maximum norm
STATISTICS = 100  # steps that batch statistics are measured over where nothing is learned
FEW_CLASSES = ((60, 0.1), (20, 0.02), (20, 0.004))  # epochs, learning rate
MANY_CLASSES = ((60, 0.1), (40, 0.02), (40, 0.004), (40, 0.0008), (20, 0.00016))


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step; the rest of an epoch is left out.
        peak_lr: Highest learning rate; 0 learns nothing.
        momentum: Of Nesterov's method, or Polyak's without `nesterov`; of Adam, the first beta.
        weight_decay: L2 coefficient on all parameters, but of models with a penalty of their own.
        crop_padding: Pixels of zeros on each side, from which a crop of the original size is drawn.
        flip: Whether half of the images are mirrored.
        dtype: Of convolutions and matrix products; parameters and statistics are float32.
        stages: (share of the steps, learning rate), in place of the triangle.
        held_out: Share of the training images that the best epoch is chosen on; 0 takes the last.
        compiled: Whether the network is compiled by torch.compile; rounds otherwise.
        attack_eps: Radius of the adversarial images that it is trained on, of images in [0, 1] in
            the maximum norm; 0 trains on the images.
        attack_rise: Share of the steps over which that radius rises.
        optimizer: "sgd" or "adam".
    """

    epochs: int
    batch_size: int
    peak_lr: float
    momentum: float
    weight_decay: float
    crop_padding: int
    flip: bool
    dtype: str
    nesterov: bool = True
    stages: tuple[tuple[float, float], ...] = ()
    held_out: float = 0.0
    compiled: bool = False
    attack_eps: float = 0.0
    attack_rise: float = 0.0
    optimizer: str = "sgd"

    def described(self) -> dict[str, Any]:
        """Return what determines a training, JSON-able; `Recipe(**found)` is it again.

        Of a model that is fitted without steps, that it takes none.

        Without what came to be after the first networks were trained, where it is not used: so
        their description stays what it was.
        """
        if not self.epochs:
            return {"epochs": 0}
        told = asdict(self)
        if not self.attack_eps:
            del told["attack_eps"], told["attack_rise"]
        if self.optimizer == "sgd":
            del told["optimizer"]
        return told

    def steps_per_epoch(self, count: int) -> int:
        """Return how many batches `count` training images give."""
        return (count - self.held(count)) // self.batch_size

    def held(self, count: int) -> int:
        """Return how many of `count` training images are held out."""
        return round(self.held_out * count)


# Of a model that keeps its training images: nothing of a recipe matters.
FITTED = Recipe(0, 1, 0.0, 0.0, 0.0, 0, False, "float32")


def recipe_for(
    split: Split,
    epochs: int | None,
    device: torch.device,
    name: str | None = None,
    compiled: bool = False,
) -> Recipe:
    """Return the recipe `name` for a training set.

    `fast` and `full` take batches of 1 % of it, between 64 and 500 images; their peak learning rate
    is 0.2 for 500 images and proportional to the batch.

    Args:
        epochs: In place of the recipe's own; its stages shrink with them.
        name: In `EPOCHS`; by default `fast`.
    """
    count = len(split)
    batch_size = min(500, max(64, count // 100), count)
    usual = Recipe(
        epochs=epochs or EPOCHS[name or "fast"],
        batch_size=batch_size,
        peak_lr=0.2 * batch_size / 500,
        momentum=0.9,
        weight_decay=5e-4,
        crop_padding=split.image_size // 8,
        flip=split.flip,
        dtype="bfloat16" if gains_from_bfloat16(device) else "float32",
        compiled=compiled,
    )
    if name == "untrained":
        least = math.ceil(STATISTICS / max(1, usual.steps_per_epoch(count)))
        return replace(usual, epochs=epochs or least, peak_lr=0.0, weight_decay=0.0)
    if name == "pgd7":
        return replace(usual, attack_eps=RADIUS, attack_rise=0.5)
    if name == "generative":
        return replace(
            usual,
            batch_size=max(1, batch_size // 2),
            peak_lr=ADAM_LR,
            weight_decay=0.0,
            crop_padding=0,
            dtype="float32" if device.type == "cpu" else usual.dtype,
            optimizer="adam",
        )
    if name != "ruthotto_haber":
        return usual
    stages = FEW_CLASSES if len(split.classes) <= 10 else MANY_CLASSES
    whole = sum(length for length, _ in stages)
    return replace(
        usual,
        epochs=epochs or whole,
        batch_size=min(125, count - round(0.2 * count)),
        peak_lr=stages[0][1],
        crop_padding=split.image_size // 16,
        nesterov=False,
        stages=tuple((length / whole, rate) for length, rate in stages),
        held_out=0.2,
    )


def describe_recipe(recipe: Mapping[str, Any]) -> str:
    """Return what must agree between two trainings that are compared: "26 epochs"."""
    if is_fitted(recipe):
        return "no steps"
    if is_untrained(recipe):
        return "no learning, by `untrained`"
    by = f" by `{name}`" if (name := _name(recipe)) else ""
    return f"{recipe['epochs']} epoch{'s' * (recipe['epochs'] > 1)}{by}"


def flags(recipe: Mapping[str, Any]) -> str:
    """Return how a training is asked for once more: "--epochs 26"."""
    if is_untrained(recipe):
        return "--recipe untrained"
    by = f" --recipe {name}" if (name := _name(recipe)) else ""
    return f"--epochs {recipe['epochs']}{by}"


def _name(recipe: Mapping[str, Any]) -> str:
    """The name of a recipe that is more than a number of epochs; empty for `fast` and `full`."""
    if recipe.get("attack_eps"):
        return "pgd7"
    if recipe.get("optimizer") == "adam":
        return "generative"
    return "ruthotto_haber" if recipe.get("stages") else ""


def is_fitted(recipe: Mapping[str, Any]) -> bool:
    """Return whether a model was fitted to its training images without steps."""
    return recipe.get("epochs") == 0


def is_untrained(recipe: Mapping[str, Any]) -> bool:
    """Return whether nothing is learned: batch statistics alone are measured."""
    return recipe.get("peak_lr") == 0


def gains_from_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def attack_radius(recipe: Recipe, step: int, steps: int) -> float:
    """Return the radius of the adversarial images of a step, 0 <= step < steps."""
    rise = round(recipe.attack_rise * steps)
    return recipe.attack_eps * min(1.0, (step + 1) / max(1, rise))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step, 0 <= step < steps."""
    if recipe.stages:
        end = 0.0
        for share, rate in recipe.stages:
            end += share * steps
            if step < round(end):
                return rate
        return recipe.stages[-1][1]
    rise = max(1, round(0.2 * steps))
    if step < rise:
        return recipe.peak_lr * (0.2 + 0.8 * step / rise)
    return recipe.peak_lr * (steps - step) / (steps - rise) if steps > rise else recipe.peak_lr
