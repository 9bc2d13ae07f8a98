import pytest
import torch

from harness.models.shake_shake import Shake, TwoPaths, shake_shake, shake_shake26


def branches(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    first, second = (torch.randn(n, 2, 3, 3, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


def test_mean_and_variance_of_the_mixture() -> None:
    y1, y2 = (y.detach() for y in branches(1))
    shake = Shake().train()
    draws = torch.stack([shake(y1, y2) for _ in range(20_000)])
    torch.testing.assert_close(draws.mean(0), (y1 + y2) / 2, rtol=0, atol=0.03)
    torch.testing.assert_close(draws.var(0), (y1 - y2) ** 2 / 12, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(shake.eval()(y1, y2), (y1 + y2) / 2)
    torch.testing.assert_close(Shake("even", "even").train()(y1, y2), (y1 + y2) / 2)


@pytest.mark.parametrize("per_image", [True, False])
def test_gradients_have_a_fresh_b_in_shake_mode_and_a_in_keep_mode(per_image: bool) -> None:
    for backwards in ("shake", "keep", "even"):
        y1, y2 = branches()
        mixed = Shake("shake", backwards, per_image).train()(y1, y2)
        a = ((mixed - y2) / (y1 - y2)).detach()
        mixed.sum().backward()
        b = y1.grad
        torch.testing.assert_close(y1.grad + y2.grad, torch.ones_like(y1))
        shares = b.flatten(1)
        assert (shares == shares[:, :1]).all()
        assert shares[:, 0].unique().numel() == (1 if backwards == "even" or not per_image else 6)
        torch.testing.assert_close(a, a[:, :1, :1, :1].expand_as(a))
        assert torch.allclose(a, b) == (backwards == "keep")
        if backwards == "even":
            assert (b == 0.5).all()


def test_images_draw_for_themselves_or_together() -> None:
    y1, y2 = torch.ones(50, 1, 1, 1), torch.zeros(50, 1, 1, 1)
    assert Shake().train()(y1, y2).unique().numel() == 50
    assert Shake(per_image=False).train()(y1, y2).unique().numel() == 1


def test_the_shortcut_takes_two_paths_a_pixel_apart() -> None:
    paths = TwoPaths(2, 4, 2).eval()
    for conv in (paths.here, paths.there):
        torch.nn.init.dirac_(conv.weight)
    x = torch.rand(1, 2, 6, 6)
    out = paths(x) * (1 + paths.norm.eps) ** 0.5
    torch.testing.assert_close(out[:, :2], x[:, :, ::2, ::2])
    torch.testing.assert_close(out[:, 2:], x[:, :, 1::2, 1::2])


def test_the_preset_has_twelve_blocks_of_two_branches() -> None:
    model = shake_shake26()
    assert len(model.blocks()) == 12
    # 26 layers: the stem, twelve blocks of two convolutions, the head.
    block = model.trunk[0].f1
    assert block[1].out_channels == 32 and model.trunk[11].f2[4].out_channels == 128


@pytest.mark.parametrize(
    "arguments, message",
    [({"forwards": "keep"}, "`forwards` must be"), ({"backwards": "odd"}, "`backwards` must be")],
)
def test_unknown_modes_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shake_shake(width=8, **arguments)
