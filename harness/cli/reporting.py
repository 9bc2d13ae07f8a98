"""The command that tells: report."""

from pathlib import Path

from harness.cli.app import CHECKING, app, refusals, show
from harness.cli.options import Results


@app.command()
def report(results: Results = Path("results")) -> None:
    """Write one page of all that is in the results: results/report/index.html."""
    from harness.report import page

    with refusals(*CHECKING):
        path = page.write(results)
    show(str(path))
