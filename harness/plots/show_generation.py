"""Pictures of samples: by solver and evaluations from the same noise, and on their way there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from harness.models.base import Denoising
from harness.models.ops import samplers
from harness.plots.generation import NAMES
from harness.plots.maps import draw_image, hide_frame
from harness.plots.style import PAGE, save, styled
from harness.progress import Progress
from harness.refusal import Refusal, user_input
from harness.running.evaluate import Evaluated
from harness.running.networks import trained
from harness.running.options import Options, resolve_device
from harness.running.plan import plan
from harness.storage.files import safe
from harness.storage.sources import describe_source
from harness.suites.base import Batch
from harness.suites.datasets import Split, as_input, load
from harness.suites.generation import (
    DENOISER,
    FINE,
    FINE_METHOD,
    FINE_NFE,
    SDE,
    Sampled,
    evaluations,
    generation,
    make_samples,
)
from harness.suites.image_features import nearest_places

SOLVERS = ("euler", "heun", "dpmpp_2m", SDE)
BUDGETS = (5, 7, 10, 20, 40, 80)
SHOWN, ACROSS = 8, 4  # samples in a picture, and in a row of it
STATES = 9  # of a trajectory
ALONG = (("fine solution", FINE_METHOD, FINE_NFE), ("Euler, 9", "euler", 9), ("Heun, 9", "heun", 9),
         ("DPM-Solver++(2M), 9", "dpmpp_2m", 9), ("Euler-Maruyama, 40", SDE, 40))  # fmt: skip


def montage(images: Tensor, across: int = ACROSS) -> np.ndarray:
    """Return images (N, 3, H, W) around [-1, 1] as one uint8 picture (3, h, w), white between."""
    pixels = (images.float().cpu() / 2 + 0.5).clamp(0, 1).mul(255).round().byte().numpy()
    count, _, height, width = pixels.shape
    gap, rows = max(1, height // 16), -(-count // across)
    whole = np.full((3, rows * (height + gap) - gap, across * (width + gap) - gap), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = i // across * (height + gap), i % across * (width + gap)
        whole[:, y : y + height, x : x + width] = image
    return whole


@styled
def sample_sheet(
    above: Mapping[str, np.ndarray], pictures: Mapping[tuple[str, int], np.ndarray],
    captions: Mapping[tuple[str, int], str], heading: str,
) -> Figure:  # fmt: skip
    """What does each solver make of the same noise, for what it costs?

    A row a solver, a column a number of evaluations; each picture has the same places, which are
    the same noise and the same class. On top what they should be, and what they were learned from.

    Args:
        above: Pictures (3, h, w), uint8, by title.
        pictures: The same by solver and budget of evaluations.
        captions: What is said below each of them.
        heading: What is seen.
    """
    solvers = list(dict.fromkeys(solver for solver, _ in pictures))
    budgets = list(dict.fromkeys(budget for _, budget in pictures))
    height, width = next(iter(pictures.values())).shape[1:]
    side = (PAGE - 0.9) / len(budgets) * height / width
    figure = Figure((PAGE, (side + 0.2) * (1 + len(solvers)) + 0.45), facecolor="white",
                    layout="constrained")  # fmt: skip
    figure.suptitle(heading, x=0.01, ha="left", fontsize=7.5)
    axes = figure.subplots(1 + len(solvers), len(budgets), squeeze=False)
    for axis in axes.flat:
        hide_frame(axis)
    for axis, (title, picture) in zip(axes[0], above.items(), strict=False):
        draw_image(axis, picture, title)
    for row, solver in zip(axes[1:], solvers, strict=True):
        for axis, budget in zip(row, budgets, strict=True):
            if (solver, budget) in pictures:
                draw_image(axis, pictures[solver, budget], "")
                axis.set_xlabel(captions[solver, budget], fontsize=6, labelpad=2)
        name = NAMES.get(solver, solver).replace(" (SDE)", "").replace("++(", "++\n(")
        row[0].set_ylabel(name.replace("-M", "-\nM"), fontsize=6.5)
    figure.set_label(f"{heading}: a row a solver, a column a number of evaluations.")
    return figure


@styled
def trajectory_sheet(
    paths: Mapping[str, Sequence[np.ndarray]], levels: Mapping[str, Sequence[float]], heading: str
) -> Figure:
    """How does noise become an image? A row a solver, from the left to the right.

    Args:
        paths: States as pictures (3, h, w), uint8, by the name of the solver.
        levels: The level of noise sigma of each.
        heading: What is seen.
    """
    count = max(map(len, paths.values()))
    side = (PAGE - 1.0) / count
    figure = Figure((PAGE, (side + 0.17) * len(paths) + 0.35), facecolor="white",
                    layout="constrained")  # fmt: skip
    figure.suptitle(heading, x=0.01, ha="left", fontsize=7.5)
    axes = figure.subplots(len(paths), count, squeeze=False)
    for axis in axes.flat:
        hide_frame(axis)
    for row, (name, states) in zip(axes, paths.items(), strict=True):
        for axis, state, level in zip(row, states, levels[name], strict=False):
            draw_image(axis, state, "")
            axis.set_xlabel(f"\u03c3 = {level:.2g}" if level else "image", fontsize=6, labelpad=2)
        row[0].set_ylabel(name.replace(", ", "\nNFE "), fontsize=6.5)
    figure.set_label(f"{heading}: a row a solver, the level of noise falls from left to right.")
    return figure


def chosen(split: Split) -> Tensor:
    """Return the positions of the first test image of each class, of `SHOWN` in all."""
    first = [(split.labels == k).nonzero()[:1, 0] for k in range(len(split.classes))]
    found = torch.cat(first)[:SHOWN]
    others = torch.tensor([i for i in range(len(split)) if i not in set(found.tolist())])
    return torch.cat([found, others[: SHOWN - len(found)].long()])


def solver_pictures(
    subject: Evaluated, batch: Batch, fine: Tensor
) -> tuple[dict[tuple[str, int], np.ndarray], dict[tuple[str, int], str]]:
    """Return the pictures and captions of `sample_sheet`.

    Args:
        fine: (N, 3, H, W), the fine solutions.
    """
    pictures, captions = {}, {}
    for solver in SOLVERS:
        for budget in BUDGETS:
            spent = evaluations(solver, budget)
            made = make_samples(subject, batch, Sampled(solver, spent, method=solver, nfe=spent))
            error = float(((made.images - fine) / 2).flatten(1).square().mean(1).sqrt().mean())
            pictures[solver, budget] = montage(made.images)
            said = "" if solver == SDE else f", error {error:.3f}"
            captions[solver, budget] = f"NFE {spent}{said}"
    return pictures, captions


def trajectories(
    subject: Evaluated, batch: Batch
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[float]]]:
    """Return the states and levels of `trajectory_sheet`, of a batch of one image.

    A state at sigma is shown over sqrt(1 + sigma^2), so that noise and image have one contrast;
    below those of the fine solution stands what the model takes them for, D(x; sigma).
    """
    model: Any = subject.model
    paths, levels = {}, {}
    for name, method, spent in ALONG:
        cell = Sampled(name, spent, method=method, nfe=spent)
        states = make_samples(subject, batch, cell, path=True).path
        grid = samplers.grid(len(states) - 1, float(model.sigma_min), float(model.sigma_max))
        kept = np.linspace(0, len(states) - 1, min(STATES, len(states))).round().astype(int)
        levels[name] = [float(grid[k]) for k in kept]
        some = list(zip((states[k] for k in kept), levels[name], strict=True))
        paths[name] = [montage(x / (1 + level**2) ** 0.5, 1) for x, level in some]
        if method == FINE_METHOD:
            told = "D(x; \u03c3) of these"
            levels[told] = levels[name]
            paths[told] = [
                montage(model.denoise(x, x.new_full((1,), level), batch.labels) if level else x, 1)
                for x, level in some
            ]
    return paths, levels


def draw_generation(
    model: str, dataset: str, seed: int, options: Options, progress: Progress
) -> list[Path]:
    """Write results/figures/samples-MODEL-DATASET.png and trajectories-MODEL-DATASET.png.

    Raises:
        Refusal: There is no such model or data set, or the model makes no images.
    """
    (job,) = plan([model], [dataset], [seed], [], options)
    split, dataset = job.split, job.dataset
    network, _ = trained(job, options, progress)
    if not isinstance(network, Denoising):
        raise Refusal(f"`{model}` makes no images. Samples can be drawn of {DENOISER}")
    device = resolve_device(options.device)
    drawn = generation().draw_seed(options.image_seed, seed)
    subject = Evaluated(network, device, seed=drawn)
    indices = chosen(split)
    batch = Batch(
        as_input(split.images[indices].to(device)), split.labels[indices].to(device), indices
    )
    with user_input():
        half = load(job.spec, train=True, root=options.data, reading=split.reading)
    training = torch.as_tensor(half.images[torch.arange(len(half))]).to(device)
    with torch.no_grad(), progress.task(f"draw {job.label}", 2, "figures") as task:
        cell = Sampled(FINE, FINE_NFE, method=FINE_METHOD, nfe=FINE_NFE)
        fine = make_samples(subject, batch, cell).images
        near = nearest_places((fine / 2 + 0.5).clamp(0, 1), training, 1)[:, 0]
        above = {
            f"{FINE}, NFE {FINE_NFE}": montage(fine),
            "nearest training images": montage(as_input(training[near]) * 2 - 1),
            "test images": montage(batch.images * 2 - 1),
        }
        pictures, captions = solver_pictures(subject, batch, fine)
        task.advance(1)
        paths, levels = trajectories(subject, batch.part(slice(0, 1)))
        task.advance(1)
    name, folder = job.source.name, options.results / "figures"
    of = f"{name}, seed {seed}, {dataset}, image seed {options.image_seed}"
    sheets = {
        "samples": sample_sheet(above, pictures, captions, f"samples of {of}; same noise"),
        "trajectories": trajectory_sheet(
            paths, levels, f"from noise to image, {of}: class {split.classes[int(batch.labels[0])]}"
        ),
    }
    weights = job.weights.file or job.weights.path
    files = [weights] if weights.is_relative_to(options.results) else []
    written = []
    for kind, figure in sheets.items():
        path = folder / f"{kind}-{safe(name)}-{safe(dataset)}.png"
        written.append(save(figure, path, describe_source(path.name, options.results, files)))
    return written
