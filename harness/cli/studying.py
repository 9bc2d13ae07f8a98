"""The command that answers the project's questions: study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options as opt
from harness.cli.app import (
    app,
    folder_to_read,
    print_lines,
    print_sheets,
    progress_on_stderr,
    show,
)
from harness.suites.dataset_names import dataset_name

if TYPE_CHECKING:
    from harness.study.questions import Question

Preset = Annotated[
    str | None,
    opt.what("quick: digits, 3 seeds; cifar10: 5 seeds \\[that of the data set, or quick]."),
]
OtherDataset = Annotated[str | None, opt.what("In place of the preset's.")]
Count = Annotated[int | None, opt.what("Number of seeds, in place of the preset's.")]
Numbers = Annotated[list[str], opt.what("1, 2a, 2b, 3, 4a, 4b \\[all]; repeats.", "--question")]
MayRun = Annotated[
    bool,
    opt.training("Train and evaluate what is missing.", "--run/--no-run", "--train/--no-train"),
]
Workers = Annotated[int, opt.evaluation("Networks trained at once; 0: one for each CPU core.")]
Stored = Annotated[bool, opt.output("Print the answers that are stored; run nothing.", "--show")]


@app.command(
    epilog=opt.examples(
        "harness study --dry-run",
        "harness study --question 3 --seeds 5",
        "harness study --show --dataset cifar10",
    )
)
def study(
    context: typer.Context,
    preset: Preset = None,
    dataset: OtherDataset = None,
    seeds: Count = None,
    question: Numbers = [],
    may_train: MayRun = True,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    compile: opt.Compile = False,
    limit: opt.Limit = 0,
    workers: Workers = 0,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    stored: Stored = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    data: opt.Data = None,
    results: opt.Results = Path("results"),
) -> None:
    """Answer the four questions: run what is missing; write results/DATASET/study.json."""
    given = locals()
    from harness.refusal import user_input
    from harness.storage.files import safe
    from harness.storage.results import QUICK
    from harness.study.questions import preset_for, select_questions
    from harness.study.schema import FILE

    scale, questions = preset_for(preset, dataset), select_questions(question)
    spec, count = dataset or scale.dataset, scale.seeds if seeds is None else seeds
    with user_input():
        name = dataset_name(spec)
    folder = folder_to_read(results) if stored else results
    path = (folder / QUICK if limit else folder) / safe(name) / FILE
    written = [] if stored else answer(context, given, questions, spec, count, path)
    if not dry_run:
        print_study(path, questions, json)
        print_lines(written, apart=json)


def answer(
    context: typer.Context,
    given: dict[str, Any],
    questions: "tuple[Question, ...]",
    dataset: str,
    seeds: int,
    path: Path,
) -> list[Path]:
    """Run what is missing; return the files that were written: answers and figures."""
    from harness.analysis import boards
    from harness.plots.figures import draw
    from harness.present.forecast import forecast_sheet
    from harness.running.forecast import forecast
    from harness.running.options import resolve_device
    from harness.study import run
    from harness.study.schema import write_study

    options, progress = opt.make_options(given), progress_on_stderr(context)
    work, dataset = run.list_networks(questions, dataset, seeds, options), dataset_name(dataset)
    if given["dry_run"]:
        jobs = [network.plan(options) for network in work]
        print_sheets([forecast_sheet(forecast(jobs, options))], given["json"])
        return []
    if options.may_train:
        workers = given["workers"] or run.workers_for(resolve_device(options.device))
        run.run_study(work, options, progress, workers)
    answers = run.answer_from(questions, options.root, dataset, seeds, progress)
    label = run.label(work[0].plan(options), options, seeds)  # with the weights of now
    write_study(path, run.store_answers(answers, options.root, dataset, seeds, label))
    if not options.limit:  # a subset of the images enters no table
        boards.write(options.root, progress)
    figures = [
        figure
        for suite, names in run.models_to_draw(questions).items()
        for figure in draw(options.root, [suite], [dataset], options.data, names)
    ]
    return [path, *figures]


def print_study(path: Path, questions: "tuple[Question, ...]", json: bool) -> None:
    """Print the stored answers to these questions."""
    from dataclasses import asdict, replace

    from harness.present.machine import dumps
    from harness.refusal import Refusal
    from harness.study.schema import read_study, say_stale
    from harness.study.sheet import describe_study

    if not path.is_file():
        raise Refusal(f"There are no answers at {path}. Run `harness study --help` to see how.")
    study = read_study(path)
    numbers = {question.number for question in questions}
    study = replace(study, questions=tuple(a for a in study.questions if a.number in numbers))
    if json:
        typer.echo(dumps(asdict(study)))
        print_lines(say_stale(study, study.stale(path.parent)), apart=True)
    else:
        for part in describe_study(study, path.parent):
            show(part)
