"""Commands that read results: table, plot."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, app, print_suite, progress_on_stderr, refusals, show
from harness.cli.options import Data, Datasets, Models, Results, Suites, data_folder


@app.command()
def table(
    suites: Suites = [],
    datasets: Datasets = [],
    models: Models = [],
    write: Annotated[
        bool, typer.Option("--write", help="Write the leaderboard of all results.")
    ] = False,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Make the CSVs again from stored answers first.")
    ] = False,
    reference: Annotated[
        str | None, typer.Option(help="The model that mCE is relative to \\[resnet18].")
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Print accuracy by corruption and severity, and its means; write results/leaderboard.csv."""
    from harness.analysis import boards
    from harness.running.rescore import rescored
    from harness.storage.results import chosen

    with refusals(*CHECKING):
        if rescore:
            for line in rescored(results, suites, datasets, models):
                show(line)
        frame = chosen(results, suites, datasets, models)
    for suite in frame["suite"].unique():
        here = frame[frame["suite"] == suite]
        names, sets = list(here["model"].unique()), list(here["dataset"].unique())
        with refusals(*CHECKING):
            print_suite(results, suite, names, sets, detail=True, reference=reference)
    if write:
        with refusals(*CHECKING):
            show(boards.sentence(boards.write(results, progress_on_stderr())))
        show(str(results / boards.FILE))


@app.command()
def plot(
    suites: Suites = [],
    datasets: Datasets = [],
    models: Models = [],
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Draw the figures of suites again; write results/figures/DATASET-SUITE.png and others."""
    from harness.plots.figures import draw
    from harness.storage.results import chosen

    with refusals(*CHECKING):
        frame = chosen(results, suites, datasets, models)
        names, sets = list(frame["suite"].unique()), list(frame["dataset"].unique())
        paths = draw(results, names, sets, data_folder(data), models)
        if not paths:
            raise LookupError(
                f"There is nothing to draw in {results}. Run `harness run --suite robustness "
                "--model pde_aug`."
            )
    for path in paths:
        show(str(path))
