"""Pictures of one image: under every corruption, and where a model looks on it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from harness.models.base import AttentionMap, capabilities
from harness.plots.maps import LESS, overlays
from harness.plots.sheets import corruption_sheet
from harness.plots.style import save
from harness.progress import Progress
from harness.refusal import Refusal, user_input
from harness.running.evaluate import Evaluated, calibrated
from harness.running.networks import trained
from harness.running.options import Options, resolve_device
from harness.running.plan import plan
from harness.storage.files import safe
from harness.storage.sources import describe_source
from harness.storage.spelling import problem_of_whole
from harness.suites.attention import attention_maps, saliency_maps, versions
from harness.suites.attention import calibrate as find_temperatures
from harness.suites.base import Batch, Setting
from harness.suites.catalog import CORRUPTIONS
from harness.suites.datasets import Split, adopt_dataset, as_input, load
from harness.suites.robustness import cells, select_corruptions

Query = tuple[int, int]  # row and column of a token


def check_index(split: Split, dataset: str, index: int) -> None:
    """Refuse an image that is not there."""
    if not 0 <= index < len(split):
        raise Refusal(f"`{dataset}` has test images 0..{len(split) - 1}; got `--index {index}`.")


def draw_corruptions(
    results: Path,
    dataset: str,
    index: int,
    names: tuple[str, ...],
    constants: str,
    root: Path,
    image_seed: int = 0,
) -> Path:
    """Write results/figures/corruptions-DATASET-INDEX.png.

    Args:
        index: Position of the image in the test set.
        names: Corruptions or lists of them; empty for all.
        root: The data folder.
        image_seed: Seed of the random draws.

    Raises:
        Refusal: There is no such data set, image or corruption.
    """
    if problem := problem_of_whole(image_seed, 0):
        raise Refusal(f"`--image-seed` {problem}.")
    with user_input():
        dataset = adopt_dataset(dataset)
        split = load(dataset, train=False, root=root)
        check_index(split, dataset, index)
        kinds = {kind.__name__ for kind in select_corruptions(names or tuple(CORRUPTIONS))}
        in_order = tuple(name for name in CORRUPTIONS if name in kinds)
        size, classes = split.image_size, len(split.classes)
        setting = Setting(size, classes, in_order, seed=image_seed, constants=constants)
        corrupted = [cell for cell in cells(setting) if cell.level]
    image, which = split.images[index : index + 1], torch.tensor([index])
    pictures = {
        (cell.condition, int(cell.level)): cell.prepare(image, which, setting.seed)[0].numpy()
        for cell in corrupted
    }
    title = f"{dataset}, test image {index}: {split.classes[int(split.labels[index])]}"
    path = results / "figures" / f"corruptions-{safe(dataset)}-{index}.png"
    source = describe_source(path.name, results, [])  # nothing was measured
    return save(corruption_sheet(pictures, image[0].numpy(), title), path, source)


def draw_attention(
    model: str,
    dataset: str,
    seed: int,
    index: int,
    options: Options,
    progress: Progress,
    query: Query | None = None,
) -> Path:
    """Write results/figures/attention-MODEL-DATASET-INDEX.png; train the model if need be.

    Args:
        index: Position of the image in the test set.
        query: Row and column of a token, whose rows are drawn; by default the mean over all.

    Raises:
        Refusal: There is no such model, data set, image or token, or the model shows nothing.
    """
    (job,) = plan([model], [dataset], [seed], [], options)
    split, dataset = job.split, job.dataset
    check_index(split, dataset, index)
    module, _ = trained(job, options, progress)
    can = capabilities(module.eval())
    if not can & {"attention", "blocks"}:
        raise Refusal(
            f"`{model}` has neither `attention_maps` nor `blocks` for Grad-CAM. Choose a model of "
            "the registry, or give yours one of these."
        )
    subject = Evaluated(module, resolve_device(options.device))
    which = torch.tensor([index])
    images = as_input(split.images[which].to(subject.device))
    batch = Batch(images, split.labels[which].to(subject.device), which)
    with torch.inference_mode():
        predicted = int(subject(batch).argmax())
    label, name = split.classes[int(split.labels[index])], job.source.name
    heading = f"{name}, seed {seed}: {dataset} test image {index}, {label}"
    if split.classes[predicted] != label:
        heading += f", taken for {split.classes[predicted]}"
    picture = split.images[index].numpy()
    if "attention" in can:
        with user_input():
            training = load(dataset, train=True, root=options.data)
        subject = calibrated(subject, find_temperatures, training)
        with torch.inference_mode():
            maps = attention_maps(subject, images)
        heading += ", mean over queries" if query is None else f", query {query[0]},{query[1]}"
        figure = attention_of_image(picture, maps, subject.calibration, heading, query)
    elif query is not None:
        raise Refusal(
            f"`{model}` has no attention, so that there is no query. Leave out `--query`."
        )
    else:
        cams, _ = saliency_maps(subject, batch, torch.tensor([predicted], device=subject.device))
        row = {f"Grad-CAM for\n{split.classes[predicted]}": [m[0].cpu() for m in cams.values()]}
        figure = overlays([picture] * len(cams), [f"{grid} grid" for grid in cams], row, heading)
    path = options.results / "figures" / f"attention-{safe(name)}-{safe(dataset)}-{index}.png"
    weights = job.weights.file or job.weights.path
    files = [weights] if weights.is_relative_to(options.results) else []
    return save(figure, path, describe_source(path.name, options.results, files))


def attention_of_image(
    picture: np.ndarray,
    maps: Mapping[str, AttentionMap],
    taus: Mapping[str, Tensor],
    heading: str,
    query: Query | None,
) -> Figure:
    """Draw the heads of each layer and their mean: sharp, used, and their differences."""
    columns: list[str] = []
    rows: dict[str, list[Tensor]] = {"sharp": [], "used": []}
    rows |= {f"{LESS}sharp": [], f"{LESS}matched": []}
    for name, layer in maps.items():
        at = find_token(query, layer)
        kinds = {}
        for kind, a in versions(layer, taus[name].to(layer.scores.device)).items():
            one = a[0].mean(dim=1) if at is None else a[0, :, at]
            one = torch.cat((one, one.mean(dim=0, keepdim=True))).cpu()
            kinds[kind] = one.view(-1, layer.height, layer.width)
        heads = layer.scores.shape[1]
        place = f"{name}, " if len(maps) > 1 else ""
        columns += [f"{place}head {h}" for h in range(heads)] + [f"{place}mean"]
        rows["sharp"] += list(kinds["sharp"])
        rows["used"] += list(kinds["used"])
        for other in ("sharp", "matched"):
            rows[f"{LESS}{other}"] += list(kinds["used"] - kinds[other])
    return overlays([picture] * len(columns), columns, rows, heading)


def find_token(query: Query | None, layer: AttentionMap) -> int | None:
    """Return the query's place among the tokens of a layer."""
    if query is None:
        return None
    h, w = query
    if not (0 <= h < layer.height and 0 <= w < layer.width):
        raise Refusal(
            f"The tokens are 0,0 to {layer.height - 1},{layer.width - 1}; got `--query {h},{w}`."
        )
    return h * layer.width + w
