"""Nonlinear diffusion against its theorems, its linear limit and an independent program."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.filter.smoothing import anisotropic_diffusion
from torch import Tensor
from torch.testing import assert_close

from harness.models.ops import heat, perona_malik
from harness.models.ops.perona_malik import EDGE_STOPS

every_edge_stop = pytest.mark.parametrize("edge_stop", EDGE_STOPS)
coupled_or_not = pytest.mark.parametrize("coupled", [True, False])
smoothed_or_not = pytest.mark.parametrize("sigma", [0.0, 0.8])
machine: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("option, edge_stop", [(1, "exponential"), (2, "rational")])
@pytest.mark.parametrize("shape", [(32, 32), (5, 9)])
def test_planes_agree_with_medpy(option: int, edge_stop: str, shape: Any) -> None:
    u = noise(*shape)
    theirs = anisotropic_diffusion(u.numpy(), niter=10, kappa=0.7, gamma=0.2, option=option)
    assert theirs.dtype == np.float32  # medpy computes in single precision
    ours = perona_malik(u[None, None], dt=0.2, num_steps=10, kappa=0.7, edge_stop=edge_stop)
    assert_close(ours[0, 0], torch.from_numpy(theirs).double(), rtol=0, atol=1e-6)


@coupled_or_not
@every_edge_stop
@smoothed_or_not
def test_one_step_is_the_sum_over_four_neighbors(coupled: bool, edge_stop: Any, sigma: Any) -> None:
    u = noise(2, 3, 4, 5)
    v = heat(u, sigma**2 / 2, scheme="exact")
    kappa, dt = 0.8, 0.2
    expected = u.clone()
    for n in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                        if not (0 <= k < 4 and 0 <= m < 5):
                            continue
                        e = v[n, :, k, m] - v[n, :, i, j]
                        s = float(e.norm() if coupled else e[c].abs()) / kappa
                        g = {
                            "rational": 1 / (1 + s**2),
                            "exponential": math.exp(-(s**2)),
                            "weickert": 1 - math.exp(-3.31488 / s**8),
                        }[edge_stop]
                        expected[n, c, i, j] += dt * g * (u[n, c, k, m] - u[n, c, i, j])
    ours = perona_malik(
        u, dt=dt, num_steps=1, kappa=kappa, edge_stop=edge_stop, coupled=coupled, sigma=sigma
    )
    assert_close(ours, expected, **machine)


@every_edge_stop
@coupled_or_not
@smoothed_or_not
def test_it_is_heat_for_infinite_kappa(edge_stop: Any, coupled: bool, sigma: Any) -> None:
    u = noise(2, 3, 8, 11)
    linear = heat(u, dt=0.2, num_steps=10)
    kwargs = {"dt": 0.2, "num_steps": 10, "edge_stop": edge_stop}
    kwargs |= {"coupled": coupled, "sigma": sigma}
    gaps = [(perona_malik(u, kappa=k, **kwargs) - linear).abs().max() for k in (60.0, 120.0, 1e9)]
    assert gaps[2] < 1e-13
    if edge_stop != "weickert":  # whose gap shrinks beyond any power
        assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.02)  # like kappa^-2


@every_edge_stop
def test_nothing_moves_for_kappa_to_zero(edge_stop: Any) -> None:
    u = noise(2, 3, 8, 11)
    assert_close(
        perona_malik(u, dt=0.2, num_steps=10, kappa=1e-9, edge_stop=edge_stop), u, rtol=0, atol=1e-9
    )


@every_edge_stop
@coupled_or_not
@smoothed_or_not
def test_mass_is_conserved(edge_stop: Any, coupled: bool, sigma: Any) -> None:
    u = noise(2, 3, 8, 11)
    v = perona_malik(u, 2.0, kappa=0.5, edge_stop=edge_stop, coupled=coupled, sigma=sigma)
    assert_close(v.sum((-1, -2)), u.sum((-1, -2)), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    kappa=st.floats(1e-3, 1e3),
    dt=st.floats(0, 0.25),
    edge_stop=st.sampled_from(EDGE_STOPS),
    coupled=st.booleans(),
    sigma=st.sampled_from([0.0, 1.0]),
)
def test_no_new_extremum_appears_and_the_norm_never_grows(
    kappa: Any, dt: Any, edge_stop: Any, coupled: bool, sigma: Any
) -> None:
    u = noise(1, 2, 7, 6)
    kwargs = {"kappa": kappa, "edge_stop": edge_stop, "coupled": coupled, "sigma": sigma}
    v = perona_malik(u, dt=dt, num_steps=5, **kwargs)
    assert (v.amin((-1, -2)) >= u.amin((-1, -2)) - 1e-12).all()
    assert (v.amax((-1, -2)) <= u.amax((-1, -2)) + 1e-12).all()
    assert v.norm() <= u.norm() + 1e-12


@every_edge_stop
@coupled_or_not
@pytest.mark.parametrize(
    "symmetry", [lambda u: u.flip(-1), lambda u: u.flip(-2), lambda u: u.transpose(-1, -2)]
)
def test_symmetries_of_the_grid_commute_with_diffusion(
    edge_stop: Any, coupled: bool, symmetry: Any
) -> Any:
    def diffuse(u: Tensor) -> Any:
        return perona_malik(u, 2.0, kappa=0.5, edge_stop=edge_stop, coupled=coupled, sigma=0.5)

    u = noise(1, 2, 9, 9)
    assert_close(diffuse(symmetry(u)), symmetry(diffuse(u)), **machine)


@every_edge_stop
def test_constants_stay_exactly(edge_stop: Any) -> None:
    u = torch.full((1, 2, 8, 11), 0.3)
    assert torch.equal(perona_malik(u, 2.0, kappa=0.1, edge_stop=edge_stop), u)


def test_coupled_channels_keep_grays_gray() -> None:
    gray = noise(2, 1, 8, 8).expand(-1, 3, -1, -1)
    v = perona_malik(gray, 2.0, kappa=0.5)
    assert torch.equal(v[:, 0], v[:, 1]) and torch.equal(v[:, 0], v[:, 2])
    alone = perona_malik(gray[:, :1], 2.0, kappa=0.5 / math.sqrt(3))
    assert_close(v[:, :1], alone, **machine)


@every_edge_stop
def test_an_edge_outlasts_the_noise_around_it(edge_stop: Any) -> None:
    u = 0.02 * noise(1, 1, 16, 16)
    u[..., 8:] += 1
    v = perona_malik(u, 5.0, kappa=0.1, edge_stop=edge_stop)
    assert (v[..., 8] - v[..., 7]).min() > 0.9
    assert v[..., :8].std() < 0.4 * u[..., :8].std()


@every_edge_stop
@coupled_or_not
@smoothed_or_not
def test_each_image_has_its_kappa(edge_stop: Any, coupled: bool, sigma: Any) -> None:
    u, kappa = noise(3, 2, 8, 5), torch.tensor([0.1, 0.5, 3.0], dtype=torch.float64)
    kwargs = {"dt": 0.2, "num_steps": 6, "edge_stop": edge_stop}
    kwargs |= {"coupled": coupled, "sigma": sigma}
    v = perona_malik(u, kappa=kappa, **kwargs)
    for n in range(3):
        alone = perona_malik(u[n : n + 1], kappa=float(kappa[n]), **kwargs)
        assert_close(v[n : n + 1], alone, **machine)


@every_edge_stop
@coupled_or_not
@smoothed_or_not
def test_gradients_are_those_of_finite_differences(
    edge_stop: Any, coupled: bool, sigma: Any
) -> Any:
    u = noise(2, 2, 3, 4).requires_grad_()
    kappa = torch.tensor([0.9, 1.4], dtype=torch.float64, requires_grad=True)
    kwargs = {"dt": 0.2, "num_steps": 3, "edge_stop": edge_stop}
    kwargs |= {"coupled": coupled, "sigma": sigma}

    def f(u: Tensor, kappa: Any) -> Any:
        return perona_malik(u, kappa=kappa, **kwargs)

    assert torch.autograd.gradcheck(f, (u, kappa))
    assert torch.autograd.gradcheck(f, (u, kappa[0].detach().requires_grad_()))
    assert torch.autograd.gradgradcheck(f, (u, kappa))


@pytest.mark.parametrize("dtype, atol", [(torch.float32, 4e-6), (torch.bfloat16, 1e-2)])
def test_low_precision_is_rounded_once(dtype: torch.dtype, atol: float) -> None:
    u = noise(2, 3, 32, 32).to(dtype)
    v = perona_malik(u, dt=0.2, num_steps=10, kappa=0.5)
    assert v.dtype == dtype
    exact = perona_malik(u.double(), dt=0.2, num_steps=10, kappa=0.5)
    assert_close(v.double(), exact, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"kappa": 0.0}, "`kappa` must be > 0 and finite; got kappa=0.0"),
        ({"kappa": -1.0}, "`kappa` must be > 0"),
        ({"kappa": math.inf}, "`kappa` must be > 0 and finite"),
        ({"kappa": torch.tensor([0.1, 0.0])}, "`kappa` must be > 0"),
        ({"kappa": torch.ones(3)}, r"shape \(\) or \(2,\), one per image; got \(3,\)"),
        ({"kappa": 1.0, "t": -1.0}, "Diffusion cannot run backwards"),
        ({"kappa": 1.0, "dt": 0.26, "num_steps": 2}, "dt = 0.26 exceeds the stability limit 0.25"),
        ({"kappa": 1.0, "edge_stop": "tukey"}, "one of rational, exponential, weickert"),
        ({"kappa": 1.0, "sigma": -1.0}, "`sigma` must be >= 0"),
    ],
)
def test_what_is_out_of_range_is_refused(kwargs: Any, message: str) -> None:
    kwargs = {"t": 1.0} | kwargs
    if "dt" in kwargs:
        del kwargs["t"]
    with pytest.raises(ValueError, match=message):
        perona_malik(torch.zeros(2, 3, 4, 4), **kwargs)
