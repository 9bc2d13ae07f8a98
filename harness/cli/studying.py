"""The command that answers the project's questions: study."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, WORKING, app, progress_on_stderr, refusals, show
from harness.cli.options import (
    Compile,
    Data,
    Device,
    Dtype,
    Epochs,
    RecipeName,
    Results,
    Width,
    data_folder,
)


@app.command()
def study(
    preset: Annotated[
        str | None,
        typer.Option(
            help="quick: digits, 3 seeds; cifar10: 5 seeds \\[that of the data set, or quick]."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="In place of the preset's.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many, in place of the preset's.")] = None,
    question: Annotated[
        list[str], typer.Option("--question", help="1, 2a, 2b, 3, 4a, 4b \\[all]; repeats.")
    ] = [],
    run: Annotated[bool, typer.Option(help="Train and measure what is missing.")] = True,
    limit: Annotated[int, typer.Option(help="Test images, 0 for all; results/quick/.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Networks trained at once; 0: one for each CPU core.")
    ] = 0,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    compile: Compile = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Answer the four questions: run what is missing; write results/DATASET/study.json."""
    from harness.analysis import boards
    from harness.plots.figures import draw
    from harness.running.options import Options, resolve_device
    from harness.storage.results import QUICK
    from harness.study import conduct
    from harness.study.questions import preset_for
    from harness.study.telling import told

    progress = progress_on_stderr()
    root = results / QUICK if limit else results
    with refusals(*CHECKING):
        scale = preset_for(preset, dataset)
        name, count = dataset or scale.dataset, scale.seeds if seeds is None else seeds
        chosen = conduct.chosen(question)
        options = Options(
            results=results,
            data=data_folder(data),
            width=width,
            epochs=epochs,
            recipe=recipe,
            compile=compile,
            limit=limit,
            device=device,
            dtype=dtype,
            may_train=run,
        )
        work = conduct.planned(chosen, name, count, options)
        processes = workers or conduct.workers_for(resolve_device(device))
    if run:
        with refusals(*WORKING):
            conduct.conduct(work, options, progress, processes)
    with refusals(*CHECKING):
        answers = conduct.answered(chosen, root, name, count, progress)
        first = work[0].plan(options)  # with the weights that it has by now
        path = conduct.write(answers, root, name, count, conduct.label(first, options, count))
        if not limit:  # a subset of the images enters no table
            boards.write(root, progress)
        figures = []
        for suite, names in conduct.drawn(chosen).items():
            figures += draw(root, [suite], [name], data_folder(data), names)
    for line in told(answers):
        show(line)
    for file in (path, *figures):
        show(str(file))
