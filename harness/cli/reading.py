"""Commands that read results: table, plot."""

from pathlib import Path

from harness.cli.app import CHECKING, app, refusals, show
from harness.cli.options import Datasets, Models, Results, Suites


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
        print_suite(results, suite, names, sets, detail=True)


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
        show(str(path))


def print_suite(
    results: Path, suite: str, models: list[str], datasets: list[str], detail: bool = False
) -> None:
    from harness.tables import of_suite

    for line in of_suite(results, suite, models, datasets, detail):
        show(line)
