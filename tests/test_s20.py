import pytest
import torch

from harness.models.s20 import S20, Averaged, Padded, padded_block, projected_block


@pytest.mark.parametrize(
    "n, padded, projected",
    [
        (3, 269_722, 272_474),
        (5, 464_154, 466_906),
        (7, 658_586, 661_338),
        (9, 853_018, 855_770),
        (18, 1_727_962, 1_730_714),
    ],
)
def test_weights_are_the_published_ones(n: int, padded: int, projected: int) -> None:
    for block, weights in ((padded_block, padded), (projected_block, projected)):
        assert sum(p.numel() for p in S20(10, 64, n, block).parameters()) == weights


def test_shortcuts_take_every_second_pixel_or_the_mean_and_pad_with_zeros() -> None:
    x = torch.rand(1, 2, 4, 4)
    taken, averaged = Padded(2, 4, 2)(x), Averaged(2, 4, 2)(x)
    assert torch.equal(taken[:, :2], x[:, :, ::2, ::2]) and not taken[:, 2:].any()
    torch.testing.assert_close(averaged[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    assert not averaged[:, 2:].any()
    assert torch.equal(Padded(2, 2, 1)(x), x)


def test_maps_have_32_16_and_8_pixels() -> None:
    model, seen = S20(10, 16, 3, padded_block).eval(), []
    for block in model.blocks().values():
        block.register_forward_hook(lambda m, i, output: seen.append(output.shape[-1]))
    model(torch.rand(1, 3, 32, 32))
    assert seen == [32] * 3 + [16] * 3 + [8] * 3


def test_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        S20(10, 16, 0, padded_block)
