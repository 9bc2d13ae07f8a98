"""Commands that say what there is: list, cite."""

from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_sheets, say

listing = typer.Typer(no_args_is_help=True, help="List what there is, by name.")
app.add_typer(listing, name="list")


@listing.command(
    name="models",
    epilog=opt.examples(
        "harness list models --long", "harness list models --family baseline --long"
    ),
)
def list_models(
    long: Annotated[
        bool, typer.Option("--long", help="Equations, sizes, papers and null models, too.")
    ] = False,
    family: Annotated[str | None, typer.Option(help="Only models of this family.")] = None,
    json: opt.Json = False,
) -> None:
    """List the models that are built in."""
    from harness.present.lists import models_sheet

    print_sheets([models_sheet(long=long or json, family=family)], json)


def list_names(kind: str, what: str) -> None:
    """Add the command that lists the names of one kind."""

    @listing.command(name=kind, help=f"List the {what}.")
    def list_kind(json: opt.Json = False) -> None:
        from harness.present.lists import names_sheet

        print_sheets([names_sheet(kind)], json)


list_names("suites", "suites")
list_names("datasets", "data sets")
list_names("corruptions", "corruptions")
list_names("metrics", "metrics, and which way is better")


@app.command(epilog=opt.examples("harness cite pde_aug", "harness cite harness"))
def cite(
    name: Annotated[str, typer.Argument(help="A model that is built in, or harness.")],
) -> None:
    """Print the papers of a model, or how to cite this program, as BibTeX."""
    from harness.present.citations import bibtex_of

    say(bibtex_of(name))
