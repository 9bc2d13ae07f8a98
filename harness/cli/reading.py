"""Commands that read results: table, plot."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import (
    app,
    folder_to_read,
    print_lines,
    print_sheets,
    progress_on_stderr,
)
from harness.models.user_code import is_file, table_name

if TYPE_CHECKING:
    from harness.suites.base import Suite


def names_of(specs: Sequence[str]) -> list[str]:
    """Return the names in tables of what was named on the command line."""
    return [table_name(spec) for spec in specs]


def sets_of(specs: Sequence[str]) -> list[str]:
    """Return the names in tables of data sets; a user's own is added, for pictures."""
    if not any("=" in spec or ":" in spec for spec in specs):  # and no PyTorch
        return names_of(specs)
    from harness.refusal import user_input
    from harness.suites.datasets import adopt_dataset

    with user_input():
        return [adopt_dataset(spec) for spec in specs]


def suites_with_tables(specs: Iterable[str]) -> "dict[str, Suite]":
    """Return the suites among these names and files that bring their own tables and figures."""
    from harness.present.tables import TABLES
    from harness.suites.catalog import SUITES

    added = [s for s in specs if is_file(s) or (s in SUITES and s not in TABLES)]
    if not added:  # and no PyTorch
        return {}
    from harness.refusal import user_input
    from harness.suites.lookup import suite_of

    with user_input():
        return dict(suite_of(spec) for spec in added)


@app.command(
    epilog=opt.examples(
        "harness table --suite robustness --dataset digits",
        "harness table --suite clean --latex > table.tex",
        "harness table --suite robustness --by-family",
        "harness table --write",
    )
)
def table(
    context: typer.Context,
    suites: opt.Suites = [],
    datasets: opt.Datasets = [],
    models: opt.Models = [],
    by_family: Annotated[
        bool,
        opt.output("By family of models, beside the numbers of their papers.", "--by-family"),
    ] = False,
    reference: Annotated[
        str | None, opt.what("Model that mCE is relative to \\[resnet18].")
    ] = None,
    rescore: Annotated[
        bool, opt.what("Make the CSVs again from stored answers first.", "--rescore")
    ] = False,
    write: Annotated[
        bool, opt.output("Write results/leaderboard.csv, of all results.", "--write")
    ] = False,
    json: opt.Json = False,
    latex: Annotated[bool, opt.output("Print LaTeX in place of a table.", "--latex")] = False,
    markdown: Annotated[
        bool, opt.output("Print Markdown in place of a table.", "--markdown")
    ] = False,
    results: opt.Results = Path("results"),
) -> None:
    """Print the results of suites: means, intervals, ranks; write the leaderboard."""
    from harness.analysis import boards
    from harness.present.tables import family_tables, notes_sheets, suite_tables
    from harness.storage.results import select

    progress, own = progress_on_stderr(context), suites_with_tables(suites)
    apart = json or latex or markdown
    names = names_of(suites), sets_of(datasets), names_of(models)
    if rescore:
        from harness.running.rescore import rescore as measure_again

        print_lines(measure_again(results, *names), apart=apart)
    folder = folder_to_read(results)
    frame = select(folder, *names)
    own |= suites_with_tables(frame["suite"].unique())
    sheets = family_tables(folder, frame, progress) if by_family else []
    for suite in [] if by_family else frame["suite"].unique():
        sheets += suite_tables(
            folder,
            suite,
            [],
            [],
            progress,
            frame=frame,
            detail=True,
            reference=reference,
            table=own[suite].table if suite in own else None,
        )
    print_sheets([*sheets, *notes_sheets(folder, frame)], json, latex, markdown)
    if write:
        board = boards.write(results, progress)
        said = [boards.sentence(board), *boards.unbelieved(board)]
        print_lines([*said, results / boards.FILE], apart=apart)


@app.command(epilog=opt.examples("harness plot --suite robustness --format pdf --size column"))
def plot(
    suites: opt.Suites = [],
    datasets: opt.Datasets = [],
    models: opt.Models = [],
    format: Annotated[str, opt.output("png, pdf or svg.")] = "png",
    size: Annotated[
        str | None,
        opt.output("column, page, or WIDTHxHEIGHT in inches, such as 3.5x2.4."),
    ] = None,
    data: opt.Data = None,
    results: opt.Results = Path("results"),
    to: opt.DrawnTo = None,
) -> None:
    """Draw the figures of suites and answers; write results/figures/DATASET-SUITE.png, ..."""
    from harness.plots.figures import draw
    from harness.plots.style import parse_size
    from harness.refusal import Refusal
    from harness.storage.files import data_folder
    from harness.storage.results import select
    from harness.study.figures import draw_answers

    inches = None if size is None else parse_size(size)
    kept_sets = sets_of(datasets)
    folder = folder_to_read(results)
    frame = select(folder, names_of(suites), kept_sets, names_of(models))
    names, sets = list(frame["suite"].unique()), list(frame["dataset"].unique())
    own = suites_with_tables([*suites, *names])
    drawers = {name: suite.figure for name, suite in own.items() if suite.figure}
    root, kept = data_folder(data), names_of(models)
    paths = draw(
        folder,
        names,
        sets,
        root,
        kept,
        format=format,
        size=inches,
        figures=drawers,
        out=to or results,
    )
    if not suites and not models:
        paths += draw_answers(folder, sets, format=format, size=inches, out=to or results)
    if not paths:
        raise Refusal(
            f"There is nothing to draw in {results}. Run `harness run --suite robustness "
            "--model pde_aug`."
        )
    print_lines(paths)
