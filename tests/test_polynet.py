import pytest
import torch
from torch import Tensor, nn

from harness.models.polynet import PolyBlock, polynet, polynet_2way, polynet_tied
from harness.models.slots import resnet18_slot


class Linear(nn.Module):
    """f(x) = A x on the channels."""

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.A, self.calls = A, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.einsum("ij,njhw->nihw", self.A, x)


def linear_block(A: Tensor, kind: str = "poly-2") -> PolyBlock:
    block = PolyBlock(len(A), kind)
    block.f = Linear(A)
    block.g = block.f if kind == "poly-2" else Linear(2 * A)
    return block


def test_poly_2_is_a_neumann_series_up_to_its_third_term() -> None:
    torch.manual_seed(0)
    A = torch.randn(4, 4, dtype=torch.float64)
    x = torch.randn(3, 4, 1, 1, dtype=torch.float64)
    for size in (0.3, 0.1):
        A = size * A / torch.linalg.matrix_norm(A, 2)
        exact = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - A, x[:, :, 0, 0].T).T
        error = (linear_block(A)(x)[:, :, 0, 0] - exact).norm(dim=1)
        assert (error <= size**3 / (1 - size) * x.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("z, grows", [(-0.999, False), (-1.001, True), (0.001, True)])
def test_poly_2_is_stable_on_a_shorter_interval_than_euler(z: float, grows: bool) -> None:
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    A = torch.full((1, 1), z, dtype=torch.float64)
    assert (linear_block(A)(x).item() > 1) == grows
    assert (abs(1 + z) > 1) == (z > 0), "Euler reaches down to -2"


@pytest.mark.parametrize("y, grows", [(0.99, False), (1.01, True)])
def test_poly_2_is_stable_on_a_piece_of_the_imaginary_axis_where_euler_is_not(
    y: float, grows: bool
) -> None:
    turn = y * torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    assert (float(linear_block(turn)(x).norm()) > 1) == grows
    assert abs(1 + y * 1j) > 1


def test_kinds_combine_their_functions_as_named() -> None:
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    A = torch.full((1, 1), 0.5, dtype=torch.float64)
    values = {k: linear_block(A, k)(x).item() for k in ("poly-2", "mpoly-2", "2-way")}
    assert values == {"poly-2": 1.75, "mpoly-2": 2.0, "2-way": 2.5}


def test_f_is_evaluated_twice_and_has_the_weights_of_a_plain_slot() -> None:
    block = linear_block(torch.eye(2))
    block(torch.ones(1, 2, 1, 1))
    assert block.f.calls == 2

    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    plain = count(resnet18_slot(width=8))
    assert count(polynet(width=8)) == count(polynet_tied(width=8)) == plain
    slots = sum(18 * c * c + 4 * c for c in (8, 16, 32, 64))
    assert count(polynet_2way(width=8)) == count(polynet(width=8, kind="mpoly-2")) == plain + slots


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of poly-2, mpoly-2, 2-way"):
        polynet(width=8, kind="poly-3")
