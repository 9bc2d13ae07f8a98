import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from typer.testing import CliRunner

from harness.cli.app import app
from harness.plots.show_attack import NAMES, UNITS, Found, attack_image, attack_sheet


def digit(network: nn.Module) -> tuple[Tensor, Tensor, int]:
    """An image that the network takes for what it is, its class, and where it lies."""
    pictures, labels = load_digits(return_X_y=True)
    images = torch.tensor(pictures / 16).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    index = next(i for i in range(50) if int(network(images[[i]]).argmax()) == labels[i])
    return images[[index]].contiguous(), torch.tensor(labels[[index]]), index


@pytest.mark.parametrize("norm, eps", [("linf", 50), ("l2", 2.0)])
def test_a_column_an_attack_with_what_it_added(network: nn.Module, norm: str, eps: float) -> None:
    image, label, index = digit(network)
    radius = eps * UNITS[norm][0]
    points = attack_image(network, image, label, index, radius, norm, 0)
    assert list(points) == list(NAMES.values())
    order = math.inf if norm == "linf" else 2
    found = {}
    for name, x in points.items():
        size = float(torch.linalg.vector_norm(x - image, ord=order))
        assert size <= radius * (1 + 1e-5) and x.min() >= 0 and x.max() <= 1
        answer = network(x).softmax(1)[0]
        found[name] = Found(x[0].numpy(), size, str(int(answer.argmax())), float(answer.max()))
    original = Found(image[0].numpy(), 0.0, str(int(label)), 0.9)
    figure = attack_sheet(original, found, str(int(label)), UNITS[norm], "a digit")
    top, bottom = figure.axes[: len(found) + 1], figure.axes[len(found) + 1 :]
    assert [axis.get_title() for axis in top] == ["original", *NAMES.values()]
    for axis, one in zip(top[1:], found.values(), strict=True):
        assert axis.get_xlabel() == f"{one.answer}, {100 * one.share:.0f} %"
        assert axis.xaxis.label.get_color() == (
            "#000000" if one.answer == original.answer else "#b2182b"
        )
    drawn = bottom[1].images[0].get_array()
    change = np.moveaxis(next(iter(found.values())).image - original.image, 0, -1)
    assert np.allclose(np.sign(np.asarray(drawn) - 0.5), np.sign(change))
    assert any(one.answer != original.answer for one in found.values())


def test_few_classes_have_fewer_attacks(network: nn.Module) -> None:
    image, label, index = digit(network)
    two = nn.Sequential(network, nn.Linear(10, 2))
    found = attack_image(two, image, two(image).argmax(1), index, 0.05, "linf", 0)
    assert {"APGD-DLR", "APGD-T"} & found.keys() == set() and "FAB-T" in found
    assert label.shape == (1,)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--norm", "l1"), "There is no norm `l1`. Use linf or l2."),
        (("--eps", "0"), "`--eps` must be > 0 and finite; got 0. Give for example 8."),
        (("--eps", "nan"), "`--eps` must be > 0 and finite; got nan. Give for example 8."),
        (("--index", "355"), "`digits` has test images 0..354; got `--index 355`."),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    command = ["show", "attack", "--model", "resnet18", "--results", str(tmp_path / "r")]
    result = CliRunner().invoke(app, [*command, *arguments])
    assert result.exit_code != 0 and not (tmp_path / "r").exists()
    assert message in str(result.exception or "") or message in result.output + result.stderr
