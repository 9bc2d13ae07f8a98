import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from harness.models.base import capabilities
from harness.models.diffusifynet import diffusifynet
from harness.models.ode_block import ODEBlock, ode_block
from harness.models.pde_attention import pde_attention
from harness.models.resnet import resnet18
from harness.running.evaluate import Evaluated, observe
from harness.suites import nfe
from harness.suites.base import Arrays, Setting
from harness.suites.datasets import Split

CPU = torch.device("cpu")
SOLVES = Setting(32, 10, can=frozenset({"solver", "blocks"}))


@pytest.fixture(scope="module")
def split() -> Split:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.arange(24) % 10, tuple("abcdefghij"), flip=False)


def awake(model: torch.nn.Module) -> torch.nn.Module:
    for block in model.modules():
        if isinstance(block, ODEBlock):
            torch.nn.init.normal_(block.f.norms[2].weight)
    return model.eval()


def arrays_of(
    model: torch.nn.Module, split: Split, cell: nfe.Solved, batch_size: int = 24
) -> Arrays:
    return observe(nfe.nfe(), cell, Evaluated(model, CPU), split, batch_size=batch_size)


def rows_of(cell: nfe.Solved, arrays: Arrays) -> dict[tuple[str, str], float]:
    return {(m.metric, m.variant): m.value for m in nfe.measure(cell, arrays)}


def test_capabilities_are_seen_by_structure() -> None:
    assert capabilities(resnet18(width=8).eval()) == {"blocks"}
    assert capabilities(ode_block(width=8).eval()) == {"blocks", "solver"}
    assert capabilities(pde_attention(width=8).eval()) == {"attention", "blocks"}
    off = diffusifynet(width=8, attention="off", block="off").eval()
    assert capabilities(off) == {"blocks"}
    assert capabilities(torch.nn.Identity()) == set()


def test_a_model_without_a_solver_stands_on_the_axis_by_its_depth(split: Split) -> None:
    (cell,) = nfe.cells(Setting(32, 10, can=frozenset({"blocks"})))
    arrays = arrays_of(resnet18(width=8), split, cell)
    assert arrays["nfe"].tolist() == [8] * 24
    rows = rows_of(cell, arrays)
    assert rows["nfe", ""] == 8 and 0 <= rows["accuracy", ""] <= 1 and rows["seconds", ""] > 0
    assert not any(metric == "nfe_rho" for metric, _ in rows), "a constant has no rank"


def test_cells_solve_with_what_they_say_and_leave_the_model_as_it_was(split: Split) -> None:
    torch.manual_seed(0)
    model = awake(ode_block(width=8))
    own = model.solver
    costs = {}
    for cell in nfe.cells(SOLVES):
        arrays = arrays_of(model, split, cell)
        costs[cell.condition, cell.level] = arrays["nfe"]
        assert model.solver is own
    stages = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
    for (name, level), cost in costs.items():
        if name in stages:
            assert cost.tolist() == [stages[name] * level] * 24
        if name == "dopri5":
            assert ((cost - 2) % 6 == 0).all()
    assert (costs["dopri5", 1e-5] > costs["dopri5", 1e-1]).all()


def test_numbers_do_not_depend_on_the_batch(split: Split) -> None:
    torch.manual_seed(0)
    model = awake(ode_block(width=8))
    cell = next(c for c in nfe.cells(SOLVES) if (c.condition, c.level) == ("dopri5", 1e-3))
    whole, parts = arrays_of(model, split, cell), arrays_of(model, split, cell, batch_size=5)
    assert np.array_equal(whole["nfe"], parts["nfe"])
    np.testing.assert_allclose(whole["logits"], parts["logits"], rtol=1e-4, atol=1e-5)


def test_a_sixth_of_the_images_has_each_severity(split: Split) -> None:
    indices = torch.arange(24)
    out = nfe.mix_severities(split.images, indices, 0, "cifar10_c")
    change = (out.float() - split.images.float()).square().mean((1, 2, 3))
    by_severity = [change[indices % 6 == s].mean().item() for s in range(6)]
    assert by_severity[0] == 0 and by_severity == sorted(by_severity)
    some = torch.tensor([17, 3, 8])
    assert torch.equal(nfe.mix_severities(split.images[some], some, 0, "cifar10_c"), out[some])


def test_margins_by_hand() -> None:
    outputs = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]).log()
    assert nfe.margins(outputs, torch.tensor([0, 2])).tolist() == pytest.approx([0.5, -0.2])


def test_rank_correlation_and_its_interval() -> None:
    torch.manual_seed(0)
    x = torch.randn(500).numpy()
    y = x + torch.randn(500).numpy()
    found = nfe.rank_correlation(x, y)
    assert found is not None
    rho, low, high = found
    assert rho == pytest.approx(spearmanr(x, y).statistic)
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / 497)
    assert math.atanh(high) - math.atanh(rho) == pytest.approx(half, rel=1e-5)
    assert low < rho < high
    assert nfe.rank_correlation(np.ones(500), y) is None
    assert nfe.rank_correlation(x, x) == (1, 1, 1)


def test_the_interval_covers_the_truth() -> None:
    g = torch.Generator().manual_seed(0)
    # For normals, Spearman's rho is 6 / pi asin(r / 2).
    r, hits = 0.6, 0
    truth = 6 / math.pi * math.asin(r / 2)
    for _ in range(400):
        a, b = torch.randn(2, 200, generator=g).numpy()
        found = nfe.rank_correlation(a, r * a + math.sqrt(1 - r * r) * b)
        hits += found[1] <= truth <= found[2]
    assert 0.92 < hits / 400 < 0.98


def test_hard_images_are_told_from_easy_ones_where_they_are() -> None:
    cell = next(c for c in nfe.cells(SOLVES) if c.condition.endswith(nfe.MIXED))
    n = 600
    indices = np.arange(n)
    severity = indices % 6
    outputs = np.zeros((n, 10), np.float32)
    outputs[:, 0] = 5.0 - severity
    arrays = {
        "indices": indices,
        "labels": np.zeros(n, np.int64),
        "logits": outputs,
        "nfe": 8 + 6 * severity,
        "seconds": np.full(n, 0.01),
    }
    rows = rows_of(cell, arrays)
    assert rows["nfe_rho", "severity"] == pytest.approx(1)
    assert rows["nfe_rho", "loss"] == pytest.approx(1)
    assert rows["nfe_rho", "margin"] == pytest.approx(-1)
    assert abs(rows["nfe_rho", "dealt loss"]) < 0.15
    assert rows["nfe_rho", "dealt loss, low"] < 0 < rows["nfe_rho", "dealt loss, high"]
    assert [rows["nfe", kind] for kind in ("", "fewest", "most")] == [23, 8, 38]
