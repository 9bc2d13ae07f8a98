"""The command that reports: report."""

from pathlib import Path

import typer

from harness.cli import options as opt
from harness.cli.app import app, folder_to_read, print_lines, progress_on_stderr


@app.command(
    epilog=opt.examples(
        "harness report", "harness report --results results/published/full_width --to page"
    )
)
def report(
    context: typer.Context, results: opt.Results = Path("results"), to: opt.DrawnTo = None
) -> None:
    """Write one page of all that is in the results: results/report/index.html."""
    from harness.report import page

    folder = folder_to_read(results)
    print_lines([page.write(folder, progress_on_stderr(context), to or results)])
