"""The command that answers questions: study, its plan, and its check."""

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
    say,
    show,
)
from harness.suites.dataset_names import dataset_name

if TYPE_CHECKING:
    from harness.study.design import Design, Preset, Question

ACTIONS = ("plan", "check")
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[plan|check] [FILE.toml|solvers]",
        help="What to do, and a study's file, or solvers \\[answer; the built-in study].",
        show_default=False,
    ),
]
PresetName = Annotated[
    str | None,
    opt.what("quick: digits, questions 1-4; cifar10: 1-8, 10 epochs; fashion_mnist.", "--preset"),
]
OtherDataset = Annotated[str | None, opt.what("In place of the preset's.")]
Count = Annotated[int | None, opt.what("Number of seeds, in place of the preset's.")]
Numbers = Annotated[list[str], opt.what("1, 2a, 2b, ... \\[the preset's]; repeats.", "--question")]
MayRun = Annotated[
    bool,
    opt.training(
        "Train and evaluate what is missing; else only answer.",
        "--run/--no-run",
        "--train/--no-train",
    ),
]
Stored = Annotated[bool, opt.output("Print the answers that are stored; run nothing.", "--show")]


@app.command(
    epilog=opt.examples(
        "harness study --dry-run",
        "harness study --question 3 --seeds 5",
        "harness study my.toml",
        "harness study solvers",
        "harness study plan --preset cifar10",
        "harness study check",
        "harness study --show --dataset cifar10",
    )
)
def study(
    context: typer.Context,
    words: Words = None,
    preset: PresetName = None,
    dataset: OtherDataset = None,
    seeds: Count = None,
    question: Numbers = [],
    may_train: MayRun = True,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    compile: opt.Compile = False,
    tensorboard: opt.TensorBoard = None,
    limit: opt.Limit = 0,
    attack: opt.Attack = [],
    workers: opt.Workers = "auto",
    shard: opt.ShardOf = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    stored: Stored = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    markdown: Annotated[
        bool, opt.output("With --show: print a table for a README or a paper.", "--markdown")
    ] = False,
    data: opt.Data = None,
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
    time_limit: opt.TimeLimit = None,
) -> None:
    """Answer a study's questions: run what is missing; write results/DATASET/study.json.

    `plan` says which seeds, images and hours each question needs; `check` asks every question of
    networks that cannot have what it asks for.
    """
    given = locals()
    from harness.refusal import user_input
    from harness.storage.files import safe
    from harness.storage.results import QUICK
    from harness.study.design_files import select
    from harness.study.stored import file_of

    action, design = read_words(words or [])
    scale = design.preset_for(preset, dataset)
    questions = select(design, question or scale.questions, scale.rivals)
    given |= {
        name: getattr(scale, name) if given[name] is None else given[name]
        for name in ("dataset", "seeds", "width", "epochs", "recipe")
    }
    given["attack"] = attack or scale.attack
    with user_input():
        name = dataset_name(given["dataset"])
    folder = folder_to_read(results) if stored else results
    path = (folder / QUICK if limit else folder) / safe(name) / file_of(design.name)
    if action == "plan":
        print_plan(context, given, design, questions)
        return
    written = [] if stored else answer(context, given, design, scale, questions, path, action)
    if written is not None and not dry_run:
        print_study(path, folder, questions, json, markdown)
        print_lines(written, apart=json)


def read_words(words: list[str]) -> "tuple[str, Design]":
    """Return what to do, "" to answer, and the study."""
    from harness.refusal import Refusal, unknown
    from harness.study.design_files import BUILT_IN, built_in, read_design

    action = words[0] if words and words[0] in ACTIONS else ""
    files = words[bool(action) :]
    if len(files) > 1:
        raise Refusal(f"A study is one file; got {', '.join(files)}. Run them one by one.")
    if not files or files[0] in BUILT_IN:
        return action, built_in(*files)
    if not Path(files[0]).suffix and not Path(files[0]).exists():
        raise unknown("study", files[0], [*ACTIONS, *BUILT_IN])
    return action, read_design(Path(files[0]))


def answer(
    context: typer.Context,
    given: dict[str, Any],
    design: "Design",
    scale: "Preset",
    asked: "tuple[Question, ...]",
    path: Path,
    action: str,
) -> list[Path] | None:
    """Run what is missing; return the files that were written: answers and figures.

    None for a shard, which does not answer.
    """
    from harness.analysis import boards
    from harness.plots.figures import draw
    from harness.present.forecast import forecast_sheet
    from harness.running.forecast import forecast
    from harness.running.workers import number_of_workers
    from harness.study import history, making, run
    from harness.study.figures import draw_answers
    from harness.study.reading import models_to_draw
    from harness.study.runs import dataset_of
    from harness.study.schema import write_study

    workers = number_of_workers(given["workers"], given["device"])
    options, progress = opt.make_options(given), progress_on_stderr(context)
    work = run.list_networks(asked, given["dataset"], given["seeds"], options, action == "check")
    shard = opt.find_part(given["shard"] if options.may_train else "1/1")
    part = opt.take_part(shard, work)
    if given["dry_run"]:
        steps = [
            step
            for network, job in [(network, network.plan(options)) for network in part]
            if not network.is_done(job, options)
            for step in forecast([job], network.options(options))
        ]
        print_sheets([forecast_sheet(steps)], given["json"])
        return []
    dataset, numbers = dataset_name(given["dataset"]), [q.number for q in asked]
    noted = history.start(design, numbers, options.root, dataset)
    if options.may_train:
        run.run_study(part, options, progress, workers)
    if not shard.whole:
        print_lines([run.say_shard(shard, len(part), len(work))])
        return None
    family = design.select([*scale.questions, *numbers] if scale.questions else [], scale.rivals)
    made = making.Making(design, family, dataset, given["seeds"], options, noted)
    study = made.answer(numbers, path, progress)
    write_study(path, study)
    if not options.limit:  # a subset of the images enters no table
        boards.write(options.root, progress)
    figures = [
        figure
        for suite, names in models_to_draw(made.named(asked)).items()
        for name in [dataset_of(suite, dataset, options.attack)]
        for figure in draw(options.root, [suite], [name], options.data, names)
    ]
    figures += draw_answers(options.root, [dataset], numbers=numbers)
    return [path, *figures]


def print_plan(
    context: typer.Context,
    given: dict[str, Any],
    design: "Design",
    asked: "tuple[Question, ...]",
) -> None:
    """Print what each question needs."""
    from harness.study import history, making, run
    from harness.study.sheet import power_sheet

    options, progress = opt.make_options(given), progress_on_stderr(context)
    spec, seeds = given["dataset"], given["seeds"]
    (first, *_) = run.list_networks(asked, spec, seeds, options)
    made = making.Making(design, asked, dataset_name(spec), seeds, options, {})
    found = made.power(len(first.plan(options).split.classes), spec, progress)
    plans = {one.question.number: one.noted(seeds) for one in found if one.seeds}
    if plans:
        history.note_plan(design, plans, options.root, dataset_name(spec))
    print_sheets([power_sheet(found)], given["json"])


def print_study(
    path: Path, folder: Path, questions: "tuple[Question, ...]", json: bool, markdown: bool
) -> None:
    """Print the stored answers to these questions."""
    from dataclasses import asdict, replace

    from harness.present.machine import dumps
    from harness.refusal import Refusal
    from harness.study.markdown import answer_table
    from harness.study.schema import read_study
    from harness.study.sheet import describe_study
    from harness.study.stored import say_stale

    if not path.is_file():
        raise Refusal(f"There are no answers at {path}. Run `harness study --help` to see how.")
    study = read_study(path)
    numbers = {question.number for question in questions}
    study = replace(study, questions=tuple(a for a in study.questions if a.number in numbers))
    if json or markdown:
        say(dumps(asdict(study)) if json else answer_table(study))
        print_lines(say_stale(study, study.stale(folder)), apart=True)
    else:
        for part in describe_study(study, folder):
            show(part)
