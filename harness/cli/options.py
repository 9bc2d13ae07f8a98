"""Options that several commands take, and what stands behind their defaults."""

import os
from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str], typer.Option("--model", help="A name, timm/NAME, or path/to/file.py:NAME; repeats.")
]
Suites = Annotated[list[str], typer.Option("--suite", help="The question to ask; repeats.")]
Datasets = Annotated[
    list[str], typer.Option("--dataset", help="A name, or imagefolder:PATH; repeats.")
]
Seeds = Annotated[list[int], typer.Option("--seed", help="Training seed; repeats.")]
Results = Annotated[Path, typer.Option(help="Folder that everything is written below.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of data files [HARNESS_DATA, ~/.cache/harness/data].")
]
Width = Annotated[int | None, typer.Option(help="Channels; 64: ResNet-18 \\[the data set's own].")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training set \\[the recipe's].")]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="fast: 26 epochs; full: 80; ruthotto_haber \\[fast]."),
]
Compile = Annotated[
    bool, typer.Option(help="Compile networks for training: for many epochs or seeds on a GPU.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]

Dtype = Annotated[
    str,
    typer.Option(help="float32, or bfloat16 for suites that take a network's answers alone."),
]


def data_folder(data: Path | None) -> Path:
    """Return `--data`, else HARNESS_DATA, else ~/.cache/harness/data."""
    return data or Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache/harness/data")
