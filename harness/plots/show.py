"""Pictures of one image: under every corruption, and where a model looks on it."""

from pathlib import Path

import torch

from harness.models.base import capabilities
from harness.plots.attention import Query, attention_of_image, overlays
from harness.plots.sheets import corruption_sheet
from harness.progress import Progress
from harness.running.evaluate import Observed, calibrate
from harness.running.execute import trained
from harness.running.options import Options, resolve_device
from harness.running.plan import plan
from harness.storage.checkpoints import safe
from harness.suites.attention import attention_maps
from harness.suites.attention import calibrate as temperatures
from harness.suites.base import Setting
from harness.suites.corruptions import CORRUPTIONS
from harness.suites.datasets import as_input, load
from harness.suites.grad_cam import grad_cam
from harness.suites.robustness import cells, chosen


def draw_corruptions(
    results: Path, dataset: str, index: int, names: tuple[str, ...], constants: str, root: Path
) -> Path:
    """Write results/figures/corruptions-DATASET-INDEX.png.

    Args:
        index: Position of the image in the test set.
        names: Of corruptions or lists of them; empty for all 19.
        root: The data folder.

    Raises:
        LookupError: There is no such data set or corruption.
        ValueError: There is no such image.
    """
    split = load(dataset, train=False, root=root)
    if not 0 <= index < len(split):
        raise ValueError(f"`{dataset}` has test images 0..{len(split) - 1}; got `--index {index}`.")
    everything = names or tuple(kind.__name__ for kind in CORRUPTIONS)
    kinds = {kind.__name__: place for place, kind in enumerate(CORRUPTIONS)}
    ordered = sorted((kind.__name__ for kind in chosen(everything)), key=kinds.__getitem__)
    setting = Setting(split.image_size, len(split.classes), tuple(ordered), constants=constants)
    image, which = split.images[index : index + 1], torch.tensor([index])
    pictures = {
        (cell.condition, int(cell.level)): cell.prepare(image, which, setting.seed)[0]
        for cell in cells(setting)
        if cell.level
    }
    title = f"{dataset}, test image {index}: {split.classes[int(split.labels[index])]}"
    path = results / "figures" / f"corruptions-{safe(dataset)}-{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    corruption_sheet(pictures, image[0], title).savefig(path, dpi=200)
    return path


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
        ValueError: There is no such image or token, or the model shows nothing.
        LookupError: There is no such model or data set.
    """
    (subject,) = plan([model], [dataset], [seed], [], options)
    split = subject.split
    if not 0 <= index < len(split):
        raise ValueError(f"`{dataset}` has test images 0..{len(split) - 1}; got `--index {index}`.")
    module, _ = trained(subject, options, progress)
    can = capabilities(module.eval())
    if not can & {"attention", "blocks"}:
        raise ValueError(
            f"`{model}` has neither `attention_maps` nor `blocks` for Grad-CAM. Choose a model of "
            "the registry, or give yours one of these."
        )
    device = resolve_device(options.device)
    function = Observed(module, device)
    picture = split.images[index]
    image = as_input(picture[None].to(device))
    with torch.inference_mode():
        predicted = int(function(image).argmax())
    label = split.classes[int(split.labels[index])]
    heading = f"{model}, seed {seed}: {dataset} test image {index}, {label}"
    heading += (
        "" if split.classes[predicted] == label else f", taken for {split.classes[predicted]}"
    )
    if "attention" in can:
        training = load(dataset, train=True, root=options.data)
        calibrate(temperatures, function, training, device)
        with torch.inference_mode():
            maps = attention_maps(function, image)
        heading += ", mean over queries" if query is None else f", query {query[0]},{query[1]}"
        figure = attention_of_image(picture, maps, function.calibration, heading, query)
    else:
        if query is not None:
            raise ValueError(
                f"`{model}` has no attention, so that there is no query. Leave out `--query`."
            )
        classes = torch.tensor([predicted], device=device)
        cams, _ = grad_cam(function, module.blocks(), image, classes)  # type: ignore[operator]
        row = {f"Grad-CAM for\n{split.classes[predicted]}": [m[0].cpu() for m in cams.values()]}
        titles = [f"{name} grid" for name in cams]
        figure = overlays([picture] * len(cams), titles, row, heading)
    name = f"attention-{safe(model)}-{safe(dataset)}-{index}.png"
    path = options.results / "figures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    return path
