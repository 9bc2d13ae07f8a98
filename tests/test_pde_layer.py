import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.models.pde_layer import (
    AnisotropicLayer,
    DepthwiseConvLayer,
    GaussianBlurLayer,
    PDELayer,
    depthwise_conv_layer,
    gaussian_blur_layer,
    pde_layer,
    pde_layer_aniso,
)
from harness.models.resnet import resnet18


def features(n: int = 2, c: int = 3, h: int = 8, w: int = 8) -> Tensor:
    return torch.rand(n, c, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def mode(kx: int, ky: int, n: int) -> Tensor:
    i = torch.arange(n, dtype=torch.float64) + 0.5
    x, y = torch.cos(math.pi * kx * i / n), torch.cos(math.pi * ky * i / n)
    return (y[:, None] * x)[None, None]


@pytest.mark.parametrize("kx, ky", [(0, 0), (1, 0), (3, 2), (7, 7)])
@pytest.mark.parametrize("method", ["explicit", "dct"])
def test_a_cosine_mode_is_multiplied_by_its_factor(kx: int, ky: int, method: str) -> None:
    n, layer = 8, PDELayer(1, steps=4, method=method).double()
    layer.a.data.fill_(0.7)
    lam = layer.lam.item()
    if method == "explicit":
        sines = sum(math.sin(math.pi * k / (2 * n)) ** 2 for k in (kx, ky))
        factor = (1 - 4 * lam * sines) ** 4
    else:  # of the semi-discrete equation, whose eigenvalues are those of the five-point Laplacian
        eigenvalue = sum(2 * math.cos(math.pi * k / n) - 2 for k in (kx, ky))
        factor = math.exp(4 * lam * eigenvalue)
    u = mode(kx, ky, n)
    torch.testing.assert_close(layer(u), factor * u, rtol=0, atol=1e-12)


def test_the_layer_starts_halfway_to_the_limit_and_never_passes_it() -> None:
    layer = PDELayer(5)
    assert layer.lam.tolist() == [0.125] * 5
    layer.a.data.copy_(torch.tensor([-100.0, -1, 0, 1, 100]))
    assert (layer.lam >= 0).all() and (layer.lam <= 0.25).all()
    assert (layer.step_ratio() <= 1).all()
    u = features(c=5).float()
    v = layer(u)
    assert v.min() >= u.min() - 1e-6 and v.max() <= u.max() + 1e-6


@pytest.mark.parametrize("method", ["explicit", "dct"])
def test_every_channel_keeps_its_mean(method: str) -> None:
    u = features(h=7, w=9)
    v = PDELayer(3, method=method).double()(u)
    torch.testing.assert_close(v.mean((2, 3)), u.mean((2, 3)), rtol=0, atol=1e-14)
    assert not torch.allclose(u, v)


def test_a_delta_spreads_by_two_n_lam() -> None:
    layer = PDELayer(1, steps=4).double()
    u = torch.zeros(1, 1, 17, 17, dtype=torch.float64)
    u[..., 8, 8] = 1
    x = torch.arange(17, dtype=torch.float64) - 8
    variance = (layer(u).sum((0, 1, 2)) * x**2).sum()
    assert variance.item() == pytest.approx(2 * 4 * 0.125, rel=1e-12)


def test_steps_compose_and_none_is_the_identity() -> None:
    u = features()
    two, three, five = (PDELayer(3, steps=n).double() for n in (2, 3, 5))
    torch.testing.assert_close(three(two(u)), five(u), rtol=0, atol=1e-14)
    torch.testing.assert_close(PDELayer(3, steps=0).double()(u), u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("make", [PDELayer, AnisotropicLayer])
def test_gradients_are_those_of_differences(make: type) -> None:
    layer, u = make(2).double(), features(1, 2, 4, 5).requires_grad_()

    def f(u: Tensor, a: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"a": a}, (u,))

    a = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, (u, a))


def test_anisotropic_diffusion_tends_to_heat_for_large_kappa_and_to_the_identity_for_small() -> (
    None
):
    u = features()
    heat, aniso = PDELayer(3).double(), AnisotropicLayer(3).double()
    aniso.a.data.fill_(math.log(1e3))
    torch.testing.assert_close(aniso(u), heat(u), rtol=0, atol=1e-5)
    aniso.a.data.fill_(math.log(1e-4))
    torch.testing.assert_close(aniso(u), u, rtol=0, atol=1e-4)


def test_anisotropic_edge_scales_are_each_channels_own() -> None:
    u = features(1, 1).expand(1, 2, 8, 8)
    layer = AnisotropicLayer(2)
    layer.a.data.copy_(torch.tensor([0.0, -4.0]))
    weak, strong = (layer(u.float())[0, c] for c in (0, 1))
    alone = AnisotropicLayer(1)
    alone.a.data.fill_(-4.0)
    torch.testing.assert_close(strong, alone(u[:, :1].float())[0, 0])
    assert (weak - u[0, 0]).abs().mean() > 2 * (strong - u[0, 0]).abs().mean()


def test_the_gaussian_null_has_the_spread_of_the_diffusion() -> None:
    model = gaussian_blur_layer(width=8)
    layer = model.net.layer3[2].double()
    assert layer.sigma.tolist() == pytest.approx([1.0] * 32)
    u = torch.zeros(1, 32, 21, 21, dtype=torch.float64)
    u[..., 10, 10] = 1
    x = torch.arange(21, dtype=torch.float64) - 10
    blurred = layer(u).detach()
    assert (blurred[0, 0].sum(0) * x**2).sum().item() == pytest.approx(1.0, abs=2e-2)
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(1, 32, dtype=torch.float64))


def test_the_depthwise_null_starts_as_the_identity() -> None:
    u = features().float()
    torch.testing.assert_close(DepthwiseConvLayer(3)(u), u)


@pytest.mark.parametrize(
    "builder, weights",
    [(pde_layer, 1), (pde_layer_aniso, 1), (gaussian_blur_layer, 1), (depthwise_conv_layer, 9)],
)
def test_weights_beyond_resnet18_are_those_of_the_layer(builder: Any, weights: int) -> None:
    def count(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(builder()) - count(resnet18()) == weights * 256


def test_a_fixed_gaussian_learns_nothing() -> None:
    layer = GaussianBlurLayer(3, sigma=1.0, learned=False)
    assert not list(layer.parameters()) and not layer.state_dict()


def test_the_place_where_diffusion_changes_no_logit_is_refused() -> None:
    with pytest.raises(ValueError, match="Behind stage 4 only the mean"):
        pde_layer(width=8, stage=4)
    # Why: global average pooling sees the means alone.
    u = features()
    pooled = [v.mean((2, 3)) for v in (u, PDELayer(3).double()(u))]
    torch.testing.assert_close(*pooled, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "fft"}, "must be one of explicit, dct"),
        ({"steps": -1}, "cannot run backwards"),
        ({"stage": 0}, "behind stage 1, 2 or 3"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pde_layer(width=8, **arguments)
    with pytest.raises(ValueError, match="must be > 0 pixels"):
        gaussian_blur_layer(width=8, sigma=0.0)
