"""Commands that say what there is: list, cite."""

from typing import Annotated

import typer

from harness.cli.app import CHECKING, app, refusals, show

listing = typer.Typer(no_args_is_help=True, help="List what there is, by name.")
app.add_typer(listing, name="list")


@listing.command(name="models")
def list_models() -> None:
    """List the models that are built in, their equations, sizes at width 64 and null models."""
    from rich.table import Table

    from harness import models  # noqa: F401  fills the registry
    from harness.models.base import MODELS, card_of
    from harness.models.size import size_of

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("model", "family", "equation"):
        table.add_column(heading)
    for heading in ("weights", "MACs"):
        table.add_column(heading, justify="right")
    for heading in ("paper", "null models"):
        table.add_column(heading)
    for name in MODELS:
        card, size = card_of(MODELS[name]), size_of(MODELS[name])
        table.add_row(
            name,
            card.family,
            card.equation,
            f"{size.parameters / 1e6:.2f} M",
            "its solver's" if size.macs is None else f"{size.macs / 1e6:.0f} M",
            card.papers[0].short if card.papers else "",
            ", ".join(card.nulls),
        )
    show(table)
    show("Weights and multiply-adds: width 64, 10 classes, one image of 32 pixels.")
    show("Also timm/NAME for any model of timm, and path/to/file.py:NAME for your own.")


@app.command()
def cite(name: Annotated[str, typer.Argument(help="A model that is built in.")]) -> None:
    """Print the papers of a model, as BibTeX."""
    from harness import models  # noqa: F401  fills the registry
    from harness.models.base import MODELS, card_of

    with refusals(*CHECKING):
        papers = card_of(MODELS[name]).papers
        if not papers:
            nulls = [m for m in MODELS if name in card_of(MODELS[m]).nulls]
            beside = f"; it stands beside {', '.join(nulls)}" if nulls else ""
            raise LookupError(f"`{name}` has no paper{beside}. See `harness list models`.")
    show("\n\n".join(paper.bibtex() for paper in papers))


@listing.command(name="suites")
def list_suites() -> None:
    """List the suites."""
    from harness import suites  # noqa: F401  fills the registry
    from harness.suites.base import SUITES

    print_names(SUITES)


@listing.command(name="datasets")
def list_datasets() -> None:
    """List the data sets."""
    from harness.suites.datasets import DATASETS

    print_names(DATASETS)
    show("Also imagefolder:PATH for your own images, one folder a class.")


@listing.command(name="corruptions")
def list_corruptions() -> None:
    """List the corruptions."""
    from harness.suites.corruptions import CORRUPTIONS

    print_names({kind.__name__: kind for kind in CORRUPTIONS})


def print_names(entries) -> None:  # type: ignore[no-untyped-def]
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in entries:
        table.add_row(name, (entries[name].__doc__ or "").strip().splitlines()[0])
    show(table)
