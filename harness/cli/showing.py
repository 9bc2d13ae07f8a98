"""Commands that draw single images: show."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines, progress_on_stderr

showing = typer.Typer(no_args_is_help=True, help="Draw pictures of single images.")
app.add_typer(showing, name="show")

Index = Annotated[int, opt.what("Position of the image in the test set.")]

Eps = Annotated[
    float | None,
    opt.evaluation("Size of the change: linf in 1/255 \\[8], l2 as it is \\[0.5]."),
]
Norm = Annotated[str, opt.evaluation("linf or l2.")]


@showing.command(
    name="corruptions", epilog=opt.examples("harness show corruptions --index 7 --corruption noise")
)
def show_corruptions(
    dataset: opt.Dataset = "digits",
    index: Index = 0,
    corruptions: opt.Corruptions = [],
    constants: opt.Constants = "auto",
    image_seed: opt.ImageSeed = 0,
    data: opt.Data = None,
    results: opt.Results = Path("results"),
) -> None:
    """Draw an image under each corruption; write results/figures/corruptions-DATASET-INDEX.png."""
    from harness.plots.show import draw_corruptions
    from harness.storage.files import data_folder

    names, root = tuple(corruptions), data_folder(data)
    path = draw_corruptions(results, dataset, index, names, constants, root, image_seed)
    print_lines([path])


def parse_token(text: str | None) -> tuple[int, int] | None:
    """Return (row, column) of "ROW,COLUMN".

    Raises:
        Refusal: It is something else.
    """
    from harness.refusal import Refusal

    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise Refusal(f"`--query` is ROW,COLUMN of a token, such as 3,4; got {text!r}.")
    return int(parts[0]), int(parts[1])


@showing.command(
    name="attention",
    epilog=opt.examples("harness show attention --model pde_attention --index 7 --query 3,4"),
)
def show_attention(
    context: typer.Context,
    model: Annotated[str, opt.what(f"{opt.MODEL}.")],
    dataset: opt.Dataset = "digits",
    index: Index = 0,
    query: Annotated[
        str | None, opt.what("ROW,COLUMN of one token; by default the mean over all.")
    ] = None,
    seed: opt.Seed = 0,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    device: opt.Device = "auto",
    data: opt.Data = None,
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
) -> None:
    """Draw where a model looks; write results/figures/attention-MODEL-DATASET-INDEX.png."""
    given = locals()
    from harness.plots.show import draw_attention

    options, progress = opt.make_options(given), progress_on_stderr(context)
    token = parse_token(query)
    print_lines([draw_attention(model, dataset, seed, index, options, progress, token)])


@showing.command(
    name="attack",
    epilog=opt.examples("harness show attack --model resnet18 --index 7 --eps 8"),
)
def show_attack(
    context: typer.Context,
    model: Annotated[str, opt.what(f"{opt.MODEL}.")],
    dataset: opt.Dataset = "digits",
    index: Index = 0,
    eps: Eps = None,
    norm: Norm = "linf",
    seed: opt.Seed = 0,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    image_seed: opt.ImageSeed = 0,
    device: opt.Device = "auto",
    data: opt.Data = None,
    results: opt.Results = Path("results"),
) -> None:
    """Draw what attacks make of an image; write results/figures/attack-MODEL-DATASET-INDEX.png."""
    given = locals()
    from harness.plots.show_attack import draw_attack

    options, progress = opt.make_options(given), progress_on_stderr(context)
    size = _usual(eps, norm)
    print_lines([draw_attack(model, dataset, seed, index, size, norm, options, progress)])


def _usual(eps: float | None, norm: str) -> float:
    return eps if eps is not None else 0.5 if norm == "l2" else 8.0


@showing.command(
    name="transfer",
    epilog=opt.examples("harness show transfer --model resnet18 --model ode_block --eps 1"),
)
def show_transfer(
    context: typer.Context,
    models: opt.Models,
    dataset: opt.Dataset = "digits",
    eps: Eps = None,
    norm: Norm = "linf",
    limit: Annotated[int, opt.evaluation("Number of test images, 0 for all.")] = 200,
    seed: opt.Seed = 0,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    image_seed: opt.ImageSeed = 0,
    device: opt.Device = "auto",
    data: opt.Data = None,
    results: opt.Results = Path("results"),
) -> None:
    """Draw whether attacks on a model break others; write results/figures/transfer-DATASET.png."""
    given = locals()
    from harness.plots.show_transfer import draw_transfer

    options, progress = opt.make_options(given), progress_on_stderr(context)
    size = _usual(eps, norm)
    print_lines([draw_transfer(models, dataset, seed, size, norm, options, progress)])


@showing.command(
    name="generation", epilog=opt.examples("harness show generation --model exact_score")
)
def show_generation(
    context: typer.Context,
    model: Annotated[str, opt.what(f"{opt.MODEL}.")],
    dataset: opt.Dataset = "digits",
    seed: opt.Seed = 0,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    image_seed: opt.ImageSeed = 0,
    device: opt.Device = "auto",
    data: opt.Data = None,
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
) -> None:
    """Draw samples by solver, and trajectories; write results/figures/samples-MODEL-DATASET.png."""
    given = locals()
    from harness.plots.show_generation import draw_generation

    options, progress = opt.make_options(given), progress_on_stderr(context)
    print_lines(draw_generation(model, dataset, seed, options, progress))
