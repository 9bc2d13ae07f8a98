import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.models.ops import philox

DEVICE = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

# Random123, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, words.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def numbers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("device", DEVICE)
@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_the_published_known_answers(counter: str, key: str, expected: str, device: str) -> None:
    c = [torch.tensor([word], device=device) for word in numbers(counter)]
    k0, k1 = numbers(key)
    words = philox.philox4x32((c[0], c[1], c[2], c[3]), (k0, k1))
    assert [int(word) for word in words] == numbers(expected)


def test_words_are_the_generator_at_block_draw_level_index() -> None:
    row = philox.words((1, 6), 7, "fog", 3, torch.tensor([41]), draw=2)[0]
    pair = philox.key(7, "fog")
    for b in (0, 1):
        c = [torch.tensor([word]) for word in (b, 2, 3, 41)]
        block = philox.philox4x32((c[0], c[1], c[2], c[3]), pair)
        for w in range(4):
            if 2 * w + b < 6:
                assert row[2 * w + b] == block[w]


def test_the_key_of_a_seed_and_a_purpose_never_changes() -> None:
    assert philox.key(0, "gaussian_noise") == (631686199, 1995642095)


@pytest.mark.parametrize("draw", [philox.words, philox.uniform, philox.normal])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (2, 2)])
def test_a_row_depends_on_its_index_alone(
    draw: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    indices = torch.tensor([5, 0, 2**63 - 1, 2**32 - 1, 2**32 + 5])
    rows = draw((5, *shape), 1, "a", 2, indices)
    for i, index in enumerate(indices):
        torch.testing.assert_close(
            draw((1, *shape), 1, "a", 2, index[None])[0], rows[i], rtol=0, atol=0
        )


def test_blocks_of_work_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = torch.arange(50)
    whole = philox.normal((50, 40), 0, "a", 1, indices)
    monkeypatch.setattr(philox, "CACHED", 1)
    assert torch.equal(philox.normal((50, 40), 0, "a", 1, indices), whole)


def test_every_part_of_the_key_and_the_counter_matters() -> None:
    def row(
        seed: int = 0, purpose: str = "a", level: int = 1, index: int = 0, draw: int = 0
    ) -> Tensor:
        return philox.words((1, 8), seed, purpose, level, torch.tensor([index]), draw)

    others = [row(seed=1), row(purpose="b"), row(level=2), row(index=1), row(draw=1)]
    others += [row(index=1 << bit) for bit in range(1, 63)]
    assert not any((row() == other).any() for other in others)


def test_uniform_numbers_fill_the_unit_interval() -> None:
    u = philox.uniform((500, 200), 0, "a", 1, torch.arange(500)).double()
    assert u.min() >= 0 and u.max() < 1
    counts = torch.histc(u.flatten(), 20, 0, 1)
    chi_square = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi_square < 43.8  # 99.9 % of chi-square with 19 degrees of freedom


def test_normal_numbers_have_the_moments_and_tails_of_the_normal() -> None:
    z = philox.normal((500, 400), 0, "a", 1, torch.arange(500)).double().flatten()
    n = len(z)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.square().mean() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    for at in (-2.0, -1.0, 0.0, 1.0, 2.0):
        p = 0.5 * (1 + math.erf(at / math.sqrt(2)))
        assert abs(float((z < at).double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_integers_are_uniform_and_in_range() -> None:
    k = philox.integers((100, 100), -2, 2, 0, "a", 1, torch.arange(100))
    counts = torch.bincount(k.flatten() + 2, minlength=4)
    assert k.min() == -2 and k.max() == 1
    assert float(((counts - 2500) ** 2 / 2500.0).sum()) < 16.3  # 99.9 %, 3 degrees of freedom


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_may_be_asked_for(shape: tuple[int, int]) -> None:
    assert philox.normal(shape, 0, "a", 1, torch.arange(shape[0])).shape == shape


@pytest.mark.gpu
def test_cuda_has_the_same_words_and_nearly_the_same_normals() -> None:
    indices = torch.arange(100)
    for draw, tolerance in ((philox.words, 0), (philox.uniform, 0), (philox.normal, 1e-5)):
        here = draw((100, 999), 3, "a", 1, indices)
        there = draw((100, 999), 3, "a", 1, indices.cuda())
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=tolerance)


def test_what_does_not_fit_is_refused() -> None:
    two = torch.arange(2)
    with pytest.raises(ValueError, match="`shape\\[0\\]` must be the number of `indices`, 2"):
        philox.words((3, 4), 0, "a", 1, two)
    with pytest.raises(ValueError, match="`indices` must be int64"):
        philox.words((2, 4), 0, "a", 1, two.float())
    with pytest.raises(ValueError, match="`indices` must be >= 0; got -1..0"):
        philox.words((2, 4), 0, "a", 1, two - 1)
    with pytest.raises(ValueError, match="`level` must lie in"):
        philox.words((2, 4), 0, "a", -1, two)
    with pytest.raises(ValueError, match="`high - low` must lie in"):
        philox.integers((2, 4), 3, 3, 0, "a", 1, two)
