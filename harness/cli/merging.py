"""Commands about several results folders: merge, pack."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines, progress_on_stderr

Sources = Annotated[
    list[Path], typer.Argument(help="Results folders, or files that `harness pack` wrote.")
]
Merged = Annotated[Path, opt.output("Folder that all is written to.", "--to", "-o")]
Packed = Annotated[Path, opt.output("File that ends in .tar.xz, or a new folder.", "--to", "-o")]


@app.command(epilog=opt.examples("harness merge shard1 shard2 --to results"))
def merge(context: typer.Context, sources: Sources, to: Merged) -> None:
    """Put several results folders into one: cells, weights, runs; make its leaderboard again.

    What is in two of them must be equal, or nothing is written.
    """
    from harness.analysis import boards
    from harness.storage import merging
    from harness.storage.results import read_provenances

    merged = merging.merge(sources, to)
    print_lines(merged.notes, apart=True)
    print_lines([merged.sentence(to)])
    if read_provenances(to, whole=True):
        boards.write(to, progress_on_stderr(context))
        print_lines([to / boards.FILE])


@app.command(epilog=opt.examples("harness pack results --to results.tar.xz"))
def pack(results: Annotated[Path, typer.Argument(help="Results folder.")], to: Packed) -> None:
    """Write runs, histories of trainings and answers to one file, without weights and cells.

    The same files give the same bytes; `harness merge` takes such a file as it takes a folder.
    """
    from harness.storage import packing

    count = packing.pack(results, to)
    print_lines([f"{to}: {count} files, {_size(to):,} bytes."])


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
