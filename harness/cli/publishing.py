"""The command that publishes: publish."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines

Folder = Annotated[Path, typer.Argument(help="Folder that is to be read alone from now on.")]


@app.command(epilog=opt.examples("harness publish results/published --results work"))
def publish(folder: Folder, results: opt.Results = Path("results")) -> None:
    """Copy whole runs, leaderboard, answers and figures to a folder that commands only read."""
    from harness.storage.published import publish as copy

    changed = copy(results, folder)
    print_lines([*changed, f"{len(changed)} files changed; {folder / 'published.json'} lists all."])
