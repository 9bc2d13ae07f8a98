import pytest
import torch
from torch import Tensor, nn

from harness.models.fractalnet import (
    Drop,
    Fractal,
    FractalSlot,
    fractalnet,
    fractalnet20,
    fractalnet_column,
)


class Named(nn.Module):
    """A unit that multiplies by a factor, and counts."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.factor, self.calls = 1.0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.factor * x


@pytest.mark.parametrize("columns, units, depth", [(1, 1, 1), (2, 3, 2), (3, 7, 4), (4, 15, 8)])
def test_units_and_depth(columns: int, units: int, depth: int) -> None:
    fractal = Fractal(columns, 2, 2, Named)
    found = [m for m in fractal.modules() if isinstance(m, Named)]
    assert len(found) == units
    # With every unit doubling, column k of depth d multiplies by 2^d; inner means mix depths.
    for m in found:
        m.factor = 2.0
    out = fractal(torch.ones(1), Drop())
    assert len(out) == columns and out[-1].item() == 2
    if columns > 1:
        deepest = fractal(torch.ones(1), Drop(column=0))[0].item()
        assert deepest == 2**depth


def test_means_are_flat() -> None:
    fractal = Fractal(3, 2, 2, Named)  # identity units
    drop = Drop()
    inputs = fractal(torch.ones(1), drop)
    assert len(inputs) == 3, "one mean over three columns, not two means of two"
    # Mark the columns: the weights of the mean are a third each.
    assert drop.join([torch.tensor(v) for v in (3.0, 30.0, 300.0)]).item() == pytest.approx(111.0)


def test_a_column_alone_is_all_that_is_computed() -> None:
    for column, expected in ((0, 4), (1, 2), (2, 1)):
        fractal = Fractal(3, 2, 2, Named)
        found = [m for m in fractal.modules() if isinstance(m, Named)]
        for m in found:
            m.factor = 2.0
        drop = Drop(column=column)
        assert drop.join(fractal(torch.ones(1), drop)).item() == 2**expected
        assert sum(m.calls for m in found) == expected


def test_local_drops_average_the_survivors_and_never_drop_all() -> None:
    torch.manual_seed(0)
    inputs = [torch.tensor(v) for v in (1.0, 10.0, 100.0)]
    drop, seen = Drop(local=0.5), set()
    for _ in range(300):
        seen.add(round(drop.join(inputs).item(), 3))
    means = {1.0, 10.0, 100.0, 5.5, 50.5, 55.0, 37.0}
    assert seen == means


def test_drop_path_is_half_global_and_half_local_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    model = fractalnet20(width=8).train()
    drawn = [model.draw() for _ in range(2000)]
    columns = [d.column for d in drawn if d.column is not None]
    assert abs(len(columns) / 2000 - 0.5) < 0.05
    assert all(abs(columns.count(c) / len(columns) - 1 / 3) < 0.06 for c in range(3))
    assert {d.local for d in drawn if d.column is None} == {0.15}
    model.eval()
    assert model.draw().column is None and model.draw().local == 0.0


def test_convolutions_of_the_preset() -> None:
    convs = [m for m in fractalnet20(width=64).modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 5 * 7
    assert max(c.out_channels for c in convs) == 512


def test_slots_and_their_null() -> None:
    def convs(model: nn.Module) -> int:
        return sum(isinstance(m, nn.Conv2d) for m in model.modules())

    assert convs(fractalnet(width=8)) - convs(fractalnet_column(width=8)) == 4
    assert convs(fractalnet_column(width=8, units=3)) == convs(fractalnet(width=8))
    with pytest.raises(ValueError, match="`columns` must be at least 1"):
        FractalSlot(8, 0)


def test_batch_statistics_are_those_of_the_whole_network_without_dropout() -> None:
    torch.manual_seed(0)
    model = fractalnet20(width=4)
    images = torch.rand(32, 3, 32, 32)
    for _ in range(3):
        model.train()(images)
    before = model.fractals[4].short[2].running_var.clone()
    model.recalibrate([images])
    assert not any(m.training for m in model.modules())
    assert not torch.equal(model.fractals[4].short[2].running_var, before)
    seen = []
    for fractal in model.fractals:
        fractal.short[2].register_forward_hook(lambda norm, i, o: seen.append((norm, i[0])))
    model(images)
    assert len(seen) == 5
    for norm, x in seen:
        # Evaluation divides by the unbiased variance, a batch by its own: they differ by 1 / n.
        apart = norm.running_mean - x.mean((0, 2, 3))
        assert apart.abs().max() < 0.05 * x.std((0, 2, 3)).mean()
        torch.testing.assert_close(norm.running_var, x.var((0, 2, 3)), rtol=0.1, atol=1e-6)
        assert norm.momentum == 0.1
