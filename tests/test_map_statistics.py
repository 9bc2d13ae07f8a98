import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from harness.suites.attention_metrics import DISTANCE, MAP_STATISTICS
from harness.suites.map_statistics import ranks, spearman, statistics

# Mean distance of a uniform row, over all queries.
UNIFORM_DISTANCE = {4: 2.0080, 8: 4.1365, 12: 6.2346, 16: 8.3261}


def of(a: torch.Tensor, height: int, width: int) -> dict[str, float]:
    names = [metric.name for metric in MAP_STATISTICS if metric is not DISTANCE]
    return dict(zip(names, statistics(a, height, width).tolist(), strict=True))


@pytest.mark.parametrize("height, width, border", [(4, 4, 0.75), (8, 8, 0.4375), (3, 5, 0.8)])
def test_a_uniform_row(height: int, width: int, border: float) -> None:
    k = height * width
    found = of(torch.full((k,), 1 / k, dtype=torch.float64), height, width)
    assert found["entropy"] == pytest.approx(math.log(k))
    assert found["support"] == pytest.approx(k)
    assert found["border"] == pytest.approx(border)
    for name in ("concentration", "gini", "total_variation", "dirichlet"):
        assert found[name] == pytest.approx(0, abs=1e-12)
    spread = math.sqrt((height**2 - 1) / 12 + (width**2 - 1) / 12)
    assert found["spread"] == pytest.approx(spread)


def test_a_point() -> None:
    a = torch.zeros(4, 5, dtype=torch.float64)
    a[1, 2] = 1
    found = of(a.flatten(), 4, 5)
    edges = 3 * 5 + 4 * 4
    expected = {"entropy": 0, "concentration": 1, "support": 1, "gini": 1 - 1 / 20}
    expected |= {"total_variation": 4 * 20 / edges, "dirichlet": 0.5 * 4 * 400 / edges}
    assert found == pytest.approx(expected | {"border": 0, "spread": 0}, abs=1e-12)


@pytest.mark.parametrize("size, distance", UNIFORM_DISTANCE.items())
def test_distance_of_uniform_attention(size: int, distance: float) -> None:
    k = size * size
    values = statistics(torch.full((k, k), 1 / k), size, size, attention=True)
    assert values[:, MAP_STATISTICS.index(DISTANCE)].mean().item() == pytest.approx(
        distance, abs=5e-5
    )
    own = statistics(torch.eye(k), size, size, attention=True)
    assert own[:, MAP_STATISTICS.index(DISTANCE)].abs().max() == 0


def test_gini_of_two_values_by_hand() -> None:
    # A share s of the places has all the mass: 1 - s.
    a = torch.tensor([0.0, 0, 0, 0.5, 0.5, 0])
    assert of(a, 2, 3)["gini"] == pytest.approx(1 - 2 / 6)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a grid of 2 x 3"):
        statistics(torch.ones(5), 2, 3)
    with pytest.raises(ValueError, match="do not fit"):
        statistics(torch.ones(4, 6), 2, 3, attention=True)


def test_a_row_of_nan_stays_one() -> None:
    a = torch.stack((torch.full((4,), torch.nan), torch.full((4,), 0.25)))
    values = statistics(a, 2, 2)
    assert values[0].isnan().all() and values[1].isfinite().all()


@given(st.lists(st.integers(0, 6), min_size=4, max_size=12), st.integers(0, 2**31))
def test_rank_correlation_agrees_with_scipy_ties_included(values: list[int], seed: int) -> None:
    x = torch.tensor(values, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, x.shape, generator=generator).float()
    found = spearman(x[None], y[None]).item()
    if x.unique().numel() == 1 or y.unique().numel() == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic, abs=1e-6)


def test_ranks_are_those_of_rows() -> None:
    x = torch.tensor([[3.0, 1, 1, 2], [0, 0, 0, 0]])
    assert ranks(x).tolist() == [[4, 1.5, 1.5, 3], [2.5] * 4]
