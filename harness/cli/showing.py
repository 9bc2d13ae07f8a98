"""Commands that draw single images: show."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, app, refusals, show
from harness.cli.options import Data, Results, data_folder

showing = typer.Typer(no_args_is_help=True, help="Draw pictures of single images.")
app.add_typer(showing, name="show")

Index = Annotated[int, typer.Option(help="Position of the image in the test set.")]
Dataset = Annotated[str, typer.Option(help="A name, or imagefolder:PATH.")]


@showing.command(name="corruptions")
def show_corruptions(
    dataset: Dataset = "digits",
    index: Index = 0,
    corruptions: Annotated[
        list[str], typer.Option("--corruption", help="In place of all 19; repeats.")
    ] = [],
    constants: Annotated[str, typer.Option(help="cifar10_c, imagenet_c; auto: by size.")] = "auto",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Draw an image under each corruption; write results/figures/corruptions-DATASET-INDEX.png."""
    from harness.sheets import draw_corruptions

    with refusals(*CHECKING):
        path = draw_corruptions(
            results, dataset, index, tuple(corruptions), constants, data_folder(data)
        )
    show(str(path))
