"""Options that several commands take, and what stands behind their defaults."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from harness.cli.app import PANELS, print_lines

if TYPE_CHECKING:
    from harness.running.options import Options
    from harness.running.shards import Shard

T = TypeVar("T")


def option(panel: str, help: str, *names: str) -> Any:
    """Return an option that `--help` shows in `panel`."""
    help = help if PANELS else help.replace("\\[", "[")  # no markup, nothing to escape
    return typer.Option(*names, help=help, rich_help_panel=panel)


what = partial(option, "What")
training = partial(option, "Training")
evaluation = partial(option, "Evaluation")
output = partial(option, "Output")


def examples(*commands: str) -> str:
    """Return the last paragraphs of a command's help: what to type."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])


MODEL = "A name, timm/NAME, or path/to/file.py:NAME"
Models = Annotated[list[str], what(f"{MODEL}; repeats.", "--model")]
ModelsOrAll = Annotated[list[str], what(f"{MODEL}; all; repeats.", "--model")]
SUITE = "A name, or path/to/file.py:NAME"
DATASET = "A name, imagefolder:PATH, file.py:NAME, NAME=PATH"
Suites = Annotated[list[str], what(f"{SUITE}; repeats.", "--suite")]
Dataset = Annotated[str, what(f"{DATASET}.")]
Datasets = Annotated[list[str], what(f"{DATASET}; repeats.", "--dataset")]
Seed = Annotated[int, what("Training seed.")]
Seeds = Annotated[list[int], what("Training seed; repeats \\[0, or that of --weights].", "--seed")]
Corruptions = Annotated[
    list[str],
    evaluation("A corruption, a family of them, or file.py:NAME; repeats.", "--corruption"),
]
Metrics = Annotated[
    list[str], evaluation("A metric of logits to add, or file.py:NAME; repeats.", "--metric")
]
OutOfDistribution = Annotated[
    list[str],
    evaluation(
        "Data set whose images suite ood tells from the other's; repeats.", "--out-of-distribution"
    ),
]
Constants = Annotated[
    str, evaluation("Severities as of cifar10_c or imagenet_c; auto: by image size.")
]
ImageSeed = Annotated[int, evaluation("Seed of the random draws on test images.")]
Width = Annotated[int | None, training("Channels; 64: ResNet-18 \\[the data set's default].")]
Epochs = Annotated[int | None, training("Passes over the training set \\[the recipe's default].")]
RecipeName = Annotated[
    str | None,
    training(
        "fast: 26 epochs; full: 80; generative; pgd7; ruthotto_haber; untrained \\[fast].",
        "--recipe",
    ),
]
Compile = Annotated[
    bool, training("Compile networks: for many epochs or seeds on a GPU.", "--compile")
]
TensorBoard = Annotated[
    Path | None, training("Folder to write loss, accuracy, learning rate and speed to.")
]
Limit = Annotated[int, evaluation("Number of test images, 0 for all; written to results/quick/.")]
Attack = Annotated[
    list[str],
    evaluation(
        '"linf 8": AutoAttack at 8/255 alone; linf: that norm alone \\[all]; repeats.', "--attack"
    ),
]
Device = Annotated[str, evaluation("auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, evaluation("float32, or bfloat16 for suites that need logits alone.")]
Data = Annotated[
    Path | None,
    what("Folder of data files \\[HARNESS_DATA, or ~/.cache/harness/data]."),
]
Results = Annotated[Path, output("Folder that everything is written below.")]
DrawnTo = Annotated[
    Path | None, output("Folder to write below \\[that of the results].", "--to", "-o")
]
Checkpoints = Annotated[
    Path | None,
    output("Folder of weights and training states \\[checkpoints, in the results]."),
]
Workers = Annotated[
    str, evaluation("Processes that share the work; auto: one a GPU, or one a CPU core, up to 8.")
]
ShardOf = Annotated[
    str | None,
    evaluation(
        "Do the i-th of n parts of the work, 1/n to n/n \\[of a SLURM array, or RANK].",
        "--shard",
    ),
]
Json = Annotated[bool, output("Print JSON in place of a table.", "--json")]
DryRun = Annotated[
    bool, output("Print what would be done, and about how long; do nothing.", "--dry-run")
]


def _begin_limit(words: str | None) -> str | None:
    """Start the clock of `--time-limit`."""
    if words is not None:
        from harness import stopping

        stopping.limit(seconds_of(words), words)
    return words


def seconds_of(words: str) -> float:
    """Return the seconds of a duration such as "55m", "1h30m" or "90".

    Raises:
        Refusal: It is none.
    """
    import re

    from harness.refusal import Refusal

    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", words.strip())
    seconds = sum(
        int(part or 0) * unit
        for part, unit in zip(found.groups() if found else (), (3600, 60, 1), strict=False)
    )
    if not 0 < seconds <= LONGEST_S:
        raise Refusal(
            f"`--time-limit` must be a time of up to 1000 hours; got {words!r}. Give for example "
            "55m, 90s or 1h30m."
        )
    return seconds


LONGEST_S = 3_600_000
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        help="End by then, as 55m or 1h30m: exit code 75, and the same command goes on.",
        rich_help_panel="Output",
        callback=_begin_limit,
    ),
]


def find_part(words: str | None) -> "Shard":
    """Return the shard that `--shard` or a queue says; say so where it is a queue."""
    from harness.running.shards import find_shard

    shard = find_shard(words)
    print_lines(filter(None, [shard.sentence]), apart=True)
    return shard


def take_part(shard: "Shard", work: "Sequence[T]") -> "list[T]":
    """Return a shard of a list of work; say so where it is nothing."""
    part = shard.of(work)
    if work and not part:
        print_lines([f"There is nothing to do in {shard.label}, of {len(work)} items."], apart=True)
    return part


def make_options(given: Mapping[str, Any]) -> "Options":
    """Return the options among a command's arguments, which have the same names."""
    from dataclasses import fields

    from harness.running.options import Options
    from harness.storage.files import data_folder

    known = {field.name for field in fields(Options)} & given.keys()
    lists = ("corruptions", "metrics", "weights", "out_of_distribution", "attack", "transfer_from")
    several = {name: tuple(given.get(name, ())) for name in lists}
    return Options(
        **{name: given[name] for name in known} | {"data": data_folder(given["data"])} | several
    )
