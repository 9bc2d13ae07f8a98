"""Commands that make results: run, train, data."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app, print_lines, print_sheets, progress_on_stderr
from harness.cli.options import (
    EVALUATION,
    TRAINING,
    WHAT,
    Compile,
    Constants,
    Corruptions,
    Data,
    Datasets,
    Device,
    DryRun,
    Dtype,
    Epochs,
    ImageSeed,
    Json,
    Limit,
    Models,
    RecipeName,
    Results,
    Seeds,
    Suites,
    Width,
    examples,
    make_options,
    option,
)

Weights = Annotated[Path | None, option(WHAT, "A safetensors file of weights.")]
MayTrain = Annotated[bool, option(TRAINING, "Train what has no weights yet.", "--train/--no-train")]
Source = Annotated[
    str, option(EVALUATION, "harness, or imagecorruptions to compare.", "--corruption-source")
]
BatchSize = Annotated[
    int | None,
    option(EVALUATION, "Batch size; does not affect results \\[the device's default]."),
]


@app.command(
    epilog=examples(
        "harness run --suite robustness --model pde_aug --model resnet18",
        "harness run --suite clean --model mine.py:net --weights mine.safetensors",
        "harness run --suite nfe --model ode_block --dataset cifar10 --seed 0 --seed 1 --dry-run",
    )
)
def run(
    context: typer.Context,
    suites: Suites,
    models: Models,
    datasets: Datasets = ["digits"],
    seeds: Seeds = [],
    weights: Weights = None,
    data: Data = None,
    may_train: MayTrain = True,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    compile: Compile = False,
    limit: Limit = 0,
    image_seed: ImageSeed = 0,
    corruptions: Corruptions = [],
    constants: Constants = "auto",
    source: Source = "harness",
    batch_size: BatchSize = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    dry_run: DryRun = False,
    json: Json = False,
    results: Results = Path("results"),
) -> None:
    """Evaluate models with suites; write results/DATASET/SUITE/MODEL/seedN.csv and a figure."""
    given = locals()
    from harness.plots.figures import draw
    from harness.present.forecast import forecast_sheet
    from harness.present.tables import suite_tables
    from harness.running.execute import execute
    from harness.running.forecast import forecast
    from harness.running.plan import plan

    options, progress = make_options(given), progress_on_stderr(context)
    jobs = plan(models, datasets, seeds, suites, options)
    if dry_run:
        print_sheets([forecast_sheet(forecast(jobs, options))], json)
        return
    written = []
    for file in execute(jobs, options, progress):
        written.append(file)
        stored = file.cells - file.measured
        progress.say(f"{file.measured} conditions measured, {stored} were stored.")
    root, names = options.root, list(dict.fromkeys(job.source.name for job in jobs))
    sets = list(dict.fromkeys(file.dataset for file in written))
    own = {one.name: one.suite for job in jobs for one in job.evaluations}
    tables = [
        table
        for name, suite in own.items()
        for table in suite_tables(root, name, names, sets, progress, table=suite.table)
    ]
    print_sheets(tables, json)
    drawers = {name: suite.figure for name, suite in own.items() if suite.figure}
    figures = draw(root, list(own), sets, options.data, names, figures=drawers)
    print_lines([*(file.path for file in written), *figures], apart=json)


@app.command(epilog=examples("harness train --model pde_aug --dataset cifar10 --seed 0 --seed 1"))
def train(
    context: typer.Context,
    models: Models,
    datasets: Datasets = ["digits"],
    seeds: Seeds = [],
    data: Data = None,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    compile: Compile = False,
    device: Device = "auto",
    results: Results = Path("results"),
) -> None:
    """Train models; write results/checkpoints/DATASET/MODEL/seedN.safetensors."""
    given = locals()
    from harness.running.execute import trained
    from harness.running.plan import plan

    options, progress = make_options(given), progress_on_stderr(context)
    for job in plan(models, datasets, seeds, [], options):
        if job.trained:
            progress.say(f"{job.label} is trained already.")
        else:
            trained(job, options, progress)
        print_lines([job.path])


@app.command(
    name="data", epilog=examples("harness data cifar10", "harness data cifar10_c --regenerate")
)
def fetch_data(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data set, cifar10_c or cifar100_c.")],
    regenerate: Annotated[
        bool,
        option(WHAT, "Make what can be made of cifar10_c, as published.", "--regenerate"),
    ] = False,
    data: Data = None,
) -> None:
    """Download the official files of a data set into the data folder, and verify them."""
    from harness.running.fetch import fetch_files
    from harness.storage.files import data_folder

    tell = progress_on_stderr(context).say
    print_lines(fetch_files(name, data_folder(data), regenerate, tell))
