"""The commands; parses, calls, prints."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Models = Annotated[
    list[str], typer.Option("--model", help="A name, timm/NAME, or path/to/file.py:NAME; repeats.")
]
Suites = Annotated[list[str], typer.Option("--suite", help="The question to ask; repeats.")]
Datasets = Annotated[
    list[str], typer.Option("--dataset", help="A name, or imagefolder:PATH; repeats.")
]
Seeds = Annotated[list[int], typer.Option("--seed", help="Training seed; repeats.")]
Results = Annotated[Path, typer.Option(help="Folder that everything is written below.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of data files [HARNESS_DATA, ~/.cache/harness/data].")
]
Width = Annotated[int | None, typer.Option(help="Channels; 64 is ResNet-18 [the data set's own].")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training set [the recipe's].")]
RecipeName = Annotated[str, typer.Option("--recipe", help="fast: 26 epochs; full: 80 epochs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


class Interrupted(Exception):
    """A person pressed Ctrl-C."""


@contextlib.contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into one line on stderr and exit code 2; Ctrl-C into 130."""
    try:
        yield
    except kinds as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(
            str(error).strip("'\""), markup=False, highlight=False
        )
        # Bad arguments and files are misuse; a failure while working is a failure.
        raise typer.Exit(2 if LookupError in kinds else 1) from None
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nInterrupted. What was finished is kept; the same command goes on from there.\n"
        )
        raise typer.Exit(130) from None


CHECKING = (LookupError, ValueError, FileNotFoundError, PermissionError, ImportError, SyntaxError)
WORKING = (FloatingPointError, OSError)


def data_folder(data: Path | None) -> Path:
    """Return `--data`, else HARNESS_DATA, else ~/.cache/harness/data."""
    return data or Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache/harness/data")


@app.command()
def run(
    suites: Suites,
    models: Models,
    datasets: Datasets = ["digits"],
    seeds: Seeds = [0],
    train: Annotated[bool, typer.Option(help="Train what has no weights yet.")] = True,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file of weights.")] = None,
    corruptions: Annotated[
        list[str], typer.Option("--corruption", help="In place of the suite's own; repeats.")
    ] = [],
    limit: Annotated[int, typer.Option(help="Test images, 0 for all; results/quick/.")] = 0,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = "fast",
    batch_size: Annotated[int, typer.Option(help="Images at a time; changes no number.")] = 500,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Measure models with suites; write results/DATASET/SUITE/MODEL/seedN.csv and a figure."""
    from harness.figures import draw
    from harness.planning import Options, plan
    from harness.results import QUICK
    from harness.run import execute

    options = Options(
        results=results,
        data=data_folder(data),
        width=width,
        epochs=epochs,
        recipe=recipe,
        may_train=train,
        weights=weights,
        limit=limit,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        corruptions=tuple(corruptions),
    )
    teller = _teller()
    with refusals(*CHECKING):
        work = plan(models, datasets, seeds, suites, options)
    with refusals(*WORKING):
        written = []
        for file in execute(work, options, teller):
            written.append(file)
            stored = file.cells - file.measured
            teller.say(f"{file.measured} conditions measured, {stored} were stored.")
    root = results / QUICK if limit else results
    names = [subject.source.name for subject in work]
    for suite in dict.fromkeys(suites):
        _print_suite(root, suite, list(dict.fromkeys(names)), list(dict.fromkeys(datasets)))
    for file in written:
        _print(str(file.path))
    for path in draw(root, suites, datasets):
        _print(str(path))


@app.command()
def train(
    models: Models,
    datasets: Datasets = ["digits"],
    seeds: Seeds = [0],
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = "fast",
    device: Device = "auto",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Train models; write results/checkpoints/DATASET/MODEL/seedN.safetensors."""
    from harness.planning import Options, plan
    from harness.run import trained

    options = Options(
        results=results,
        data=data_folder(data),
        width=width,
        epochs=epochs,
        recipe=recipe,
        device=device,
    )
    teller = _teller()
    with refusals(*CHECKING):
        work = plan(models, datasets, seeds, [], options)
    with refusals(*WORKING):
        for subject in work:
            if subject.trained:
                teller.say(f"{subject.label} is trained already.")
            else:
                trained(subject, options, teller)
            _print(str(subject.path))


@app.command()
def table(
    suites: Suites = [],
    datasets: Datasets = [],
    models: Models = [],
    results: Results = Path("results"),
) -> None:
    """Print accuracy by corruption and severity, and its means, from what is in the results."""
    from harness.results import chosen

    with refusals(*CHECKING):
        frame = chosen(results, suites, datasets, models)
    for suite in frame["suite"].unique():
        here = frame[frame["suite"] == suite]
        names, sets = list(here["model"].unique()), list(here["dataset"].unique())
        _print_suite(results, suite, names, sets, detail=True)


@app.command()
def plot(
    suites: Suites = [],
    datasets: Datasets = [],
    results: Results = Path("results"),
) -> None:
    """Draw severity curves; write results/figures/DATASET-SUITE.png."""
    from harness.figures import draw
    from harness.results import chosen

    with refusals(*CHECKING):
        frame = chosen(results, suites, datasets, [])
        paths = draw(results, list(frame["suite"].unique()), list(frame["dataset"].unique()))
        if not paths:
            raise LookupError(
                f"There is nothing to draw in {results}. Run `harness run --suite robustness "
                "--model pde_aug`."
            )
    for path in paths:
        _print(str(path))


@app.command(name="data")
def fetch_data(
    name: Annotated[str, typer.Argument(help="A data set.")],
    data: Data = None,
) -> None:
    """Download the official files of a data set into the data folder, and verify them."""
    from suites.datasets import fetch, load

    root = data_folder(data)
    with refusals(*CHECKING):
        try:
            fetch(name, root)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"The files of `{name}` cannot be fetched: {error}. Fetch them on another machine, "
                f"and copy them to {root}."
            ) from None
        for half in (True, False):
            split = load(name, train=half, root=root)
            which = "training" if half else "test"
            _print(f"{name}: {len(split)} {which} images of {split.image_size} pixels")


listing = typer.Typer(no_args_is_help=True, help="List what there is, by name.")
app.add_typer(listing, name="list")


@listing.command(name="models")
def list_models() -> None:
    """List the models that are built in."""
    import models  # noqa: F401  fills the registry
    from models.base import MODELS

    _print_names(MODELS)
    _print("Also timm/NAME for any model of timm, and path/to/file.py:NAME for your own.")


@listing.command(name="suites")
def list_suites() -> None:
    """List the suites."""
    import suites  # noqa: F401  fills the registry
    from suites.base import SUITES

    _print_names(SUITES)


@listing.command(name="datasets")
def list_datasets() -> None:
    """List the data sets."""
    from suites.datasets import DATASETS

    _print_names(DATASETS)
    _print("Also imagefolder:PATH for your own images, one folder a class.")


@listing.command(name="corruptions")
def list_corruptions() -> None:
    """List the corruptions."""
    from suites.corruptions import CORRUPTIONS

    _print_names({kind.__name__: kind for kind in CORRUPTIONS})


def _print_names(entries) -> None:  # type: ignore[no-untyped-def]
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in entries:
        table.add_row(name, (entries[name].__doc__ or "").strip().splitlines()[0])
    _print(table)


def _print(content) -> None:  # type: ignore[no-untyped-def]
    from rich.console import Console

    console = Console()
    width = None if console.is_terminal else 200  # a pipe has no width to fit
    Console(width=width, soft_wrap=isinstance(content, str)).print(
        content, markup=False, highlight=False
    )


def _teller():  # type: ignore[no-untyped-def]
    from rich.console import Console

    from harness.progress import Teller

    return Teller(Console(stderr=True))


def _print_suite(
    results: Path, suite: str, models: list[str], datasets: list[str], detail: bool = False
) -> None:
    from harness.tables import of_suite

    for line in of_suite(results, suite, models, datasets, detail):
        _print(line)


def main() -> None:
    """Run the command line."""
    # Threads that spin while they wait are many times slower where other programs use the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
