"""Commands that make results: run, train, data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines, print_sheets, progress_on_stderr

if TYPE_CHECKING:
    from harness.progress import Progress
    from harness.running.jobs import Job
    from harness.running.one_run import Written
    from harness.running.options import Options

Weights = Annotated[
    list[Path],
    opt.what("Weights: .safetensors, .pth, or a folder; repeats, one a model.", "--weights"),
]
Labels = Annotated[
    str | None, opt.what("Folders as classes of the network: imagenet, or a CSV folder,index.")
]
Preprocessing = Annotated[
    str,
    opt.what(
        "What networks are given of an image: network, as each says; none; imagenet; or "
        '"size=224 crop=0.875 mean=0.5 std=0.5 gray".'
    ),
]
SkipDamaged = Annotated[
    bool, opt.what("Leave out pictures that cannot be read, and count them.", "--skip-damaged")
]
MappedOnly = Annotated[
    bool, opt.evaluation("Let the network choose among these classes alone.", "--mapped-only")
]
Name = Annotated[str, opt.what("Name of the model in tables and paths \\[its own].")]
MayTrain = Annotated[
    bool | None,
    opt.training(
        "Train what has no weights yet \\[all but builders that bring their own].",
        "--train/--no-train",
    ),
]
Source = Annotated[
    str,
    opt.evaluation("harness, or imagecorruptions to compare.", "--corruption-source"),
]
AttackSource = Annotated[
    str,
    opt.evaluation("harness, or pyautoattack to compare.", "--attack-source"),
]
TransferFrom = Annotated[
    list[str],
    opt.evaluation("Show it the adversarial images of this model too; repeats.", "--transfer-from"),
]
BatchSize = Annotated[
    int | None,
    opt.evaluation("Batch size; does not affect results \\[the device's default]."),
]


@app.command(
    epilog=opt.examples(
        "harness run --suite robustness --model pde_aug --model resnet18",
        "harness run --suite clean --model mine.py:net --weights mine.safetensors",
        "harness run --suite robustness --suite stability --model all --dry-run",
        "harness run --suite nfe --model ode_block --dataset cifar10 --seed 0 --seed 1 --dry-run",
    )
)
def run(
    context: typer.Context,
    suites: opt.Suites,
    models: opt.ModelsOrAll,
    datasets: opt.Datasets = ["digits"],
    seeds: opt.Seeds = [],
    weights: Weights = [],
    labels: Labels = None,
    preprocessing: Preprocessing = "network",
    skip_damaged: SkipDamaged = False,
    name: Name = "",
    data: opt.Data = None,
    training: MayTrain = None,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    compile: opt.Compile = False,
    tensorboard: opt.TensorBoard = None,
    limit: opt.Limit = 0,
    mapped_only: MappedOnly = False,
    image_seed: opt.ImageSeed = 0,
    corruptions: opt.Corruptions = [],
    metrics: opt.Metrics = [],
    out_of_distribution: opt.OutOfDistribution = [],
    constants: opt.Constants = "auto",
    source: Source = "harness",
    attack_source: AttackSource = "harness",
    attack: opt.Attack = [],
    transfer_from: TransferFrom = [],
    batch_size: BatchSize = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
    workers: opt.Workers = "1",
    shard: opt.ShardOf = None,
    time_limit: opt.TimeLimit = None,
) -> None:
    """Evaluate models with suites; write results/DATASET/SUITE/MODEL/seedN.csv and a figure."""
    given = locals() | {"may_train": training is not False, "own_weights": training is not True}
    from harness.present.forecast import forecast_sheet
    from harness.running.all_models import plan_all
    from harness.running.forecast import forecast
    from harness.running.items import evaluate
    from harness.running.workers import number_of_workers

    part, count = opt.find_part(shard), number_of_workers(workers, device)
    options, progress = opt.make_options(given), progress_on_stderr(context)
    all_jobs, items, left_out = plan_all(models, datasets, seeds, suites, options, progress)
    print_lines(left_out, apart=True)
    jobs = opt.take_part(part, all_jobs)
    if dry_run:
        print_sheets([forecast_sheet(forecast(jobs, options))], json)
        return
    written, failure = evaluate(part.of(items), jobs, options, count, progress)
    if written:
        print_results(written, jobs, options, progress, json)
    if failure is not None:
        raise failure


def print_results(
    written: "Sequence[Written]",
    jobs: "Sequence[Job]",
    options: "Options",
    progress: "Progress",
    json: bool,
) -> None:
    """Print the tables of what was evaluated, draw its figures, name all files."""
    from harness.plots.figures import draw
    from harness.present.tables import suite_tables
    from harness.refusal import Refusal

    root, names = options.root, list(dict.fromkeys(file.model for file in written))
    sets = list(dict.fromkeys(file.dataset for file in written))
    own = {one.name: one.suite for job in jobs for one in job.evaluations}
    tables = [
        table
        for name, suite in own.items()
        for table in suite_tables(root, name, names, sets, progress, table=suite.table)
    ]
    print_sheets(tables, json)
    drawers = {name: suite.figure for name, suite in own.items() if suite.figure}
    try:
        figures: list[object] = [*draw(root, list(own), sets, options.data, names, figures=drawers)]
    except Refusal as refusal:  # of a training's history, say: the numbers are there all the same
        figures = [refusal]
    print_lines([*(file.path for file in written), *figures], apart=json)


@app.command(
    epilog=opt.examples("harness train --model pde_aug --dataset cifar10 --seed 0 --seed 1")
)
def train(
    context: typer.Context,
    models: opt.ModelsOrAll,
    datasets: opt.Datasets = ["digits"],
    seeds: opt.Seeds = [],
    preprocessing: Preprocessing = "network",
    skip_damaged: SkipDamaged = False,
    name: Name = "",
    data: opt.Data = None,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    compile: opt.Compile = False,
    tensorboard: opt.TensorBoard = None,
    device: opt.Device = "auto",
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
    workers: opt.Workers = "1",
    shard: opt.ShardOf = None,
    time_limit: opt.TimeLimit = None,
) -> None:
    """Train models; write results/checkpoints/DATASET/MODEL/seedN.safetensors."""
    given = locals()
    from harness.running import items as work
    from harness.running.all_models import plan_all
    from harness.running.workers import number_of_workers

    part, count = opt.find_part(shard), number_of_workers(workers, device)
    options, progress = opt.make_options(given), progress_on_stderr(context)
    all_jobs, items, left_out = plan_all(models, datasets, seeds, [], options, progress)
    print_lines(left_out, apart=True)
    jobs = opt.take_part(part, all_jobs)
    failure = work.train(
        part.of(items), jobs, options, count, progress, lambda path: print_lines([path])
    )
    if failure is not None:
        raise failure


@app.command(
    name="data", epilog=opt.examples("harness data cifar10", "harness data cifar10_c --regenerate")
)
def fetch_data(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data set, cifar10_c or cifar100_c.")],
    regenerate: Annotated[
        bool,
        opt.what("Make what can be made of cifar10_c, as published.", "--regenerate"),
    ] = False,
    data: opt.Data = None,
) -> None:
    """Download the official files of a data set into the data folder, and verify them."""
    from harness.running.fetch import fetch_files
    from harness.storage.files import data_folder

    tell = progress_on_stderr(context).say
    print_lines(fetch_files(name, data_folder(data), regenerate, tell))
