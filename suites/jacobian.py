"""Singular values and eigenvalues of a map's derivative, sample by sample, by power iteration.

J = dy / dx of y = f(x), where a sample of y depends on the same sample of x. J^T w comes from one
backward pass, J v from differentiating J^T w once more in w: no matrix is ever built.

    spectral_norm   sigma_max(J)                    by v <- J^T J v
    spectral_radius max |lambda(J)|                 by v <- J v
    log_norm        lambda_max((J + J^T) / 2)       by v <- (J + J^T) / 2 v + sigma_max(J) v

The logarithmic norm of J - I bounds how fast the flow of x_t = f(x) - x drives two states apart:
|dx(t)| <= exp(log_norm t) |dx(0)|; it is negative where that contracts.

Reference: G. H. Golub and C. F. Van Loan, Matrix Computations, section 7.3; G. Soderlind, The
logarithmic norm. History and modern theory, BIT 46, 2006 (log_norm).
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Linear:
    """The derivative of `f` at x (N, ...), sample by sample.

    Args:
        f: x to y (M, ...), M = N.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            self.x = x.clone().requires_grad_()
            self.y = f(self.x)
            self.w = torch.zeros_like(self.y, requires_grad=True)
            (self.back,) = torch.autograd.grad(self.y, self.x, self.w, create_graph=True)

    @property
    def square(self) -> bool:
        """Whether x and y have the same shape."""
        return self.x.shape == self.y.shape

    def transpose(self, w: Tensor) -> Tensor:
        """Return J^T w."""
        (found,) = torch.autograd.grad(self.y, self.x, w, retain_graph=True)
        return found

    def __call__(self, v: Tensor) -> Tensor:
        """Return J v."""
        (found,) = torch.autograd.grad(self.back, self.w, v, retain_graph=True)
        return found


def norm(v: Tensor) -> Tensor:
    """Return |v| of each sample, (N,), double."""
    return v.flatten(1).double().norm(dim=1)


def unit(v: Tensor) -> Tensor:
    """Return v / |v|, sample by sample; 0 stays 0."""
    length = norm(v).clamp(min=torch.finfo(torch.float64).tiny)
    return (v / length.view(-1, *[1] * (v.ndim - 1))).to(v.dtype)


def start(x: Tensor) -> Tensor:
    """Return unit vectors like x, the same for every sample and batch."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(x.shape[1:], generator=generator).to(x)
    return unit(one.expand_as(x))


def spectral_norm(jacobian: Linear, iterations: int = 20) -> Tensor:
    """Return sigma_max(J) of each sample, (N,); it is approached from below."""
    with torch.inference_mode(False):
        v = start(jacobian.x.detach())
        for _ in range(iterations):
            v = unit(jacobian.transpose(jacobian(v)))
        return norm(jacobian(v))


def spectral_radius(jacobian: Linear, iterations: int = 40) -> Tensor:
    """Return max |lambda(J)| of each sample, (N,).

    The mean growth of the second half of the iterations, so that a complex pair, under which the
    length of v goes up and down, is measured too.

    Raises:
        ValueError: J is not square.
    """
    check_square(jacobian)
    with torch.inference_mode(False):
        v, logs = start(jacobian.x.detach()), []
        for _ in range(iterations):
            v = jacobian(v)
            logs.append(norm(v).log())
            v = unit(v)
        return torch.stack(logs[iterations // 2 :]).mean(dim=0).exp()


def check_square(jacobian: Linear) -> None:
    """Refuse a derivative that has no eigenvalues.

    Raises:
        ValueError: x and y have different shapes.
    """
    if not jacobian.square:
        raise ValueError(
            f"x {tuple(jacobian.x.shape)} and f(x) {tuple(jacobian.y.shape)} must have one shape: "
            "only a square matrix has eigenvalues. Ask for `spectral_norm`."
        )


def log_norm(jacobian: Linear, sigma: Tensor, iterations: int = 40) -> Tensor:
    """Return lambda_max((J + J^T) / 2) of each sample, (N,); it is approached from below.

    Args:
        sigma: (N,), sigma_max(J): shifts all eigenvalues to where the largest is also the largest
            in size.

    Raises:
        ValueError: J is not square.
    """
    check_square(jacobian)
    with torch.inference_mode(False):
        shift = sigma.view(-1, *[1] * (jacobian.x.ndim - 1)).to(jacobian.x.dtype)
        v = start(jacobian.x.detach())

        def symmetric(v: Tensor) -> Tensor:
            return (jacobian(v) + jacobian.transpose(v)) / 2

        for _ in range(iterations):
            v = unit(symmetric(v) + shift * v)
        return (v * symmetric(v)).flatten(1).double().sum(dim=1)
