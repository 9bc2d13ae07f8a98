"""What a command asks for, the same for everything in it."""

import os
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from harness.models.preprocessing import NETWORK
from harness.refusal import Refusal
from harness.running.recipes import EPOCHS
from harness.storage.files import refuse_published
from harness.storage.results import CHECKPOINTS, QUICK
from harness.storage.spelling import problem_of_whole
from harness.suites.catalog import SUITES

# Smallest values of numbers.
LEAST = {"batch_size": 1, "limit": 0, "width": 1, "epochs": 1, "image_seed": 0}
DTYPES = ("float32", "bfloat16")
TAKEN_BY = {  # options of some suites
    "corruption": ("robustness", "cifar10_c", "imagenet_c", "attention"),
    "out_of_distribution": ("ood",),
    "attack": ("adversarial",),
    "transfer_from": ("adversarial",),
}


@dataclass(frozen=True)
class Options:
    """How to train and measure, the same for everything in one command.

    Args:
        results: Folder that everything is written below.
        data: Folder of the official files.
        width: Channels of scalable models; None takes that of the weights, or the data set's own.
        epochs: Of training; None takes those of the weights, or of the recipe.
        recipe: Name in `EPOCHS`; None takes that of the weights, or `fast`.
        compile: Whether networks are compiled for training.
        may_train: Whether missing weights are trained.
        own_weights: Whether a builder that gives equal weights for any seed brings its own.
        weights: Files, or folders with one, in place of trained weights; one for each model.
        labels: Which of a network's classes those of the data set are: "imagenet", or a CSV file;
            None where they are the same.
        mapped_only: Whether a network chooses among those classes alone.
        preprocessing: What networks are given of an image, as of `harness.models.preprocessing`;
            "network" for what each says.
        skip_damaged: Whether pictures that cannot be read are left out, and counted.
        limit: How many test images, 0 for all.
        batch_size: Images measured at a time; None takes what suits the device.
        corruptions: Names in place of the suite's own choice.
        metrics: Names of metrics of logits that every suite measures too.
        out_of_distribution: Data sets whose images the suite `ood` tells from the others.
        constants: Set of severity constants; "auto" chooses by the size of the images.
        source: Who makes the corruptions, "harness" or "imagecorruptions".
        attack_source: Who makes the attacks, "harness" or "pyautoattack".
        attack: Norms and radii to attack at, as of `harness.suites.radii.chosen`, in place of all.
        transfer_from: Models whose adversarial images are shown to the others.
        image_seed: Seed of all random draws on test images; training seeds are given by job.
        tensorboard: Folder of scalars of trainings, None for none.
        name: Of the one model, in tables and paths; "" for its own.
        checkpoints: Folder of weights and states of trainings; None for that in the results.
    """

    results: Path
    data: Path
    width: int | None = None
    epochs: int | None = None
    recipe: str | None = None
    compile: bool = False
    may_train: bool = True
    own_weights: bool = True
    weights: tuple[Path, ...] = ()
    labels: str | None = None
    mapped_only: bool = False
    preprocessing: str = NETWORK
    skip_damaged: bool = False
    limit: int = 0
    batch_size: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    corruptions: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    out_of_distribution: tuple[str, ...] = ()
    constants: str = "auto"
    source: str = "harness"
    attack_source: str = "harness"
    attack: tuple[str, ...] = ()
    transfer_from: tuple[str, ...] = ()
    image_seed: int = 0
    tensorboard: Path | None = None
    name: str = ""
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", unicodedata.normalize("NFC", self.name))

    @property
    def root(self) -> Path:
        """Return the folder that tables are written below: that of subsets lies apart."""
        return self.results / QUICK if self.limit else self.results

    @property
    def weights_root(self) -> Path:
        """Return the folder that weights are kept below."""
        return self.checkpoints or self.results / CHECKPOINTS

    def check(self) -> None:
        """Refuse what no command can do.

        Raises:
            Refusal: Says which option.
            Refusal: The results folder cannot be written.
        """
        resolve_device(self.device)
        if self.dtype not in DTYPES:
            raise Refusal(f"There is no dtype `{self.dtype}`. Use {' or '.join(DTYPES)}.")
        if self.recipe is not None and self.recipe not in EPOCHS:
            raise Refusal(f"There is no recipe `{self.recipe}`. Use {' or '.join(EPOCHS)}.")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and (problem := problem_of_whole(value, least)):
                raise Refusal(f"`--{name.replace('_', '-')}` {problem}.")
        if self.mapped_only and self.labels is None:
            raise Refusal("`--mapped-only` needs `--labels imagenet`, or a CSV file of them.")
        if self.tensorboard is not None and find_spec("tensorboard") is None:
            raise Refusal(
                "`--tensorboard` needs TensorBoard, which is not installed. Run `pip install "
                '"diffeq-harness[tensorboard]"`, or leave it out.'
            )
        check_writable(self.results)
        if self.checkpoints is not None:
            check_writable(self.checkpoints, "--checkpoints")


def check_taken(suites: Sequence[str], options: Options) -> None:
    """Refuse an option of some suites where neither one of them nor a user's own is asked for.

    Raises:
        Refusal: Names the option.
    """
    for name, takers in TAKEN_BY.items():
        asked = options.corruptions if name == "corruption" else getattr(options, name)
        if asked and suites and not any(s in takers or s not in SUITES for s in suites):
            option = f"--{name.replace('_', '-')} {asked[0]}"
            raise Refusal(
                f"`{option}` is for the suite `{takers[0]}`. Give `--suite {takers[0]}`, or leave "
                "it out."
            )


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        Refusal: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise Refusal(
            f"The device `{name}` is not available here. Use `--device auto`, or `cpu`."
        ) from None
    return device


def check_writable(folder: Path, option: str = "--results") -> None:
    """Refuse a folder that nothing can be written to; nothing is left behind.

    Args:
        option: Names it.

    Raises:
        Refusal: Says which.
    """
    refuse_published(folder)
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise Refusal(
            f"Nothing can be written to {folder}: {os.strerror(error.errno or 0)}. Choose another "
            f"folder with `{option}`."
        ) from None
