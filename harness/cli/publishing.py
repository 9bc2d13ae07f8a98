"""Commands that hand results on: publish, export."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines, progress_on_stderr

Folder = Annotated[Path, typer.Argument(help="Folder that is to be read alone from now on.")]


@app.command(epilog=opt.examples("harness publish results/published --results work"))
def publish(folder: Folder, results: opt.Results = Path("results")) -> None:
    """Copy whole runs, leaderboard, answers and figures to a folder that commands only read."""
    from harness.storage.published import publish as copy

    changed = copy(results, folder)
    print_lines([*changed, f"{len(changed)} files changed; {folder / 'published.json'} lists all."])


@app.command(
    epilog=opt.examples(
        "harness export --model pde_aug --dataset cifar10 --seed 0 --to pde_aug-cifar10"
    )
)
def export(
    context: typer.Context,
    model: Annotated[str, opt.what(f"{opt.MODEL}.")],
    to: Annotated[Path, opt.output("Folder to write, of its own.")],
    dataset: opt.Dataset = "digits",
    seed: opt.Seed = 0,
    data: opt.Data = None,
    width: opt.Width = None,
    epochs: opt.Epochs = None,
    recipe: opt.RecipeName = None,
    device: opt.Device = "cpu",
    results: opt.Results = Path("results"),
    checkpoints: opt.Checkpoints = None,
) -> None:
    """Write trained weights as safetensors with a model card, as hubs and timm take them."""
    from dataclasses import replace

    from harness.report.model_card import export as write
    from harness.running.plan import plan

    options = replace(opt.make_options(locals()), may_train=False)
    (job,) = plan([model], [dataset], [seed], [], options)
    print_lines(write(job, results, to, progress_on_stderr(context)))
