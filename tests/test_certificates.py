"""Lipschitz bounds against matrices and attacks, certificates against a closed form and attacks."""

import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import jacrev

from harness.models.layers import Normalize
from harness.models.lipschitz import bound, convolution_norm
from harness.models.ruthotto_haber import parabolic, second_order
from harness.models.symmetric import (
    Parabolic,
    PixelNorm,
    SecondOrder,
    SymmetricLayer,
    UntiedLayer,
    verlet,
)
from harness.suites.attacks.apgd import apgd_ce, apgd_t
from harness.suites.attacks.certificates import certificates, describe, in_norm
from harness.suites.attacks.fab import fab_t


def matrix(f: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    return jacrev(lambda x: f(x).flatten())(zero).reshape(f(zero).numel(), -1).detach()


def largest_slope(module: nn.Module, shape: tuple[int, ...]) -> float:
    """The largest singular value of the derivative at a few points of all sizes."""
    found = []
    for size in (0.01, 0.3, 1.0, 3.0):
        x = size * torch.randn(1, *shape, dtype=torch.float64)
        out = module(x).numel()
        jacobian = jacrev(lambda x: module(x).flatten())(x).reshape(out, -1).detach()
        found.append(float(torch.linalg.matrix_norm(jacobian, 2)))
    return max(found)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 5, "padding": 0, "stride": 3},
        {"kernel_size": (1, 3), "padding": "same"},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 4, "padding": 3, "stride": 4},
        {"kernel_size": 1},
    ],
    ids=str,
)
def test_a_convolution_is_bounded_and_nearly_so(settings: dict) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, bias=False, **settings).double().eval()
    shape = (4, 7, 9)
    exact = float(torch.linalg.matrix_norm(matrix(layer, shape), 2))
    found = bound(layer, shape)
    assert found.value >= exact
    if layer.stride == (1, 1):
        assert found.value <= 1.25 * exact
    assert found.shape == tuple(layer(torch.zeros(1, *shape).double()).shape[1:])
    assert not found.unknown


def test_a_cyclic_convolution_of_one_channel_is_the_largest_wave() -> None:
    weight = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    assert 7.8 < convolution_norm(weight, (16, 16)) <= 8 + 1e-6  # of the Laplacian: 8


SHAPE = (4, 6, 6)


@pytest.mark.parametrize(
    "module",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.MaxPool2d(3, 1),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Sigmoid(),
        nn.Softplus(3.0),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 20), nn.Tanh(), nn.Linear(20, 5)),
        nn.BatchNorm2d(4),
        PixelNorm(4),
        UntiedLayer(4),
        SymmetricLayer(4),
        SymmetricLayer(4, norm=False),
        Parabolic(4, lambda c: SymmetricLayer(c, norm=False), 3, 1.0),
        Parabolic(4, SymmetricLayer, 2, 1.0),
        Parabolic(4, lambda c: SymmetricLayer(c, 1, norm=False), 3, 0.1),
        SecondOrder(4, lambda c: SymmetricLayer(c, norm=False), 3, 1.0),
        SecondOrder(4, lambda c: SymmetricLayer(c, 1, norm=False), 2, 0.3),
        verlet(4, SymmetricLayer, 2, 0.5, -1, True),
        verlet(4, lambda c: SymmetricLayer(c, norm=False), 2, 0.5, -1, True),
    ],
    ids=lambda m: type(m).__name__,
)
def test_no_derivative_exceeds_the_bound(module: nn.Module) -> None:
    torch.manual_seed(1)
    module = module.double().eval()
    for p in module.parameters():
        nn.init.normal_(p, std=0.4)
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_var is not None
        module.running_var.uniform_(0.1, 2)
    found = bound(module, SHAPE)
    print(f"{type(module).__name__}: {largest_slope(module, SHAPE):.4g} <= {found.value:.4g}")
    assert not found.unknown
    assert largest_slope(module, SHAPE) <= found.value
    assert found.shape == tuple(module(torch.zeros(1, *SHAPE).double()).shape[1:])


def test_a_parabolic_flow_never_drives_states_apart() -> None:
    """Also not where steps are cut: its bound is exactly 1, its layers' product is far above."""
    torch.manual_seed(0)
    block = Parabolic(4, lambda c: SymmetricLayer(c, norm=False), 3, 1.0).eval()
    assert bound(block, SHAPE).value == 1.0
    x, y = torch.randn(2, 50, *SHAPE)
    before, after = ((a - b).flatten(1).norm(dim=1) for a, b in ((x, y), (block(x), block(y))))
    assert (after <= before * (1 + 1e-6)).all()
    backward = Parabolic(4, lambda c: SymmetricLayer(c, 1, norm=False), 3, 1.0).eval()
    assert bound(backward, SHAPE).value > 2


class Halved(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 100 * super().forward(x)


def test_what_has_no_rule_has_no_bound() -> None:
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda m, i, o: 5 * o)
    renamed = nn.ReLU()
    renamed.forward = lambda x: 7 * x
    cyclic = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    for part in (Halved(), hooked, renamed, cyclic, nn.GroupNorm(2, 4)):
        found = bound(nn.Sequential(part, nn.Flatten(), nn.Linear(144, 3)).eval(), SHAPE)
        assert found.value == math.inf
        assert found.unknown
        model = nn.Sequential(part, nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
        images, labels = torch.rand(5, *SHAPE), torch.zeros(5, dtype=torch.int64)
        assert (certificates(model, images, labels) == 0).all()
    said = describe(found, torch.zeros(5), 0.1)
    assert said == "There is no certificate: no bound is known of GroupNorm."
    with pytest.raises(ValueError, match="evaluation mode"):
        bound(nn.ReLU().train(), SHAPE)


def test_a_linear_network_has_its_exact_radius() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Normalize((0.5,) * 3, (0.25,) * 3), nn.Flatten(), nn.Linear(192, 4))
    model = model.double().eval()
    images = torch.rand(30, 3, 8, 8, dtype=torch.float64)
    z, w = model(images), model[2].weight.detach() / 0.25
    labels = z.argmax(1)
    labels[:5] = (labels[:5] + 1) % 4
    gaps = z.gather(1, labels[:, None]) - z
    exact = gaps / (w[labels][:, None] - w).norm(dim=2)
    exact = exact.scatter(1, labels[:, None], math.inf).amin(1).clamp_min(0)
    found = certificates(model, images, labels)
    assert (found <= exact).all()
    assert (found[:5] == 0).all()
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(in_norm(found, "linf", images), found / math.sqrt(192))


def test_no_attack_gets_below_a_certificate(network: nn.Module) -> None:
    """FAB looks for the nearest misclassified point, APGD for any inside of the radius."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=355, random_state=0, stratify=y)
    images = torch.tensor(parts[1][:60]).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    images, labels = images.contiguous(), torch.tensor(parts[3][:60])
    known = bound(network, (3, 8, 8))
    radius = certificates(network, images, labels, known=known)
    assert known.value < 1e4
    right = network(images).argmax(1) == labels
    assert torch.equal(radius > 0, right)
    far = fab_t(network, images, labels, eps=10.0, norm="l2", iterations=20)
    moved = (far - images).flatten(1).norm(dim=1)
    broken = right & (network(far).argmax(1) != labels)
    assert broken.float().mean() > 0.9
    assert (moved[broken] > radius[broken]).all()
    print(f"found at {moved[broken].median():.3f}, certified to {radius.median():.3f}, medians")
    eps = float(radius.median())
    safe = radius >= eps
    for attack in (apgd_ce, apgd_t):
        points = attack(network, images, labels, eps=eps, norm="l2", iterations=20)
        assert (network(points).argmax(1) == labels)[safe].all()
    certified = 100 * float(safe.double().mean())
    assert describe(known, radius, eps).startswith(f"{certified:.1f} % of the images are certified")
    assert describe(known, radius, 9.0).startswith("The certificate is vacuous at eps 9: ")


@pytest.mark.parametrize("make", [parabolic, second_order])
def test_networks_of_the_registry_are_bounded(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(20, 3, 32, 32), torch.arange(20) % 10
    other = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
    distance = (images - other).flatten(1).norm(dim=1)
    values = {}
    for norm in (True, False):
        model = make(10, 8, norm=norm).eval()
        found = bound(model, (3, 32, 32))
        values[norm] = found.value
        growth = (model(images) - model(other)).norm(dim=1) / distance
        assert not found.unknown
        assert growth.max() <= found.value
        assert found.shape == (10,)
        assert (certificates(model, images, labels, known=found) >= 0).all()
    print(f"{make.__name__}: L <= {values[False]:.3g}, with norms {values[True]:.3g}")
    assert values[False] < 1e-6 * values[True]
