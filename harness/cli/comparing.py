"""Commands that compare results: compare, check."""

import traceback
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, app, progress_on_stderr, refusals, show
from harness.cli.options import Datasets, Models, Results, Suites

MetricNames = Annotated[list[str], typer.Option("--metric", help="\\[accuracy]; repeats.")]


@app.command()
def compare(
    a: Annotated[Path | None, typer.Argument(help="Results folder or CSV [--results].")] = None,
    b: Annotated[Path | None, typer.Argument(help="The same \\[that of A].")] = None,
    models: Annotated[str, typer.Option("--models", help="a,b: a model of A and one of B.")] = "",
    suites: Suites = [],
    datasets: Datasets = [],
    metrics: MetricNames = [],
    columns: Annotated[
        str, typer.Option(help="Of a foreign CSV: THEIRS=OURS,..., such as corruption=condition.")
    ] = "",
    given: Annotated[
        str, typer.Option(help="What it does not say: OURS=VALUE,..., such as n=10000.")
    ] = "",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all rows there.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write all rows there.")] = None,
    results: Results = Path("results"),
) -> None:
    """Compare two models, folders or CSVs, image by image where the answers are stored."""
    from harness.comparison.compare import compared, write
    from harness.present.tables import comparison_table

    with refusals(*CHECKING):
        first = a or results
        found = compared(
            first,
            b or first,
            models,
            suites=suites,
            datasets=datasets,
            metrics=metrics,
            columns=columns,
            given=given,
            progress=progress_on_stderr(),
        )
        for path, kind in ((csv, "csv"), (json, "json")):
            write(path, kind, found, inputs=(first, b or first))
    for frame, said in found:
        show(comparison_table(frame))
        for line in said:
            show(line)
    for path in (csv, json):
        if path is not None:
            show(str(path))


@app.command()
def check(
    baseline: Annotated[Path, typer.Option(help="Results folder, or its leaderboard.csv.")],
    margin: Annotated[
        list[str],
        typer.Option(help="METRIC=M or METRIC/GROUP=M, such as accuracy/noise=0.01; repeats."),
    ] = [],
    config: Annotated[Path | None, typer.Option(help="TOML with a table \\[margin].")] = None,
    suites: Suites = [],
    datasets: Datasets = [],
    models: Models = [],
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary there.")] = None,
    results: Results = Path("results"),
) -> None:
    """Check results against a baseline: 0 pass, 1 worse, 3 inconclusive, 4 missing, 2 misuse."""
    names = {"suite": suites, "dataset": datasets, "model": models}
    try:
        code = _check(baseline, margin, config, names, junit, markdown, results)
    except (typer.Exit, KeyboardInterrupt):
        raise
    except Exception:
        # Python would leave with 1, which says "worse": a crash must never be read as a verdict.
        traceback.print_exc()
        raise typer.Exit(2) from None
    raise typer.Exit(code)


def _check(
    baseline: Path,
    margin: list[str],
    config: Path | None,
    names: dict[str, list[str]],
    junit: Path | None,
    markdown: Path | None,
    results: Path,
) -> int:
    from harness.comparison import gate
    from harness.comparison import summaries as verdicts
    from harness.comparison.compare import refuse_inputs, write_report
    from harness.comparison.guards import CODES, expectation, overall, remarks
    from harness.present.tables import check_table

    with refusals(*CHECKING, OSError):
        for path in (junit, markdown):
            refuse_inputs(path, (baseline, results))
        guards, left_out = gate.check(
            results, baseline, gate.margins(margin, config), names, progress_on_stderr()
        )
        for line in [*left_out, *(expectation(guard) for guard in guards)]:
            show(line)
        show(check_table(guards))
        for line in remarks(guards):
            show(line)
        for path, content in ((junit, verdicts.junit), (markdown, verdicts.markdown)):
            if path is not None:
                write_report(path, content(guards))
                show(str(path))
    verdict = overall(guards)
    count = sum(guard.verdict == verdict for guard in guards)
    show(f"{verdict}: {count} of {len(guards)} guards.")
    return CODES[verdict]
