from typing import Any

import pytest
import torch
from torch import Tensor

from harness.models import graph
from harness.models.base import Transductive
from harness.models.convection_diffusion import (
    coin,
    coin_steps0,
    diff_resnet,
    diffusion,
    label_propagation,
    neighbor_mean,
    shuffle,
)


def rows(n: int = 40, d: int = 5) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def probabilities(n: int = 40, k: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, k, dtype=torch.float64, generator=g).softmax(1)


def test_distances_are_distances() -> None:
    x = rows()
    torch.testing.assert_close(graph.distances(x), torch.cdist(x, x), rtol=0, atol=1e-7)


def test_weights_by_hand() -> None:
    # Points 0, 1, 3 on a line, two neighbors counting itself, the second for the scale.
    x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    W = graph.weights(x, n_top=3, s=2)
    # Strictly below the third smallest distance: 0 sees 1; 1 sees 0; 3 sees 1.
    e = torch.exp(torch.tensor(-1.0)).item()
    raw = torch.tensor([[1, e, 0], [e, 1, 0], [0, e, 1]], dtype=torch.float64)
    d = raw.sum(1)
    expected = raw / d.sqrt()[:, None] / d.sqrt()
    torch.testing.assert_close(W, (expected + expected.T) / 2)


def test_the_laplacian_is_symmetric_positive_and_kills_constants() -> None:
    L = graph.laplacian(graph.weights(rows()))
    torch.testing.assert_close(L, L.T)
    torch.testing.assert_close(L @ torch.ones(40, dtype=torch.float64), torch.zeros(40).double())
    assert torch.linalg.eigvalsh(L)[0] > -1e-12
    W = graph.weights(rows())
    assert not torch.allclose(L, torch.eye(40).double() - W), "row sums are taken again"


def test_sums_over_samples_are_kept_and_rows_sum_to_one() -> None:
    u, W = probabilities(), graph.weights(rows())
    v = diffusion(10, 0.5)(u, W)
    torch.testing.assert_close(v.sum(0), u.sum(0))
    torch.testing.assert_close(v.sum(1), torch.ones(40, dtype=torch.float64))
    assert (v >= 0).all() and not torch.allclose(u, v)


def test_positivity_below_its_bound_and_not_above() -> None:
    L = graph.laplacian(graph.weights(rows()))
    u = torch.eye(40, dtype=torch.float64)  # every vertex once
    bound = 1 / L.diagonal().max().item()
    assert (graph.diffuse(u, L, bound, 1) >= -1e-15).all()
    assert (graph.diffuse(u, L, 1.1 * bound, 1) < 0).any()


def test_steps_beyond_the_limit_grow_and_are_refused() -> None:
    L = graph.laplacian(graph.weights(rows()))
    limit = 2 / graph.lambda_max(L)
    u = rows(40, 1)
    assert graph.diffuse(u, L, 1.05 * limit, 400).norm() > 100 * u.norm()
    assert graph.diffuse(u, L, 0.95 * limit, 400).norm() <= u.norm()
    with pytest.raises(ValueError, match="below 2 / lambda_max of the graph"):
        graph.check_step(L, 1.05 * limit)
    graph.check_step(L, 0.95 * limit)


@pytest.mark.parametrize("seed", range(5))
def test_steps_are_cut_below_the_limit(seed: int) -> None:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed))
    L = graph.laplacian(graph.weights(x))
    assert graph.safe_step(L, 100.0).item() < 2 / graph.lambda_max(L)
    assert graph.safe_step(L, 1e-3).item() == pytest.approx(1e-3)


def test_many_steps_give_the_mean_of_each_component() -> None:
    near, far = rows(10), rows(10) + 100
    u = probabilities(20)
    v = diffusion(20_000, 0.5)(u, graph.weights(torch.cat((near, far)), n_top=11))
    for part in (slice(0, 10), slice(10, 20)):
        torch.testing.assert_close(v[part], u[part].mean(0).expand(10, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_small_batches_and_equal_images(n: int) -> None:
    u, same = probabilities(n), torch.ones(n, 4, dtype=torch.float64)
    for x in (rows(n), same):
        for spread in (diffusion(10, 0.5), neighbor_mean, label_propagation):
            v = spread(u, graph.weights(x))
            assert torch.isfinite(v).all()
    if n == 1:
        assert torch.equal(diffusion(10, 0.5)(u, graph.weights(rows(1))), u)


@pytest.mark.parametrize("build", [coin, diff_resnet])
def test_order_does_not_matter_and_company_does(build: Any) -> None:
    torch.manual_seed(0)
    model, images = build(num_classes=4, width=8).eval(), torch.rand(24, 3, 32, 32)
    assert isinstance(model, Transductive) and model.graph_batch == 1024
    order = torch.randperm(24)
    with torch.no_grad():
        whole = model(images)
        torch.testing.assert_close(model(images[order]), whole[order], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(model(images[:12]), whole[:12], rtol=1e-3, atol=1e-4)


def test_diffused_features_are_diffused_logits() -> None:
    torch.manual_seed(0)
    model = diff_resnet(num_classes=4, width=8).double()
    z, W = rows(24, 64), graph.weights(rows(24))
    first = model.classifier(model.spread(z, W))
    torch.testing.assert_close(first, model.spread(model.classifier(z), W))


def test_no_steps_are_an_ordinary_classifier() -> None:
    torch.manual_seed(0)
    model, images = coin_steps0(width=8).eval(), torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        whole = model(images)
        torch.testing.assert_close(model(images[:1]), whole[:1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.exp().sum(1), torch.ones(8))


def test_a_random_graph_has_equal_degrees() -> None:
    seen = []

    def look(u: Tensor, W: Tensor) -> Tensor:
        seen.append(W)
        return u

    W = graph.weights(rows())
    shuffle(look)(probabilities(), W)
    torch.testing.assert_close(seen[0].sum(1).sort().values, W.sum(1).sort().values)
    assert not torch.allclose(seen[0], W)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"step": -0.1}, "cannot run backwards"),
        ({"num_steps": -1}, "cannot run backwards"),
        ({"graph_batch": 0}, "at least 1 image"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coin(width=8, **arguments)
