"""Commands about the disk: clean, du."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_sheets

Only = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be removed; remove nothing.")
]


@app.command(epilog=opt.examples("harness clean --dry-run", "harness clean"))
def clean(
    dry_run: Only = False, json: opt.Json = False, results: opt.Results = Path("results")
) -> None:
    """Remove what no run refers to: cells, old weights, states of finished trainings, leftovers.

    Cells of the last 24 hours stay, and all of them while a run is going on.
    """
    from harness.present.space import clean_sheet
    from harness.storage import space

    found = space.survey(results)
    gone = found.removable if dry_run else space.clean(found)
    print_sheets([clean_sheet(gone, found.notes, dry_run=dry_run)], json)


@app.command(epilog=opt.examples("harness du", "harness du --json"))
def du(json: opt.Json = False, results: opt.Results = Path("results")) -> None:
    """Print how much a results folder holds, by kind and by model, and what `clean` would free."""
    from harness.present.space import usage_sheets
    from harness.storage.space import survey

    print_sheets(usage_sheets(survey(results)), json)
