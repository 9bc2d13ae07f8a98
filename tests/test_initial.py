"""Initial weights: networks of one seed share what they have in common, and nothing else."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.models.catalog import CATALOG
from harness.running.initial import initialize, shared_name


def start(name: str, seed: int = 0) -> dict[str, Tensor]:
    model = initialize(lambda: MODELS[name](num_classes=10, width=8), seed)
    return {shared_name(k): v.detach() for k, v in model.named_parameters()}


def common(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    return [k for k in a if k in b and a[k].shape == b[k].shape]


@pytest.mark.parametrize(
    "idea, other, alone",
    [
        # `alone`: what the idea has and the other has not, or not of that shape.
        ("pde_aug", "resnet18", set()),
        ("matched_blur_aug", "pde_aug", set()),
        ("pde_layer", "resnet18", {"a"}),
        ("pde_layer", "depthwise_heat_layer", {"a"}),
        ("pde_layer", "pde_layer_frozen", {"a"}),
        ("pde_attention", "plain_attention", {"a"}),
        ("pde_attention", "temperature_attention", {"a"}),
        ("ode_block", "resnet18_slot4", {"f"}),
        ("diffusifynet", "resnet18", {"a", "f", "qkv", "project", "norm"}),
    ],
)
def test_a_pair_of_one_seed_shares_all_that_it_has_in_common(
    idea: str, other: str, alone: set[str]
) -> None:
    a, b = start(idea), start(other)
    both = common(a, b)
    assert [k for k in both if not torch.equal(a[k], b[k])] == []
    assert len(both) >= 50
    assert {part for k in a.keys() - set(both) for part in k.split(".")} >= alone
    assert bool(a.keys() - set(both)) == bool(alone)


def test_seeds_share_no_draw() -> None:
    a, b = start("resnet18", 0), start("resnet18", 1)
    drawn = [k for k in a if float(a[k].std()) > 0]
    assert len(drawn) >= 20 and not any(torch.equal(a[k], b[k]) for k in drawn)


def test_the_same_seed_starts_alike_whatever_was_drawn_before() -> None:
    first = start("pde_attention", 3)
    torch.manual_seed(99)
    torch.rand(5)
    state = torch.random.get_rng_state()
    again = start("pde_attention", 3)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert torch.equal(torch.random.get_rng_state(), state), "the generator is left as it was"


@pytest.mark.parametrize("name", ["resnet18", "pde_attention", "ode_block", "hamiltonian"])
def test_the_distribution_is_the_builders(name: str) -> None:
    keyed = start(name)
    torch.manual_seed(0)
    plain = {shared_name(k): v for k, v in MODELS[name](num_classes=10, width=8).named_parameters()}
    assert keyed.keys() == plain.keys()
    for k, value in keyed.items():
        if value.numel() >= 500:
            assert float(value.std()) == pytest.approx(float(plain[k].detach().std()), rel=0.15), k
        if float(plain[k].detach().abs().max()) == 0 or value.unique().numel() == 1:
            assert torch.equal(value, plain[k]), k


class Swapped(nn.Module):
    """Two layers of one shape, made in an order that is asked for."""

    def __init__(self, first: str) -> None:
        super().__init__()
        for name in (first, "b" if first == "a" else "a"):
            self.add_module(name, nn.Linear(4, 4))


def test_the_order_of_building_does_not_matter() -> None:
    one, other = (initialize(partial(Swapped, f), 0).state_dict() for f in "ab")
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert not torch.equal(one["a.weight"], one["b.weight"])


def test_values_that_are_drawn_elsewhere_and_copied_are_repeatable() -> None:
    class Orthogonal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            nn.init.orthogonal_(self.layer.weight)
            self.k = nn.Parameter(-0.1 * torch.rand(()))

    one, other = (initialize(Orthogonal, 5).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], other[k]) for k in one)
    third = initialize(Orthogonal, 6).state_dict()
    assert not torch.equal(one["k"], third["k"])
    torch.testing.assert_close(one["layer.weight"] @ one["layer.weight"].T, torch.eye(6))


def test_every_model_starts_with_numbers() -> None:
    for name in ("lm_resnet", "revnet", "neural_sde", "coin"):
        assert name in CATALOG
        assert all(v.isfinite().all() for v in start(name).values())
