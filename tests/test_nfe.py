from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import somersd, spearmanr
from torch.utils.flop_counter import FlopCounterMode

from harness.models.base import capabilities
from harness.models.diffusifynet import diffusifynet
from harness.models.neural_ode import neural_ode
from harness.models.ode_block import ODEBlock, ode_block
from harness.models.pde_attention import pde_attention
from harness.models.resnet import resnet18
from harness.models.size import size_of
from harness.models.tied_blocks import untied_resnet
from harness.running.evaluate import Evaluated, observe
from harness.suites import nfe
from harness.suites.base import Arrays, Setting
from harness.suites.datasets import Split
from harness.suites.ranks import auroc_by_image, gamma_by_image, interval, largest_tie

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


PLAIN = Setting(32, 10, can=frozenset({"blocks"}))


def test_networks_with_and_without_a_solver_stand_on_one_axis(split: Split) -> None:
    """One Euler step of the ODE block is the network in which its f is a block like any other."""
    (depth,) = nfe.cells(PLAIN)
    plain = arrays_of(resnet18(width=8), split, depth)
    assert plain["evaluations"].tolist() == [8] * 24 and "nfe" not in plain
    rows = rows_of(depth, plain)
    assert rows["evaluations", ""] == 8 and rows["seconds", ""] > 0 and ("nfe", "") not in rows
    untied = arrays_of(untied_resnet(width=8, applications=4), split, depth)
    assert untied["evaluations"].tolist() == [11] * 24
    model = awake(ode_block(width=8))
    cells = {(c.condition, c.level): c for c in nfe.cells(SOLVES)}
    one, four = (arrays_of(model, split, cells["euler", steps]) for steps in (1, 4))
    assert one["evaluations"].tolist() == [8] * 24 and one["nfe"].tolist() == [1] * 24
    assert four["evaluations"].tolist() == untied["evaluations"].tolist()
    # In multiply-adds too: four functions of the same form, tied or not.
    np.testing.assert_allclose(four["macs"], untied["macs"], rtol=1e-12)


@pytest.mark.parametrize("build", [resnet18, pde_attention, untied_resnet])
def test_multiply_adds_are_those_of_the_catalog(split: Split, build: Any) -> None:
    (depth,) = nfe.cells(PLAIN)
    arrays = arrays_of(build(width=8).eval(), split, depth)
    assert arrays["macs"].tolist() == [size_of(build, width=8).macs] * 24
    assert rows_of(depth, arrays)["macs", ""] == size_of(build, width=8).macs


@pytest.mark.parametrize(
    "build", [ode_block, partial(ode_block, stages=(3, 4)), neural_ode, diffusifynet]
)
def test_multiply_adds_of_a_solver_are_counted_for_every_setting(split: Split, build: Any) -> None:
    torch.manual_seed(0)
    model = awake(build(width=8))
    cells = {(c.condition, c.level): c for c in nfe.cells(SOLVES)}
    for place in (("euler", 1), ("heun", 4), ("rk4", 2)):
        arrays = arrays_of(model, split, cells[place])
        own, model.solver = model.solver, cells[place].solver
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(split.images.float() / 255)
        model.solver = own
        np.testing.assert_allclose(arrays["macs"], counter.get_total_flops() / 2 / 24, rtol=1e-9)
    adaptive = arrays_of(model, split, cells["dopri5", 1e-5])
    per = (adaptive["macs"] - arrays["macs"]) / np.maximum(1, adaptive["nfe"] - arrays["nfe"])
    assert np.ptp(per[adaptive["nfe"] > arrays["nfe"]]) < 1, "each evaluation costs the same"


def test_the_setting_of_training_is_marked(split: Split) -> None:
    model = awake(ode_block(width=8, num_steps=4, solver="heun"))
    rows = {(c.condition, c.level): rows_of(c, arrays_of(model, split, c)) for c in _some()}
    marked = [place for place, found in rows.items() if ("trained_with", "") in found]
    assert marked == [("heun", 4)]
    adaptive = awake(ode_block(width=8, solver="dopri5", rtol=1e-3, atol=1e-3, max_nfe=50))
    marked = [
        (c.condition, c.level) for c in _some() if "trained_with" in arrays_of(adaptive, split, c)
    ]
    assert marked == [("dopri5", 1e-3)], "whatever its budget"


def _some() -> list[nfe.Solved]:
    kept = {("heun", 2), ("heun", 4), ("rk4", 4), ("dopri5", 1e-3), ("dopri5", 1e-2)}
    return [c for c in nfe.cells(SOLVES) if (c.condition, c.level) in kept]


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
        "evaluations": 15 + 6 * severity,
        "macs": 1e6 * severity,
    }
    rows = rows_of(cell, arrays)
    assert rows["nfe_gamma", "severity"] == pytest.approx(1)
    assert rows["nfe_gamma", "margin"] == pytest.approx(1)
    assert abs(rows["nfe_gamma", "dealt margin"]) < 0.15
    assert rows["nfe_gamma", "dealt margin, low"] < 0 < rows["nfe_gamma", "dealt margin, high"]
    assert rows["nfe_tie", ""] == pytest.approx(1 / 6)
    assert ("nfe_auroc", "") not in rows, "no image is misclassified"
    assert [rows["nfe", kind] for kind in ("", "fewest", "most")] == [23, 8, 38]


def by_hand(e: np.ndarray, d: np.ndarray) -> float:
    signs = np.sign(e[:, None] - e) * np.sign(d[:, None] - d)
    return float(signs.sum() / np.abs(signs).sum())


def test_gamma_is_the_balance_of_pairs_and_ties_do_not_bound_it() -> None:
    rng = np.random.default_rng(0)
    for levels in (2, 5, 40):
        e, d = rng.integers(0, levels, 200), rng.normal(size=200).round(1)
        values = gamma_by_image(e, d)
        assert values is not None and values.mean() == pytest.approx(by_hand(e, d))
    rare = np.zeros(1000)
    rare[:10] = 6  # 99 % of the images tie
    hard = np.arange(1000)[::-1].astype(float)
    values = gamma_by_image(rare, hard)
    assert values is not None and values.mean() == pytest.approx(1)
    assert spearmanr(rare, hard).statistic < 0.18, "the bound that ties put on rho"
    assert largest_tie(rare) == 0.99
    assert gamma_by_image(np.ones(9), np.arange(9)) is None


def test_the_auroc_of_errors_is_that_of_pairs() -> None:
    rng = np.random.default_rng(1)
    wrong = rng.random(300) < 0.2
    e = rng.integers(2, 6, 300) + wrong
    pairs = e[wrong][:, None] - e[~wrong]
    expected = float(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    values = auroc_by_image(e, wrong)
    assert values is not None and values.mean() == pytest.approx(expected)
    assert 2 * expected - 1 == pytest.approx(somersd(wrong, e).statistic)
    assert auroc_by_image(e, np.zeros(300, bool)) is None
    assert auroc_by_image(np.ones(300), wrong) is None


@pytest.mark.parametrize("statistic", ["gamma", "auroc"])
def test_intervals_of_gamma_and_auroc_cover_the_truth(statistic: str) -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        hard = rng.normal(size=n)
        e = np.floor(1.5 * np.maximum(0, 0.5 * hard + rng.normal(size=n) - 0.8))  # most tie
        values = gamma_by_image(e, hard) if statistic == "gamma" else auroc_by_image(e, hard > 1)
        assert values is not None
        return values if statistic == "gamma" else 2 * values - 1

    share = 0.45 if statistic == "gamma" else 0.16  # not in the largest tie; hard
    truth, hits = float(draw(400_000).mean()), 0
    for _ in range(400):
        value, low, high = interval(draw(400), 400 * share)
        assert low < value < high
        hits += low <= truth <= high
    assert 0.925 <= hits / 400 <= 0.975, hits / 400


def test_few_images_that_vary_say_little() -> None:
    e = np.full(355, 20)
    e[7] = 14  # as was measured: dopri5 at 1e-3 on digits
    hard = np.arange(355.0)
    hard[7] = -1
    values = gamma_by_image(e, hard)
    assert values is not None and values.mean() == pytest.approx(1)
    value, low, high = interval(values, 355 * (1 - largest_tie(e)))
    assert value == pytest.approx(1) and low < 0 and high == 1
    many = gamma_by_image(hard, hard)
    assert many is not None and interval(many, 354)[1] > 0.97
