"""Where one model looks on one image: `harness show attention`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from harness.checkpoints import safe
from harness.evaluation import Observed, calibrate
from harness.planning import Options, plan, resolve_device
from harness.plots.attention import overlays
from harness.progress import Teller
from harness.run import trained
from models.base import AttentionMap, capabilities
from suites.attention import attention_maps, versions
from suites.attention import calibrate as temperatures
from suites.datasets import load
from suites.grad_cam import grad_cam

Query = tuple[int, int]


def draw_attention(
    model: str,
    dataset: str,
    seed: int,
    index: int,
    options: Options,
    teller: Teller,
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
    module, _ = trained(subject, options, teller)
    can = capabilities(module.eval())
    if not can & {"attention", "blocks"}:
        raise ValueError(
            f"`{model}` has neither `attention_maps` nor `blocks` for Grad-CAM. Choose a model of "
            "the registry, or give yours one of these."
        )
    device = resolve_device(options.device)
    function = Observed(module, device)
    picture = split.images[index]
    image = picture[None].to(device).float() / 255
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


def attention_of_image(
    picture: Tensor,
    maps: Mapping[str, AttentionMap],
    taus: Mapping[str, Tensor],
    heading: str,
    query: Query | None,
) -> Figure:
    """Draw the heads of each layer and their mean: sharp, used, and their differences."""
    columns: list[str] = []
    rows: dict[str, list[Tensor]] = {"sharp": [], "used": []}
    rows |= {"used less\nsharp": [], "used less\nmatched": []}
    for name, layer in maps.items():
        at = _token(query, layer)
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
        rows["used less\nsharp"] += list(kinds["used"] - kinds["sharp"])
        rows["used less\nmatched"] += list(kinds["used"] - kinds["matched"])
    return overlays([picture] * len(columns), columns, rows, heading)


def _token(query: Query | None, layer: AttentionMap) -> int | None:
    """The query's place among the tokens of a layer."""
    if query is None:
        return None
    h, w = query
    if not (0 <= h < layer.height and 0 <= w < layer.width):
        raise ValueError(
            f"The tokens are 0,0 to {layer.height - 1},{layer.width - 1}; got `--query {h},{w}`."
        )
    return h * layer.width + w
