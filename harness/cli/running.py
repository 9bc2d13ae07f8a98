"""Commands that make results: run, train, data."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, WORKING, app, print_suite, progress_on_stderr, refusals, show
from harness.cli.options import (
    Compile,
    Data,
    Datasets,
    Device,
    Dtype,
    Epochs,
    Models,
    RecipeName,
    Results,
    Seeds,
    Suites,
    Width,
    data_folder,
)


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
    source: Annotated[
        str, typer.Option("--corruption-source", help="harness, or imagecorruptions to compare.")
    ] = "harness",
    constants: Annotated[
        str, typer.Option(help="Severities as of cifar10_c or imagenet_c; auto: by size.")
    ] = "auto",
    limit: Annotated[int, typer.Option(help="Test images, 0 for all; results/quick/.")] = 0,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    compile: Compile = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Images at a time; changes no number \\[the device's own].")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Measure models with suites; write results/DATASET/SUITE/MODEL/seedN.csv and a figure."""
    from harness.plots.figures import draw
    from harness.running.execute import execute
    from harness.running.options import Options
    from harness.running.plan import plan
    from harness.storage.results import QUICK

    options = Options(
        results=results,
        data=data_folder(data),
        width=width,
        epochs=epochs,
        recipe=recipe,
        compile=compile,
        may_train=train,
        weights=weights,
        limit=limit,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        corruptions=tuple(corruptions),
        constants=constants,
        source=source,
    )
    progress = progress_on_stderr()
    with refusals(*CHECKING):
        work = plan(models, datasets, seeds, suites, options)
    with refusals(*WORKING):
        written = []
        for file in execute(work, options, progress):
            written.append(file)
            stored = file.cells - file.measured
            progress.say(f"{file.measured} conditions measured, {stored} were stored.")
    root = results / QUICK if limit else results
    names = [subject.source.name for subject in work]
    shown = list(dict.fromkeys(file.dataset for file in written))
    for suite in dict.fromkeys(suites):
        print_suite(root, suite, list(dict.fromkeys(names)), shown)
    for file in written:
        show(str(file.path))
    for path in draw(root, suites, shown, data_folder(data), names):
        show(str(path))


@app.command()
def train(
    models: Models,
    datasets: Datasets = ["digits"],
    seeds: Seeds = [0],
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    compile: Compile = False,
    device: Device = "auto",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Train models; write results/checkpoints/DATASET/MODEL/seedN.safetensors."""
    from harness.running.execute import trained
    from harness.running.options import Options
    from harness.running.plan import plan

    options = Options(
        results=results,
        data=data_folder(data),
        width=width,
        epochs=epochs,
        recipe=recipe,
        compile=compile,
        device=device,
    )
    progress = progress_on_stderr()
    with refusals(*CHECKING):
        work = plan(models, datasets, seeds, [], options)
    with refusals(*WORKING):
        for subject in work:
            if subject.trained:
                progress.say(f"{subject.label} is trained already.")
            else:
                trained(subject, options, progress)
            show(str(subject.path))


@app.command(name="data")
def fetch_data(
    name: Annotated[str, typer.Argument(help="A data set, cifar10_c or cifar100_c.")],
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Make what can be made of cifar10_c, as published.")
    ] = False,
    data: Data = None,
) -> None:
    """Download the official files of a data set into the data folder, and verify them."""
    from harness.running.fetch import corrupted
    from harness.suites.datasets import fetch, load

    root = data_folder(data)
    with refusals(*CHECKING):
        if name in ("cifar10_c", "cifar100_c"):
            for path in corrupted(name, root, regenerate, show):
                show(str(path))
            return
        if regenerate:
            raise ValueError(f"`--regenerate` is for cifar10_c and cifar100_c, not for `{name}`.")
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
            show(f"{name}: {len(split)} {which} images of {split.image_size} pixels")
