"""Commands that compare results: compare, check."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app, print_lines, print_sheets, progress_on_stderr
from harness.cli.options import (
    OUTPUT,
    WHAT,
    Datasets,
    Json,
    Models,
    Results,
    Suites,
    examples,
    option,
)

Pair = Annotated[str, option(WHAT, "a,b: a model of A and one of B.", "--models")]
MetricNames = Annotated[list[str], option(WHAT, "\\[accuracy]; repeats.", "--metric")]
Better = Annotated[
    list[str],
    option(WHAT, "METRIC=up or METRIC=down, for a metric of your own; repeats.", "--better"),
]
Columns = Annotated[
    str, option(WHAT, "Of a foreign CSV: THEIRS=OURS,..., such as corruption=condition.")
]
Given = Annotated[str, option(WHAT, "What it does not say: OURS=VALUE,..., such as n=10000.")]
Margins = Annotated[
    list[str],
    option(WHAT, "METRIC=M or METRIC/GROUP=M, such as accuracy/noise=0.01; repeats.", "--margin"),
]


@app.command(
    epilog=examples(
        "harness compare --models pde_aug,resnet18",
        "harness compare before/results results --csv differences.csv",
        "harness compare results theirs.csv --columns corruption=condition --given n=10000",
    )
)
def compare(
    context: typer.Context,
    a: Annotated[Path | None, typer.Argument(help="Results folder or CSV [--results].")] = None,
    b: Annotated[Path | None, typer.Argument(help="The same \\[that of A].")] = None,
    models: Pair = "",
    suites: Suites = [],
    datasets: Datasets = [],
    metrics: MetricNames = [],
    better: Better = [],
    columns: Columns = "",
    given: Given = "",
    csv: Annotated[Path | None, option(OUTPUT, "Write all rows there.")] = None,
    json: Json = False,
    results: Results = Path("results"),
) -> None:
    """Compare two models, folders or CSVs, image by image where the answers are stored."""
    ...


@app.command(
    epilog=examples(
        "harness check --baseline main/results --margin accuracy=0.01",
        "harness check --baseline leaderboard.csv --config gate.toml --junit check.xml",
    )
)
def check(
    context: typer.Context,
    baseline: Annotated[Path, option(WHAT, "Results folder, or its leaderboard.csv.")],
    margin: Margins = [],
    config: Annotated[Path | None, option(WHAT, "TOML with a table \\[margin].")] = None,
    better: Better = [],
    suites: Suites = [],
    datasets: Datasets = [],
    models: Models = [],
    junit: Annotated[Path | None, option(OUTPUT, "Write JUnit XML there.")] = None,
    markdown: Annotated[Path | None, option(OUTPUT, "Write a Markdown summary there.")] = None,
    json: Json = False,
    results: Results = Path("results"),
) -> None:
    """Check results against a baseline: 0 pass, 1 worse, 3 inconclusive, 4 missing, 2 misuse."""
    ...
