"""Pictures of one image under every attack, and what was added to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from harness.plots.maps import draw_image, hide_frame
from harness.plots.show import check_index
from harness.plots.style import save, styled
from harness.progress import Progress
from harness.refusal import Refusal, user_input
from harness.running.networks import trained
from harness.running.options import Options, resolve_device
from harness.running.plan import plan
from harness.storage.files import safe
from harness.storage.sources import describe_source
from harness.suites.attacks import ATTACKS
from harness.suites.datasets import as_input

UNITS = {"linf": (1 / 255, " / 255"), "l2": (1.0, "")}  # of `--eps`, and how it is written
NAMES = {
    "fgsm": "FGSM", "pgd": "PGD-20", "apgd_ce": "APGD-CE", "apgd_dlr": "APGD-DLR",
    "apgd_t": "APGD-T", "fab_t": "FAB-T", "square": "Square",
}  # fmt: skip
QUERIES = 1000  # of Square, for one picture
LEAST = {"apgd_dlr": 3, "apgd_t": 4}  # classes
SIDE = 0.95  # inches of an image


@dataclass(frozen=True)
class Found:
    """What an attack made of an image.

    Args:
        image: (3, H, W), in [0, 1].
        size: Of the change, in its norm.
        answer: Class that the network gives it; `share` its probability.
    """

    image: np.ndarray
    size: float
    answer: str
    share: float


@styled
def attack_sheet(
    original: Found,
    attacked: Mapping[str, Found],
    truth: str,
    unit: tuple[float, str],
    heading: str,
) -> Figure:
    """What does each attack add to an image, and what is it then taken for?

    A column an attack; above the images, below what was added, around gray, all on one scale.

    Args:
        original: The image without attack.
        attacked: By the attack's name, one at least.
        truth: The image's class.
        unit: Of sizes: its value, and how it is written behind a number.
        heading: What is seen.
    """
    changes = {name: found.image - original.image for name, found in attacked.items()}
    largest = max(float(np.abs(change).max()) for change in changes.values()) or 1.0
    columns = {"original": original, **attacked}
    width = len(columns) * (SIDE + 0.06) + 0.3
    figure = Figure((width, 2 * SIDE + 1.05), facecolor="white", layout="constrained")
    figure.suptitle(heading, x=0.02, ha="left", fontsize=7.5)
    top, bottom = figure.subplots(2, len(columns), squeeze=False)
    for axis, (name, found) in zip(top, columns.items(), strict=True):
        draw_image(axis, np.round(255 * found.image).astype(np.uint8), name)
        color = "#000000" if found.answer == truth else "#b2182b"
        said = f"{found.answer}, {100 * found.share:.0f} %"
        axis.set_xlabel(said, fontsize=6.5, color=color)
    hide_frame(bottom[0])
    bottom[0].text(
        0.5, 0.5, f"change,\ngray is none,\nup to\n{largest / unit[0]:.3g}{unit[1]} a pixel"
        if unit[1] else f"change,\ngray is none,\nup to {largest:.2g}\na pixel",
        ha="center", va="center", fontsize=6.5, transform=bottom[0].transAxes,
    )  # fmt: skip
    for axis, name in zip(bottom[1:], changes, strict=True):
        axis.imshow(
            np.moveaxis(0.5 + changes[name] / (2 * largest), 0, -1), interpolation="nearest"
        )
        hide_frame(axis)
        axis.set_xlabel(f"size {attacked[name].size / unit[0]:.3g}{unit[1]}", fontsize=6.5)
    figure.set_label(f"{heading}: a column for each attack, below what it added.")
    return figure


def attack_image(
    network: nn.Module, image: Tensor, label: Tensor, index: int, eps: float, norm: str, seed: int
) -> dict[str, Tensor]:
    """Return what each attack makes of an image (1, 3, H, W) in [0, 1], by the attack's name.

    Args:
        label: int64 (1,).
        index: Position of the image in its data set, which keys random draws.
    """
    with torch.no_grad():
        classes = network(image).shape[1]
    found = {}
    for attack, name in NAMES.items():
        if classes >= LEAST.get(attack, 2):
            more: dict[str, Any] = {"queries": QUERIES} if attack == "square" else {}
            found[name] = ATTACKS[attack](
                network, image, label, eps=eps, norm=norm, indices=torch.tensor([index]),
                seed=seed, **more,
            )  # fmt: skip
    return found


def check_size(eps: float, norm: str) -> tuple[float, str]:
    """Return the unit of `eps`.

    Raises:
        Refusal: The norm or eps is none.
    """
    if norm not in UNITS:
        raise Refusal(f"There is no norm `{norm}`. Use {' or '.join(UNITS)}.")
    if not 0 < eps < np.inf:
        raise Refusal(f"`--eps` must be > 0 and finite; got {eps:g}. Give for example 8.")
    return UNITS[norm]


def draw_attack(
    model: str, dataset: str, seed: int, index: int, eps: float, norm: str, options: Options,
    progress: Progress,
) -> Path:  # fmt: skip
    """Write results/figures/attack-MODEL-DATASET-INDEX.png; train the model if need be.

    Args:
        index: Position of the image in the test set.
        eps: In the units of `UNITS`.

    Raises:
        Refusal: There is no such model, data set or image, the norm or eps is none, or the network
            takes the image for something else to begin with.
    """
    unit = check_size(eps, norm)
    (job,) = plan([model], [dataset], [seed], [], options)
    split, dataset = job.split, job.dataset
    check_index(split, dataset, index)
    network, _ = trained(job, options, progress)
    device = resolve_device(options.device)
    network = network.eval().to(device).requires_grad_(False)
    image = as_input(split.images[torch.tensor([index])].to(device))
    label = split.labels[torch.tensor([index])].to(device)
    truth = split.classes[int(label)]

    def seen(x: Tensor) -> Found:
        with torch.no_grad():
            shares = network(x).float().softmax(1)[0]
        change = (x - image).flatten()
        size = float(change.abs().max() if norm == "linf" else change.norm())
        answer = int(shares.argmax())
        return Found(x[0].cpu().numpy(), size, split.classes[answer], float(shares[answer]))

    original = seen(image)
    if original.answer != truth:
        raise Refusal(
            f"`{model}` takes test image {index} of {dataset}, {truth}, for {original.answer} "
            "without any attack. Choose another `--index`."
        )
    with user_input():
        points = attack_image(network, image, label, index, eps * unit[0], norm, options.image_seed)
    name = job.source.name
    heading = f"{name}, seed {seed}: {dataset} test image {index}, {truth}, {norm} {eps:g}{unit[1]}"
    attacked = {attack: seen(x) for attack, x in points.items()}
    figure = attack_sheet(original, attacked, truth, unit, heading)
    path = options.results / "figures" / f"attack-{safe(name)}-{safe(dataset)}-{index}.png"
    weights = job.weights.file or job.weights.path
    files = [weights] if weights.is_relative_to(options.results) else []
    return save(figure, path, describe_source(path.name, options.results, files))
