"""Commands that say what there is: list."""

import typer

from harness.cli.app import app, show

listing = typer.Typer(no_args_is_help=True, help="List what there is, by name.")
app.add_typer(listing, name="list")


@listing.command(name="models")
def list_models() -> None:
    """List the models that are built in."""
    import models  # noqa: F401  fills the registry
    from models.base import MODELS

    print_names(MODELS)
    show("Also timm/NAME for any model of timm, and path/to/file.py:NAME for your own.")


@listing.command(name="suites")
def list_suites() -> None:
    """List the suites."""
    import suites  # noqa: F401  fills the registry
    from suites.base import SUITES

    print_names(SUITES)


@listing.command(name="datasets")
def list_datasets() -> None:
    """List the data sets."""
    from suites.datasets import DATASETS

    print_names(DATASETS)
    show("Also imagefolder:PATH for your own images, one folder a class.")


@listing.command(name="corruptions")
def list_corruptions() -> None:
    """List the corruptions."""
    from suites.corruptions import CORRUPTIONS

    print_names({kind.__name__: kind for kind in CORRUPTIONS})


def print_names(entries) -> None:  # type: ignore[no-untyped-def]
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in entries:
        table.add_row(name, (entries[name].__doc__ or "").strip().splitlines()[0])
    show(table)
