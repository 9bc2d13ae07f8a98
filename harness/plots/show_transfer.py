"""Do adversarial images of one network break another? A matrix over networks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from harness.plots.show_attack import check_size
from harness.plots.style import save, styled
from harness.progress import Progress
from harness.refusal import Refusal
from harness.running.evaluate import spread_evenly
from harness.running.jobs import Job
from harness.running.networks import trained
from harness.running.options import Options, resolve_device
from harness.running.plan import plan
from harness.storage.files import safe
from harness.storage.sources import describe_source
from harness.suites.attacks.checks import transferred
from harness.suites.attacks.ensembles import right
from harness.suites.datasets import as_input

ITERATIONS = 50  # of APGD-CE, all of them: the first point that is misclassified hardly transfers
AT_A_TIME = 100  # images
CELL = 0.62  # inches


@styled
def transfer_matrix(shares: np.ndarray, names: Sequence[str], heading: str) -> Figure:
    """What share of images is right after an attack on another network?

    Args:
        shares: (M, M), of the images that both networks classify correctly: row, the network that
            images were made on; column, the one that they are shown to. NaN where there are none.
        names: Of the networks.
        heading: What is seen.
    """
    count = len(names)
    side = CELL * count
    figure = Figure((side + 2.6, side + 1.9), facecolor="white", layout="constrained")
    figure.suptitle(heading, x=0.02, ha="left", fontsize=7.5)
    axis = figure.subplots()
    axis.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100)
    for row, column in np.ndindex(shares.shape):
        value = shares[row, column]
        text = "–" if np.isnan(value) else f"{100 * value:.0f}"
        color = "#000000" if value > 0.6 else "#ffffff"
        weight = "bold" if row == column else "normal"
        axis.text(column, row, text, ha="center", va="center", color=color, weight=weight)
    axis.set_xticks(range(count), names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(count), names)
    axis.set(xlabel="shown to", ylabel="made on")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.set_label(f"{heading}: right after the attack, %; the diagonal is attacked itself.")
    return figure


def transfers(
    networks: Sequence[nn.Module], images: Tensor, labels: Tensor, indices: Tensor, *, eps: float,
    norm: str, seed: int, progress: Progress,
) -> np.ndarray:  # fmt: skip
    """Return the shares of `transfer_matrix`.

    Args:
        images: (N, 3, H, W), in [0, 1]; `indices` their positions in the data set.
    """
    count = len(networks)
    right_after, both = np.zeros((count, count)), np.zeros((count, count))
    total = count * len(labels)
    with progress.task("attacks", total, "images") as task:
        for rows in torch.arange(len(labels)).split(AT_A_TIME):
            x, y, where = images[rows], labels[rows], indices[rows]
            clean = [right(network, x, y) for network in networks]
            for i, source in enumerate(networks):
                for j, target in enumerate(networks):
                    kept = clean[i] & clean[j]
                    both[i, j] += float(kept.sum())
                    if kept.any():
                        after = transferred(
                            target, source, x[kept], y[kept], eps=eps, norm=norm,
                            indices=where[kept.cpu()], seed=seed, iterations=ITERATIONS,
                        )  # fmt: skip
                        right_after[i, j] += float(after.sum())
                task.advance(len(rows))
    return np.divide(right_after, both, out=np.full_like(both, np.nan), where=both > 0)


def draw_transfer(
    models: Sequence[str], dataset: str, seed: int, eps: float, norm: str, options: Options,
    progress: Progress,
) -> Path:  # fmt: skip
    """Write results/figures/transfer-DATASET.png; train the models if need be.

    Args:
        eps: In the units of `show_attack.UNITS`.

    Raises:
        Refusal: There is no such model or data set, the norm or eps is none, or there are fewer
            than two models.
    """
    unit = check_size(eps, norm)
    if len(models) < 2:
        raise Refusal(f"A matrix needs two models; got {len(models)}. Repeat `--model`.")
    jobs = plan(models, [dataset], [seed], [], options)
    device = resolve_device(options.device)
    networks = [_ready(job, options, progress).to(device) for job in jobs]
    split, dataset = jobs[0].split, jobs[0].dataset
    indices = spread_evenly(len(split), options.limit)
    images, labels = as_input(split.images[indices].to(device)), split.labels[indices].to(device)
    shares = transfers(
        networks, images, labels, indices, eps=eps * unit[0], norm=norm, seed=options.image_seed,
        progress=progress,
    )  # fmt: skip
    names = [job.source.name for job in jobs]
    heading = f"right after APGD-CE, %: {dataset}, {len(labels)} images, {norm} {eps:g}{unit[1]}"
    path = options.results / "figures" / f"transfer-{safe(dataset)}.png"
    weights = [job.weights.file or job.weights.path for job in jobs]
    files = [one for one in weights if one.is_relative_to(options.results)]
    source = describe_source(path.name, options.results, files)
    return save(transfer_matrix(shares, names, heading), path, source)


def _ready(job: Job, options: Options, progress: Progress) -> nn.Module:
    network, _ = trained(job, options, progress)
    return network.eval().requires_grad_(False)
