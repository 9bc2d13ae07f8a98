"""Linear diffusion against closed forms, for every scheme and boundary, in float64."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import heat
from harness.models.ops.heat import BOUNDARIES, SCHEMES, step_sizes

every_scheme = pytest.mark.parametrize("scheme", SCHEMES)
every_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)
machine: dict[str, Any] = {"rtol": 0, "atol": 1e-13}


def factor(eigenvalue: float, t: float, num_steps: int, scheme: str) -> float:
    dt = t / num_steps
    if scheme == "explicit":
        return (1 + dt * eigenvalue) ** num_steps
    if scheme == "implicit":
        return (1 - dt * eigenvalue) ** -num_steps
    if scheme == "exact":
        return math.exp(t * eigenvalue)
    return math.prod(1 + tau * eigenvalue for tau in step_sizes(t, num_steps, "fed"))


def laplacian(u: Tensor, boundary: str = "neumann") -> Tensor:
    neighbors = torch.zeros_like(u)
    for dim in (-1, -2):
        n = u.shape[dim]
        for shift, border in ((1, 0), (-1, n - 1)):
            neighbor = u.roll(shift, dim)
            if boundary == "neumann":
                neighbor.select(dim, border).copy_(u.select(dim, border))
            if boundary == "dirichlet":
                neighbor.select(dim, border).zero_()
            neighbors += neighbor
    return neighbors - 4 * u


def mode(k: int, n: int, boundary: str) -> tuple[Tensor, float]:
    """Return mode k of an axis of n cells, and its eigenvalue."""
    i = torch.arange(n, dtype=torch.float64)
    if boundary == "neumann":
        return torch.cos(math.pi * k * (i + 0.5) / n), 2 * math.cos(math.pi * k / n) - 2
    if boundary == "periodic":
        return torch.cos(2 * math.pi * k * i / n + 0.3), 2 * math.cos(2 * math.pi * k / n) - 2
    angle = math.pi * (k + 1) / (n + 1)
    return torch.sin(angle * (i + 1)), 2 * math.cos(angle) - 2


def eigenmode(kx: int, ky: int, n: int, boundary: str = "neumann") -> tuple[Tensor, float]:
    """Return the product of two modes as a state (1, 1, n, n), and its eigenvalue."""
    x, lam_x = mode(kx, n, boundary)
    y, lam_y = mode(ky, n, boundary)
    return (y[:, None] * x)[None, None], lam_x + lam_y


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@every_scheme
@every_boundary
@pytest.mark.parametrize("kx, ky", [(0, 0), (1, 0), (2, 3), (15, 15)])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_steps_scale_an_eigenmode_by_its_factor(
    scheme: str, boundary: str, kx: int, ky: int, num_steps: int
) -> None:
    u, eigenvalue = eigenmode(kx, ky, 16, boundary)
    t = 0.15 * num_steps
    v = heat(u, t, num_steps=num_steps, scheme=scheme, boundary=boundary)
    assert_close(v, factor(eigenvalue, t, num_steps, scheme) * u, **machine)


@every_boundary
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 5, 9), (1, 1, 1, 4), (1, 1, 1, 1)])
def test_explicit_steps_are_those_of_the_stencil(boundary: str, shape: Any) -> None:
    u = v = noise(*shape)
    for _ in range(6):
        v = v + 0.2 * laplacian(v, boundary)
    assert_close(heat(u, dt=0.2, num_steps=6, boundary=boundary), v, **machine)


@every_boundary
def test_an_implicit_step_solves_its_equation(boundary: str) -> None:
    u = noise(1, 2, 7, 10)
    v = heat(u, dt=3.0, num_steps=1, scheme="implicit", boundary=boundary)
    assert_close(v - 3.0 * laplacian(v, boundary), u, **machine)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 30])
def test_steps_of_fast_explicit_diffusion_sum_to_its_time(num_steps: int) -> None:
    t = 0.25 * (num_steps**2 + num_steps) / 3
    assert math.fsum(step_sizes(t, num_steps, "fed")) == pytest.approx(t, rel=1e-12)


def test_fast_explicit_diffusion_takes_the_square_root_of_the_steps() -> None:
    u, eigenvalue = eigenmode(1, 2, 32)
    v = heat(u, 9.1, scheme="fed", num_steps=10)  # explicit steps would be 37
    assert_close(v, math.exp(9.1 * eigenvalue) * u, rtol=0, atol=0.04)
    with pytest.raises(ValueError, match="num_steps >= 10"):
        heat(u, 9.1, scheme="fed", num_steps=9)


@every_scheme
def test_the_error_in_space_is_of_order_two(scheme: str) -> None:
    # u = cos(pi x) cos(2 pi y) on [0, 1]² decays like exp(-5 pi² t).
    errors = []
    for n in (16, 32, 64):
        u, _ = eigenmode(1, 2, n)
        time = 0.01 * n * n  # 0.01 on the unit square, in pixel²
        v, cycles = u, n * n // 128 if scheme == "fed" else 1
        for _ in range(cycles):  # a cycle of fast explicit diffusion is one step of fixed ratio
            num_steps = 5 if scheme == "fed" else n * n // 16
            v = heat(v, time / cycles, num_steps=num_steps, scheme=scheme)
        errors.append((v - math.exp(-5 * math.pi**2 * 0.01) * u).abs().max())
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    print(scheme, orders)
    assert orders == pytest.approx([2, 2], abs=0.1)


@pytest.mark.parametrize("scheme", ["explicit", "implicit", "fed"])
@every_boundary
def test_the_error_in_time_is_of_the_first_order(scheme: str, boundary: str) -> None:
    u, eigenvalue = eigenmode(2, 1, 16, boundary)
    errors = []
    for num_steps in (32, 64, 128):
        t = 2.0
        if scheme == "fed":  # cycles of three stages
            v = u
            for _ in range(num_steps):
                v = heat(v, t / num_steps, num_steps=3, scheme=scheme, boundary=boundary)
        else:
            v = heat(u, t, num_steps=num_steps, scheme=scheme, boundary=boundary)
        errors.append((v - math.exp(t * eigenvalue) * u).abs().max())
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    print(scheme, boundary, orders)
    assert orders == pytest.approx([1, 1], abs=0.1)


@settings(deadline=None, max_examples=40)
@given(
    t=st.floats(0, 20), scheme=st.sampled_from(SCHEMES[:3]), boundary=st.sampled_from(BOUNDARIES)
)
def test_no_new_extremum_appears(t: Any, scheme: str, boundary: str) -> None:
    u = noise(1, 2, 9, 6)
    v = heat(u, t, scheme=scheme, boundary=boundary)
    low, high = u.min(), u.max()  # on either side of the 0 beyond a Dirichlet border
    assert v.min() >= low - 1e-12 and v.max() <= high + 1e-12


@settings(deadline=None, max_examples=40)
@given(t=st.floats(0, 20), scheme=st.sampled_from(SCHEMES), boundary=st.sampled_from(BOUNDARIES))
def test_the_norm_never_grows(t: Any, scheme: str, boundary: str) -> None:
    u = noise(1, 2, 9, 6)
    assert heat(u, t, scheme=scheme, boundary=boundary).norm() <= u.norm() + 1e-12


@pytest.mark.parametrize("scheme", SCHEMES[:3])
@pytest.mark.parametrize("boundary", BOUNDARIES[:2])
def test_the_total_variation_never_grows(scheme: str, boundary: str) -> None:
    u = noise(1, 1, 12, 12)
    variations = []
    for t in (0, 0.1, 0.5, 2, 8):
        v = heat(u, t, scheme=scheme, boundary=boundary)
        if boundary == "periodic":
            variations.append(sum((v - v.roll(1, d)).abs().sum() for d in (-1, -2)))
        else:
            variations.append(sum(v.diff(dim=d).abs().sum() for d in (-1, -2)))
    assert all(b <= a + 1e-12 for a, b in pairwise(variations))


@pytest.mark.parametrize("scheme", SCHEMES[:3])
@every_boundary
def test_time_adds_up(scheme: str, boundary: str) -> None:
    u = noise(2, 1, 8, 11)
    kwargs: dict[str, Any] = {"dt": 0.25, "scheme": scheme, "boundary": boundary}
    twice = heat(heat(u, num_steps=3, **kwargs), num_steps=5, **kwargs)
    assert_close(twice, heat(u, num_steps=8, **kwargs), **machine)


@every_scheme
@pytest.mark.parametrize("boundary", BOUNDARIES[:2])
def test_mass_is_conserved(scheme: str, boundary: str) -> None:
    u = noise(2, 3, 8, 11)
    v = heat(u, 3.0, scheme=scheme, boundary=boundary)
    assert_close(v.sum((-1, -2)), u.sum((-1, -2)), rtol=0, atol=1e-12)


@every_scheme
def test_mass_leaves_through_a_cold_border(scheme: str) -> None:
    u = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    assert heat(u, 3.0, scheme=scheme, boundary="dirichlet").sum() < 0.9 * u.sum()


@every_scheme
@every_boundary
def test_diffusion_is_self_adjoint(scheme: str, boundary: str) -> None:
    u, w = noise(2, 3, 8, 11), noise(2, 3, 8, 11, seed=1)
    kwargs: dict[str, Any] = {"t": 3.0, "scheme": scheme, "boundary": boundary}
    assert_close((heat(u, **kwargs) * w).sum(), (u * heat(w, **kwargs)).sum(), rtol=0, atol=1e-12)


@every_scheme
@every_boundary
@pytest.mark.parametrize(
    "symmetry", [lambda u: u.flip(-1), lambda u: u.flip(-2), lambda u: u.transpose(-1, -2)]
)
def test_symmetries_of_the_grid_commute_with_diffusion(
    scheme: str, boundary: str, symmetry: Any
) -> None:
    u = noise(1, 2, 9, 9)
    kwargs: dict[str, Any] = {"t": 2.0, "scheme": scheme, "boundary": boundary}
    assert_close(heat(symmetry(u), **kwargs), symmetry(heat(u, **kwargs)), **machine)


@every_scheme
@pytest.mark.parametrize("boundary", BOUNDARIES[:2])
def test_constants_stay(scheme: str, boundary: str) -> None:
    u = torch.full((1, 2, 8, 11), 0.3, dtype=torch.float64)
    assert_close(heat(u, 3.0, scheme=scheme, boundary=boundary), u, **machine)


def test_a_quarter_is_the_sharp_limit() -> None:
    checkerboard, eigenvalue = eigenmode(63, 63, 64)
    assert heat(checkerboard, dt=0.25, num_steps=1).norm() <= checkerboard.norm()
    assert abs(1 + 0.2505 * eigenvalue) > 1
    with pytest.raises(ValueError, match="dt = 0.2505 exceeds the stability limit 0.25"):
        heat(checkerboard, dt=0.2505, num_steps=1)
    with pytest.raises(ValueError, match="diffusivity . dt = 0.26 exceeds"):
        heat(checkerboard, dt=0.13, num_steps=1, diffusivity=2.0)
    with pytest.raises(ValueError, match="exceeds"):
        heat(checkerboard, dt=0.13, num_steps=1, diffusivity=torch.tensor([2.0]))


@every_scheme
def test_each_channel_has_its_diffusivity(scheme: str) -> None:
    u, D = noise(2, 3, 6, 7), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    v = heat(u, 1.2, num_steps=6, diffusivity=D, scheme=scheme)
    for c in range(3):
        alone = heat(u[:, c : c + 1], 1.2, num_steps=6, diffusivity=float(D[c]), scheme=scheme)
        assert_close(v[:, c : c + 1], alone, **machine)


@every_scheme
@every_boundary
def test_gradients_are_those_of_finite_differences(scheme: str, boundary: str) -> Any:
    u = noise(2, 2, 3, 4).requires_grad_()
    D = torch.tensor([0.4, 0.9], dtype=torch.float64, requires_grad=True)

    def f(u: Tensor, D: Any) -> Any:
        return heat(u, 0.6, num_steps=3, diffusivity=D, scheme=scheme, boundary=boundary)

    assert torch.autograd.gradcheck(f, (u, D))
    assert torch.autograd.gradgradcheck(f, (u, D))
    assert torch.autograd.gradcheck(f, (u, D[0].detach().requires_grad_()))


@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_low_precision_is_rounded_once(dtype: torch.dtype, atol: float) -> None:
    u = noise(2, 3, 32, 32)
    v = heat(u.to(dtype), dt=0.2, num_steps=10)
    assert v.dtype == dtype
    assert_close(v.double(), heat(u.to(dtype).double(), dt=0.2, num_steps=10), rtol=0, atol=atol)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"t": -1.0}, r"`t` must be >= 0 and finite; got t=-1.0. Diffusion cannot run backwards."),
        ({"t": math.nan}, "Give a finite `t`"),
        ({"dt": -0.1, "num_steps": 1}, "`dt` must be >= 0"),
        ({}, "got none of them"),
        ({"dt": 0.1}, "got `dt`"),
        ({"t": 1.0, "dt": 0.1, "num_steps": 10}, "determine the steps"),
        ({"t": 1.0, "dt": 0.15}, "whole number of steps"),
        ({"t": 1.0, "num_steps": 0}, "`num_steps` must be >= 1"),
        (
            {"t": 2.0, "num_steps": 4},
            "Step size t / num_steps = 0.5 exceeds the stability limit 0.25. Use num_steps >= 8",
        ),
        ({"t": 1.0, "scheme": "euler"}, "must be one of explicit, implicit, exact, fed"),
        ({"t": 1.0, "boundary": "reflect"}, "must be one of neumann, periodic, dirichlet"),
        ({"t": 1.0, "diffusivity": -1.0}, "`diffusivity` must be >= 0"),
        ({"t": 1.0, "diffusivity": torch.ones(4)}, r"shape \(\) or \(3,\)"),
        ({"t": 1.0, "diffusivity": -torch.ones(3)}, "`diffusivity` must be >= 0"),
    ],
)
def test_what_is_out_of_range_is_refused(kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heat(torch.zeros(2, 3, 4, 4), **kwargs)


@pytest.mark.parametrize(
    "u, message",
    [
        (torch.zeros(3, 4, 4), r"`u` must have shape \(N, C, H, W\); got \(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_what_is_no_state_is_refused(u: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heat(u, 1.0)


@every_scheme
def test_no_time_changes_nothing(scheme: str) -> None:
    u = noise(2, 3, 8, 8)
    assert_close(heat(u, 0.0, scheme=scheme), u, **machine)
