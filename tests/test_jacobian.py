import pytest
import torch
from torch import Tensor

from harness.suites.jacobian import Linear, log_norm, spectral_norm, spectral_radius


def matrices(n: int = 3, size: int = 6) -> Tensor:
    return torch.randn(
        n, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )


def linear(a: Tensor) -> Linear:
    """The map x -> A x, another A for each sample."""
    x = torch.randn(len(a), a.shape[2], dtype=torch.float64)
    return Linear(lambda x: torch.einsum("nij,nj->ni", a, x), x)


def test_products_with_the_derivative_and_its_transpose() -> None:
    a, jacobian = matrices(), linear(matrices())
    v = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(jacobian(v), torch.einsum("nij,nj->ni", a, v))
    torch.testing.assert_close(jacobian.transpose(v), torch.einsum("nij,ni->nj", a, v))


def test_norms_agree_with_dense_linear_algebra() -> None:
    a, jacobian = matrices(), linear(matrices())
    sigma = spectral_norm(jacobian, iterations=300)
    torch.testing.assert_close(sigma, torch.linalg.matrix_norm(a, 2), rtol=1e-6, atol=0)
    found = log_norm(jacobian, sigma, iterations=3000)
    expected = torch.linalg.eigvalsh((a + a.mT) / 2)[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_radius_counts_complex_pairs() -> None:
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = 1.3 * torch.stack(
        (torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos())))
    )
    slow = torch.diag(torch.tensor([0.4, -0.9], dtype=torch.float64))
    a = torch.block_diag(turn, slow)[None]
    assert spectral_radius(linear(a), iterations=400).item() == pytest.approx(1.3, rel=1e-3)


def test_samples_do_not_know_of_each_other() -> None:
    a = matrices()
    whole = linear(a)
    for i in range(len(a)):
        one = linear(a[i : i + 1])
        torch.testing.assert_close(spectral_norm(whole)[i : i + 1], spectral_norm(one))


def test_the_largest_eigenvalue_is_found_though_a_negative_one_is_larger_in_size() -> None:
    a = torch.diag(torch.tensor([-5.0, 0.5, -1.0], dtype=torch.float64))[None]
    jacobian = linear(a)
    sigma = spectral_norm(jacobian)
    assert sigma.item() == pytest.approx(5)
    assert log_norm(jacobian, sigma, iterations=200).item() == pytest.approx(0.5)


def test_a_map_to_another_shape_has_no_eigenvalues() -> None:
    x = torch.randn(2, 6, dtype=torch.float64)
    jacobian = Linear(lambda x: 2 * x[:, :4], x)
    assert spectral_norm(jacobian).tolist() == pytest.approx([2, 2])
    with pytest.raises(ValueError, match="must have one shape"):
        spectral_radius(jacobian)
    with pytest.raises(ValueError, match="must have one shape"):
        log_norm(jacobian, spectral_norm(jacobian))


def test_a_nonlinear_map_where_it_stands() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert spectral_norm(Linear(lambda x: x**3, x)).item() == pytest.approx(12)
