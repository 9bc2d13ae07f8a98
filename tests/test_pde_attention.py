from typing import Any

import pytest
import torch
from torch import Tensor

from harness.models.base import Attending
from harness.models.pde_attention import (
    Attention,
    PDEAttention,
    TemperatureAttention,
    diffuse_keys,
    pde_attention,
    plain_attention,
    row_entropy,
)

C, H, W = 8, 5, 6


def randomized(block: Attention) -> Attention:
    """A block in float64 with all weights away from their start, its heads' diffusions unlike."""
    torch.manual_seed(0)
    for p in block.parameters():
        p.data.normal_(std=0.5)
    return block.double()


def features(n: int = 2) -> Tensor:
    return torch.randn(n, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("where", ["logits", "probs"])
@pytest.mark.parametrize("axis", ["key", "query_key"])
def test_diffused_maps_are_blurred_keys_values_or_queries(axis: str, where: str) -> None:
    cheap = randomized(PDEAttention(C, axis, where))
    literal = randomized(PDEAttention(C, axis, where, literal=True))
    q, k, v = cheap.split(features())
    torch.testing.assert_close(cheap.attend(q, k, v), literal.attend(q, k, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("where", ["logits", "probs"])
@pytest.mark.parametrize("axis", ["key", "query_key"])
def test_rows_sum_to_one(axis: str, where: str) -> None:
    found = randomized(PDEAttention(C, axis, where)).attention_map(features())
    assert (found.height, found.width) == (H, W)
    assert found.weights.shape == found.scores.shape == (2, 4, H * W, H * W)
    sums = found.weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-14)
    assert (found.weights >= 0).all()


def test_no_steps_is_plain_attention_and_many_are_uniform() -> None:
    x = features().float()
    plain = randomized(Attention(C)).float()
    none, many = (randomized(PDEAttention(C, steps=n)).float() for n in (0, 2000))
    for block in (none, many):
        block.load_state_dict(plain.state_dict() | {"a": torch.zeros(4)})
    torch.testing.assert_close(none(x), plain(x))
    q, k, v = many.split(x)
    mean = v.mean((3, 4))[:, :, None, :].expand(-1, -1, H * W, -1)
    torch.testing.assert_close(many.attend(q, k, v), mean, rtol=0, atol=1e-4)


def test_diffusion_is_over_the_grid_of_keys() -> None:
    scores = torch.zeros(1, 1, 1, H * W, dtype=torch.float64)
    scores[..., 2 * W + 3] = 1  # row 2, column 3
    lam = torch.tensor([0.2], dtype=torch.float64)
    once = diffuse_keys(scores, lam, 1, H, W).view(H, W)
    assert float(once[2, 3]) == pytest.approx(1 - 4 * 0.2)
    for row, column in ((1, 3), (3, 3), (2, 2), (2, 4)):
        assert float(once[row, column]) == pytest.approx(0.2)
    assert float(once.sum()) == pytest.approx(1)


@pytest.mark.parametrize("axis", ["key", "query_key"])
@pytest.mark.parametrize("dims", [(-1,), (-2,), (-1, -2)])
def test_the_block_commutes_with_flips(axis: str, dims: tuple[int, ...]) -> None:
    block, x = randomized(PDEAttention(C, axis)).float(), features().float()
    torch.testing.assert_close(block(x.flip(dims)), block(x).flip(dims), rtol=1e-4, atol=1e-5)


def test_the_block_starts_as_the_identity() -> None:
    x = features().float()
    for block in (Attention(C), PDEAttention(C), TemperatureAttention(C)):
        assert torch.equal(block(x), x)


def test_temperature_matches_the_entropy_of_the_diffused_rows() -> None:
    block = randomized(TemperatureAttention(C)).float().train()
    block.qkv.weight.data.mul_(2)
    block.tau.fill_(1.0)
    x = features(32).float()
    for _ in range(30):
        block(x)
    found = block.eval().attention_map(x)
    lam = torch.full((4,), 0.125)
    wanted = row_entropy(diffuse_keys(found.scores, lam, 4, H, W)).mean((0, 2))
    sharp = row_entropy(found.scores).mean((0, 2))
    own = row_entropy(found.scores / block.tau[:, None, None]).mean((0, 2))
    assert ((wanted - sharp) / wanted > 0.05).all(), "there is something to match"
    assert ((own - wanted).abs() / wanted < 0.01).all()
    frozen = block.tau.clone()
    block(x)
    assert torch.equal(block.tau, frozen)


def test_a_given_temperature_stays() -> None:
    block = TemperatureAttention(C, tau=2.0).train()
    block(features().float())
    assert block.tau.tolist() == [2.0] * 4


def test_maps_are_those_that_the_model_computes_with() -> None:
    model = pde_attention(width=8).eval()
    assert isinstance(model, Attending)
    images = torch.rand(3, 3, 32, 32)
    maps = model.attention_maps(images)
    assert list(maps) == ["layer3.2"]
    assert maps["layer3.2"].weights.shape == (3, 4, 64, 64)
    assert (maps["layer3.2"].height, maps["layer3.2"].width) == (8, 8)
    assert not torch.allclose(maps["layer3.2"].weights, maps["layer3.2"].scores.softmax(-1))
    plain = plain_attention(width=8).eval().attention_maps(images)["layer3.2"]
    torch.testing.assert_close(plain.weights, plain.scores.softmax(-1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PDEAttention(8, axis="value"), "must be one of key, query_key, matrix"),
        (lambda: PDEAttention(8, where="values"), "must be one of logits, probs"),
        (lambda: PDEAttention(8, steps=-2), "cannot run backwards"),
        (lambda: Attention(6), "6 channels do not divide into 4 heads"),
        (lambda: TemperatureAttention(8, tau=-1.0), "must be > 0"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
