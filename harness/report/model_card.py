"""A trained network as a folder that hubs and timm take: weights, configuration, model card.

    model.safetensors   the weights, as `torch.save` never wrote them
    config.json         architecture, arguments and preprocessing, as timm reads it
    README.md           the card: what it is, how it was trained, its numbers, how to load it

The card's numbers are those of this one network, with intervals over images alone.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save

from harness.models.catalog import CATALOG
from harness.models.preprocessing import Preprocessing, preprocessing_of
from harness.present.citations import bibtex_of
from harness.present.markdown import escape, to_markdown
from harness.present.tables import suite_tables
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.arrays import Damaged, read_arrays
from harness.storage.files import write_bytes
from harness.storage.provenance import version
from harness.storage.results import read

if TYPE_CHECKING:
    from harness.running.jobs import Job  # PyTorch

TIMM = "timm/"  # before the names of its architectures
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def export(job: "Job", results: Path, folder: Path, progress: Progress) -> Iterable[Path]:
    """Write a trained network to a folder; yield each file.

    Args:
        job: Of one model, data set and seed, whose weights are there.

    Raises:
        Refusal: The weights are damaged, or the folder holds something else.
    """
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {WEIGHTS, CONFIG, CARD}:
        raise Refusal(f"{folder} holds other files. Give a folder of its own with `--to`.")
    file = job.weights.file or job.weights.path
    try:
        arrays, description = read_arrays(file)
    except Damaged as error:
        raise Refusal(f"{error} Train again, and export then.") from None
    said = preprocessing_of(job.build())
    for name, content in (
        (WEIGHTS, save(arrays, {"format": "pt"})),  # which transformers and timm ask for
        (CONFIG, (json.dumps(_config(job, said), indent=2) + "\n").encode()),
        (CARD, _card(job, said, description.get("recipe", {}), results, progress).encode()),
    ):
        write_bytes(folder / name, content)
        yield folder / name


def _config(job: "Job", said: Preprocessing) -> dict[str, Any]:
    """What timm needs to build the network, and to prepare images in [0, 1] for it."""
    name = job.source.name.partition("(")[0]
    classes, size = len(job.split.classes), job.split.image_size
    arguments = dict(job.source.arguments) | ({} if job.width is None else {"width": job.width})
    channels = 1 if said.gray else 3
    preprocessing: dict[str, Any] = {
        "input_size": [channels, size, size],
        "mean": list(said.mean or [0.0] * channels),
        "std": list(said.std or [1.0] * channels),
    }
    if job.split.framing is not None:
        framing = job.split.framing
        preprocessing |= {"interpolation": framing.interpolation, "crop_pct": framing.crop}
        preprocessing |= {"crop_mode": framing.mode}
    return {
        "architecture": f"diffusify_{name}" if name in CATALOG else name.removeprefix(TIMM),
        "num_classes": classes,
        "label_names": list(job.split.classes),
        "model_args": arguments,
        "pretrained_cfg": preprocessing | {"num_classes": classes, "label_names": None},
    }


def _card(
    job: "Job", said: Preprocessing, recipe: dict[str, Any], results: Path, progress: Progress
) -> str:
    """The model card, with the header that hubs read."""
    name, frame = job.source.name, read(results)
    mine = (frame["model"] == name) & (frame["seed"] == job.seed)
    rows = frame[mine & (frame["dataset"] == job.dataset)]
    header = {
        "library_name": "timm"
        if name.partition("(")[0] in CATALOG or name.startswith(TIMM)
        else "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "robustness", "diffeq-harness"],
        "datasets": [job.dataset],
        "metrics": sorted({"accuracy"} & set(rows["metric"])),
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in header.items()),  # JSON is YAML
        "---",
        f"# {escape(name)} on {escape(job.dataset)}",
        *_what(name.partition("(")[0]),
        f"Trained by `harness` {version()} on the {escape(job.dataset)} training images with seed "
        f"{job.seed}{_width(job)}{_recipe(recipe)}. {_images(job, said)}",
        "## Numbers",
        *_numbers(rows, results, progress),
        "## Use",
        _use(job),
        *_papers(name.partition("(")[0]),
    ]
    return "\n".join(lines[:7]) + "\n\n" + "\n\n".join(lines[7:]) + "\n"


def _images(job: "Job", said: Preprocessing) -> str:
    """How images go in."""
    if job.source.ours and not said:
        return "Images go in as (N, 3, H, W) in [0, 1]; normalization is inside."
    how = said.describe(job.split.framing)
    return f"Images go in as (N, {1 if said.gray else 3}, H, W)" + (f", {how}." if how else ".")


def _what(name: str) -> list[str]:
    if name not in CATALOG:
        return []
    entry = CATALOG[name]
    found = [escape(entry.summary)]
    if entry.equation:
        found.append(f"```\n{entry.equation}\n```")
    if entry.nulls:
        found.append(f"What would explain its gain as well: {escape(', '.join(entry.nulls))}.")
    return found


def _width(job: "Job") -> str:
    return "" if job.width is None else f", width {job.width}"


def _recipe(recipe: dict[str, Any]) -> str:
    if not recipe:
        return ""
    return (
        f", {recipe['epochs']} epochs in batches of {recipe['batch_size']}, learning rate "
        f"{recipe['peak_lr']:g}, weight decay {recipe['weight_decay']:g}"
    )


def _numbers(rows: Any, results: Path, progress: Progress) -> list[str]:
    """The tables of the suites that it was evaluated with."""
    if rows.empty:
        return ["It was not evaluated: `harness run --suite robustness` does that."]
    sheets = [
        sheet
        for suite in rows["suite"].unique()
        for sheet in suite_tables(results, suite, [], [], progress, frame=rows)
    ]
    return [
        to_markdown(*sheets),
        "Intervals are 95 %, over test images: another training gives other numbers.",
    ]


def _use(job: "Job") -> str:
    """How to load it."""
    width = "" if job.width is None else f" --width {job.width}"
    text = (
        f"```sh\nharness run --suite robustness --model '{job.source.name}' --dataset "
        f"{job.dataset} --weights {WEIGHTS}{width}\n```"
    )
    ours = job.source.name.partition("(")[0] in CATALOG
    if ours or job.source.name.startswith(TIMM):
        registers = "from harness.models import in_timm  # registers the name\n" * ours
        load = 'model = timm.create_model("local-dir:FOLDER", pretrained=True)'
        text += f"\n\n```python\nimport timm\n{registers}\n{load}\n```"
    return text


def _papers(name: str) -> list[str]:
    if name not in CATALOG or not CATALOG[name].papers:
        return []
    return ["## Papers", f"```bibtex\n{bibtex_of(name)}\n```"]
