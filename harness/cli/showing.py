"""Commands that draw single images: show."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import CHECKING, WORKING, app, progress_on_stderr, refusals, show
from harness.cli.options import Data, Device, Epochs, RecipeName, Results, Width, data_folder

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
    from harness.plots.show import draw_corruptions

    with refusals(*CHECKING):
        path = draw_corruptions(
            results, dataset, index, tuple(corruptions), constants, data_folder(data)
        )
    show(str(path))


def token(text: str | None) -> tuple[int, int] | None:
    """Return (row, column) of "ROW,COLUMN".

    Raises:
        ValueError: It is something else.
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"`--query` is ROW,COLUMN of a token, such as 3,4; got {text!r}.")
    return int(parts[0]), int(parts[1])


@showing.command(name="attention")
def show_attention(
    model: Annotated[str, typer.Option(help="A name, timm/NAME, or path/to/file.py:NAME.")],
    dataset: Dataset = "digits",
    index: Index = 0,
    query: Annotated[
        str | None, typer.Option(help="ROW,COLUMN of one token; by default the mean over all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Training seed.")] = 0,
    width: Width = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    device: Device = "auto",
    data: Data = None,
    results: Results = Path("results"),
) -> None:
    """Draw where a model looks; write results/figures/attention-MODEL-DATASET-INDEX.png."""
    from harness.plots.show import draw_attention
    from harness.running.options import Options

    options = Options(
        results=results,
        data=data_folder(data),
        width=width,
        epochs=epochs,
        recipe=recipe,
        device=device,
    )
    with refusals(*CHECKING, *WORKING):
        path = draw_attention(
            model, dataset, seed, index, options, progress_on_stderr(), token(query)
        )
    show(str(path))
