"""The command that reports: report."""

from pathlib import Path

from harness.cli.app import app, print_lines
from harness.cli.options import Results, examples


@app.command(epilog=examples("harness report", "harness report --results results/quick"))
def report(results: Results = Path("results")) -> None:
    """Write one page of all that is in the results: results/report/index.html."""
    from harness.report import page

    print_lines([page.write(results)])
