"""Commands that compare results: compare, check."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, folder_to_read, print_lines, print_sheets, progress_on_stderr

Pair = Annotated[str, opt.what("a,b: a model of A and one of B.", "--models")]
MetricNames = Annotated[list[str], opt.what("\\[accuracy]; repeats.", "--metric")]
Better = Annotated[
    list[str],
    opt.what("METRIC=up or METRIC=down, for a metric of your own; repeats.", "--better"),
]
Columns = Annotated[
    str, opt.what("Of a foreign CSV: THEIRS=OURS,..., such as corruption=condition.")
]
Given = Annotated[str, opt.what("What it does not say: OURS=VALUE,..., such as n=10000.")]
Margins = Annotated[
    list[str],
    opt.what("METRIC=M, METRIC/GROUP=M or METRIC(VARIANT)/GROUP=M; repeats.", "--margin"),
]


@app.command(
    epilog=opt.examples(
        "harness compare --models pde_aug,resnet18",
        "harness compare before/results results --csv differences.csv",
        "harness compare --published --models resnet18 --figure published.png",
        "harness compare results theirs.csv --columns corruption=condition --given n=10000",
    )
)
def compare(
    context: typer.Context,
    a: Annotated[Path | None, typer.Argument(help="Results folder or CSV [--results].")] = None,
    b: Annotated[Path | None, typer.Argument(help="The same; by default that of A.")] = None,
    models: Pair = "",
    suites: opt.Suites = [],
    datasets: opt.Datasets = [],
    metrics: MetricNames = [],
    better: Better = [],
    columns: Columns = "",
    given: Given = "",
    published: Annotated[
        bool,
        opt.what("Models of A against published networks, in CIFAR-10-C's cells.", "--published"),
    ] = False,
    csv: Annotated[Path | None, opt.output("Write all rows there.")] = None,
    figure: Annotated[
        Path | None, opt.output("With --published: draw the cells there, as png, pdf or svg.")
    ] = None,
    json: opt.Json = False,
    results: opt.Results = Path("results"),
) -> None:
    """Compare two models, folders or CSVs, image by image where the answers are stored."""
    if published or figure is not None:
        if not published or b is not None:
            raise refuse_published(b)
        compare_published(
            context, a or folder_to_read(results), models, datasets, csv, figure, json
        )
        return
    from harness.comparison.compare import compare_sides, refuse_inputs, write_csv
    from harness.comparison.names import read_better
    from harness.present.comparison import comparison_table
    from harness.present.sheet import NOTES, Sheet

    own = a or folder_to_read(results)
    first, second = own, b or own
    refuse_inputs(csv, (first, second))
    found = compare_sides(
        first,
        second,
        models,
        suites=suites,
        datasets=datasets,
        metrics=metrics,
        columns=columns,
        given=given,
        better=read_better(better),
        progress=progress_on_stderr(context),
    )
    if csv is not None:
        write_csv(csv, found, (first, second))
    if json:
        notes = [Sheet([], [], lines, NOTES) for _, lines in found]
        print_sheets([*(comparison_table(frame) for frame, _ in found), *notes], json)
    for frame, lines in [] if json else found:
        print_sheets([comparison_table(frame)])
        print_lines(lines)
    print_lines([csv] if csv else [], apart=json)


def refuse_published(b: Path | None) -> Exception:
    """Return what is said where `--published` does not fit."""
    from harness.refusal import Refusal

    if b is not None:
        return Refusal(f"`--published` compares one side; got {b} as well. Leave it out.")
    return Refusal("`--figure` is of `--published`. Give both, or use `harness plot`.")


def compare_published(
    context: typer.Context,
    path: Path,
    models: str,
    datasets: list[str],
    csv: Path | None,
    figure: Path | None,
    json: bool,
) -> None:
    """Print models of a side beside published networks; write their cells and a figure."""
    from harness.comparison.compare import refuse_inputs, split_names, write_report
    from harness.comparison.published import as_frame, match_published, sentences, sources
    from harness.plots.published import published_figure
    from harness.plots.style import check_format, save
    from harness.present.published import published_sheets
    from harness.refusal import Refusal

    for file in (csv, figure):
        refuse_inputs(file, (path,))
    if figure is not None:
        check_format(figure.suffix[1:])
    found = match_published(path, split_names(models), datasets, progress_on_stderr(context))
    frame = as_frame(found)
    if figure is not None and len(frame[["dataset", "suite", "model"]].drop_duplicates()) > 1:
        raise Refusal("A figure is of one model. Name it with `--models`.")
    print_sheets(published_sheets(found), json)
    print_lines(sentences(found), apart=json)
    if csv is not None:
        content = frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
        write_report(csv, content.encode())
    if figure is not None:
        save(published_figure(frame), figure, sources(figure, path, found))
    print_lines([file for file in (csv, figure) if file is not None], apart=json)


@app.command(
    epilog=opt.examples(
        "harness check --baseline main/results --margin accuracy=0.01",
        "harness check --baseline main/results --plan --seeds 5",
        "harness check --baseline leaderboard.csv --config gate.toml --junit check.xml",
    )
)
def check(
    context: typer.Context,
    baseline: Annotated[Path, opt.what("Results folder, or its leaderboard.csv.")],
    margin: Margins = [],
    config: Annotated[Path | None, opt.what("TOML with a table \\[margin].")] = None,
    better: Better = [],
    suites: opt.Suites = [],
    datasets: opt.Datasets = [],
    models: opt.Models = [],
    plan: Annotated[
        bool, opt.what("Only say which margins are within reach, before anything is trained.")
    ] = False,
    seeds: Annotated[
        int,
        opt.what("With --plan: seeds of the new results \\[as many as the baseline has]."),
    ] = 0,
    junit: Annotated[Path | None, opt.output("Write JUnit XML there.")] = None,
    markdown: Annotated[Path | None, opt.output("Write a Markdown summary there.")] = None,
    json: opt.Json = False,
    results: opt.Results = Path("results"),
) -> None:
    """Check results against a baseline: 0 pass, 1 worse, 3 inconclusive, 4 missing, 2 misuse."""
    from harness.comparison import gate, planning, summaries
    from harness.comparison.compare import refuse_inputs, write_report
    from harness.comparison.guards import CODES, INCONCLUSIVE, PASS, expectation, overall, remarks
    from harness.comparison.names import read_better
    from harness.present.comparison import check_table, plan_table

    for path in (junit, markdown):
        refuse_inputs(path, (baseline, results))
    names = {"suite": suites, "dataset": datasets, "model": models}
    margins, progress = gate.read_margins(margin, config), progress_on_stderr(context)
    if plan:
        plans = gate.plan(baseline, margins, names, seeds, progress, read_better(better))
        print_sheets([plan_table(plans)], json)
        print_lines(planning.describe(plans), apart=json)
        raise typer.Exit(CODES[INCONCLUSIVE if any(p.reason for p in plans) else PASS])
    guards, left_out = gate.check(
        results,
        baseline,
        margins,
        names,
        progress,
        better=read_better(better),
    )
    print_lines([*left_out, *(expectation(guard) for guard in guards)], apart=json)
    print_sheets([check_table(guards)], json)
    print_lines(remarks(guards), apart=json)
    for path, content in ((junit, summaries.junit), (markdown, summaries.markdown)):
        if path is not None:
            write_report(path, content(guards))
            print_lines([path], apart=json)
    verdict = overall(guards)
    count = sum(guard.verdict == verdict for guard in guards)
    print_lines([f"{verdict}: {count} of {len(guards)} guards."], apart=json)
    raise typer.Exit(CODES[verdict])
