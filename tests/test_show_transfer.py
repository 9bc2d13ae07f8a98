from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits
from torch import nn
from typer.testing import CliRunner

from harness.cli.app import app
from harness.plots.show_transfer import transfer_matrix, transfers
from harness.progress import Progress

QUIET = Progress(Console(quiet=True))


def test_images_of_a_network_break_itself_first(network: nn.Module) -> None:
    """And a network of other weights less; one that is always right is never broken."""
    pictures, classes = load_digits(return_X_y=True)
    x = torch.tensor(pictures[:60] / 16).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    images, labels = x.contiguous(), torch.tensor(classes[:60])

    class Blurred(nn.Module):
        """The same network, of images that are blurred along their rows."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return network(0.5 * images + 0.5 * images.roll(1, -1))

    networks = [network, Blurred().eval()]
    shares = transfers(
        networks, images, labels, torch.arange(60), eps=0.1, norm="linf", seed=0, progress=QUIET
    )
    assert shares.shape == (2, 2) and (shares >= 0).all() and (shares <= 1).all()
    assert shares[0, 0] < shares[1, 0] and shares[1, 1] < shares[0, 1]


def test_the_figure_has_a_number_in_each_cell() -> None:
    shares = np.array([[0.1, 0.9], [np.nan, 0.25]])
    figure = transfer_matrix(shares, ["a", "b"], "x")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == ["10", "90", "–", "25"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model", "resnet18"), "A matrix needs two models; got 1. Repeat `--model`."),
        (("--model", "resnet18", "--model", "pde_aug", "--norm", "l1"), "no norm `l1`"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    command = ["show", "transfer", "--results", str(tmp_path / "r")]
    result = CliRunner().invoke(app, [*command, *arguments])
    assert result.exit_code != 0 and not (tmp_path / "r").exists()
    assert message in " ".join(f"{result.exception} {result.stderr}".split())
