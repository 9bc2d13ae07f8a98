import pytest
import torch

from harness.models.s20 import resnet110
from harness.models.slots import resnet18_slot
from harness.models.stochastic_depth import (
    Kept,
    keep_probability,
    stochastic_depth,
    stochastic_depth110,
)


def test_probabilities_fall_linearly() -> None:
    assert [keep_probability(i, 4, 0.5) for i in range(4)] == [0.875, 0.75, 0.625, 0.5]
    timm = [keep_probability(i, 4, 0.5, "timm") for i in range(4)]
    assert timm == pytest.approx([1, 1 - 1 / 6, 1 - 1 / 3, 0.5])
    assert keep_probability(53, 54, 0.5) == 0.5
    assert keep_probability(0, 54, 0.5) == pytest.approx(1 - 0.5 / 54)


@pytest.mark.parametrize(
    "style, mean, variance",
    [
        ("huang", 0.7, 0.7 * 0.3),
        ("dropout", 0.7, 0.7 * 0.3),
        ("timm", 1.0, 0.3 / 0.7),
        ("mean", 0.7, 0.0),
    ],
)
def test_mean_and_variance_in_training(style: str, mean: float, variance: float) -> None:
    torch.manual_seed(0)
    kept = Kept(0.7, style).train()
    draws = torch.stack([kept(torch.ones(4, 1, 1, 1))[0, 0, 0, 0] for _ in range(4000)])
    assert abs(draws.mean() - mean) < 0.03 and abs(draws.var() - variance) < 0.03
    expected = {"huang": 0.7, "dropout": 0.7, "timm": 1.0, "mean": 0.7}[style]
    assert kept.eval()(torch.ones(1, 1, 1, 1)).item() == pytest.approx(expected)


def test_draws_are_for_the_batch_the_image_or_the_element() -> None:
    torch.manual_seed(0)
    ones = torch.ones(64, 2, 3, 3)
    batch, image, element = (Kept(0.5, s).train()(ones) for s in ("huang", "timm", "dropout"))
    assert batch.unique().numel() == 1
    assert all(row.unique().numel() == 1 for row in image) and image.unique().numel() == 2
    assert element[0].unique().numel() == 2


def test_keeping_everything_is_the_plain_network() -> None:
    images = torch.rand(2, 3, 32, 32)
    torch.manual_seed(0)
    plain = resnet18_slot(width=8)
    torch.manual_seed(0)
    kept = stochastic_depth(width=8, last=1.0)
    for mode in (True, False):
        assert torch.equal(plain.train(mode)(images), kept.train(mode)(images))


def test_draws_follow_torchs_generator() -> None:
    model, images = stochastic_depth(width=8).train(), torch.rand(4, 3, 32, 32)
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(model(images))
    assert torch.equal(*found)
    assert any(not torch.equal(found[0], model(images)) for _ in range(5))


def test_the_preset_has_the_weights_of_its_null() -> None:
    counts = [
        sum(p.numel() for p in b(width=16).parameters()) for b in (stochastic_depth110, resnet110)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "arguments, message",
    [({"last": 0.0}, r"lies in \(0, 1\]"), ({"style": "hung"}, "must be one of huang, timm")],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stochastic_depth(width=8, **arguments)
