"""Images per second of each attack beside the authors' code, on one thread.

    pytest tests/test_bench_attacks.py --benchmark-only -s --tables results/benchmarks

A fifth of the published budgets (20 iterations, 1,000 queries), on 200 images of digits, 3 x 8 x 8,
and the small network of `conftest`; about a fourth of them is broken. The answers are compared
first: as many images stay robust, up to the spread of seeds, somewhat fewer for Square, which draws
every place here. Then both sides take turns. Times are CPU times of the one thread, which the load
of others does not lengthen; a ratio is the median of the ratios of the turns. With a larger network
forward and backward passes take nearly all of the time, so that ratios say how many are saved.

`test_the_ensemble` is AutoAttack's four attacks one after the other on a ResNet-18 of width 16 and
images of 32 pixels, here as `harness run` makes them, with batch norms folded, there as the package
makes them of the same network.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.running.evaluate import Evaluated, folding
from harness.running.initial import initialize
from harness.running.recipes import recipe_for
from harness.running.train import train
from harness.suites.adversarial import adversarial
from harness.suites.attacks import ATTACKS
from harness.suites.attacks.authors import authors
from harness.suites.datasets import as_input
from tests.side_by_side import Keep, median_ratio
from tests.test_bench_evaluation import pictures

pytestmark = pytest.mark.bench
TITLE = "Attacks"
READING = (
    "CPU time on one thread, the small network of the tests; `ratio` is the median of turns side\n"
    "by side, and `robust` the share of images that stay right: answers are compared first."
)
TURNS = 3
BUDGETS = {
    "apgd_ce": {"iterations": 20},
    "apgd_dlr": {"iterations": 20},
    "apgd_t": {"iterations": 20, "targets": 9},
    "fab_t": {"iterations": 20, "targets": 9},
    "square": {"queries": 1000},
}
IMAGES, PICTURES = 200, 60
EPS = {"linf": 0.08, "l2": 0.6}
APART = {"square": 0.06}  # shares; the others agree within 0.02


def theirs(network: nn.Module, name: str, norm: str) -> Callable[[Tensor, Tensor], Tensor]:
    pgd = pytest.importorskip("pyautoattack.autopgd_base")
    fab, square = (pytest.importorskip(f"pyautoattack.{n}") for n in ("fab_pt", "square"))
    usual = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": EPS[norm], "seed": 0}
    if name == "square":
        queries = BUDGETS[name]["queries"]
        made = square.SquareAttack(network, n_queries=queries, resc_schedule=False, **usual)
        return made.perturb
    usual["n_iter"] = BUDGETS[name]["iterations"]
    if name == "apgd_t":
        return pgd.APGDAttack_targeted(network, **usual).perturb
    if name == "fab_t":
        return fab.FABAttack_PT(network, targeted=True, **usual).perturb
    return pgd.APGDAttack(network, loss=name.removeprefix("apgd_"), **usual).perturb


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


@pytest.mark.parametrize("norm", EPS)
def test_attacks(norm: str, network: nn.Module, keep: Keep, benchmark: Any) -> None:
    x, y = load_digits(return_X_y=True)
    _, x, _, y = train_test_split(x / 16, y, test_size=355, random_state=0, stratify=y)
    images = torch.tensor(x[:IMAGES]).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(y[:IMAGES])

    def left(found: Tensor) -> float:
        return float((network(found).argmax(1) == labels).float().mean())

    lines = [f"**{norm}**, {IMAGES} images, n = {TURNS}", ""]
    lines.append("| images per second | here | authors | ratio | robust here | robust, authors |")
    lines.append("|---|---|---|---|---|---|")
    rounds = {}
    for name, budget in BUDGETS.items():
        attack, other = ATTACKS[name], theirs(network, name, norm)

        def ours(attack: Callable = attack, budget: Any = budget) -> Tensor:
            return attack(network, images, labels, eps=EPS[norm], norm=norm, **budget)

        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        with torch.random.fork_rng():
            for _ in range(TURNS):
                took, mine = timed(ours)
                seconds["ours"].append(took)
                took, found = timed(lambda: other(images, labels))  # noqa: B023
                seconds["theirs"].append(took)
        shares = left(mine), left(found)
        assert shares[0] <= shares[1] + 0.02
        assert shares[1] - shares[0] <= APART.get(name, 0.02)
        ratio = median_ratio(seconds["theirs"], seconds["ours"])
        rates = [IMAGES / statistics.median(seconds[side]) for side in seconds]
        lines.append(
            f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} | {shares[0]:.3f} "
            f"| {shares[1]:.3f} |"
        )
        rounds[f"{name}, {norm}"] = seconds
    keep("\n".join(lines), "cpu", rounds)
    benchmark.pedantic(ours, rounds=1)


@pytest.mark.parametrize("level", [0.5, 8])
def test_the_ensemble(level: float, keep: Keep, benchmark: Any) -> None:
    split = pictures(2_000)
    recipe = recipe_for(split, 2, torch.device("cpu"))
    network = initialize(lambda: MODELS["resnet18"](width=16), 0)
    network, _ = train(network, split, recipe, seed=0, device=torch.device("cpu"))
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()
    few = replace(split, images=split.images[:PICTURES], labels=split.labels[:PICTURES])
    images, labels, eps = as_input(few.images), few.labels, level / 255
    budgets = {name: BUDGETS[name] for name in ("apgd_ce", "apgd_t", "fab_t", "square")}

    def attacked(model: nn.Module, images: Tensor, makers: Callable[[str], Any]) -> Tensor:
        alive = (model(images).argmax(1) == labels).nonzero()[:, 0]
        for name, budget in budgets.items():
            made = makers(name)(
                model, images[alive], labels[alive], eps=eps, norm="linf", indices=alive, **budget
            )
            alive = alive[model(made).argmax(1) == labels[alive]]
        return alive

    subject = Evaluated(network, torch.device("cpu"))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with folding(adversarial(), subject, few, ours=True) as folded:
        assert folded
        for model in (network, plain):
            model.requires_grad_(False)
        for _ in range(TURNS):
            took, left = timed(lambda: attacked(network, images, ATTACKS.__getitem__))
            seconds["ours"].append(took)
            took, others = timed(lambda: attacked(plain, images.contiguous(), authors))
            seconds["theirs"].append(took)
        benchmark.pedantic(lambda: network(images), rounds=1)
    assert abs(len(left) - len(others)) <= 1
    ratio = median_ratio(seconds["theirs"], seconds["ours"])
    rates = [PICTURES / statistics.median(seconds[side]) for side in seconds]
    text = (
        f"**AutoAttack at {level:g}/255**, ResNet-18 of width 16, {PICTURES} images of "
        f"{few.image_size} pixels, {len(left)} robust (authors: {len(others)}), n = {TURNS}: "
        f"{rates[0]:.2f} images per second here, {rates[1]:.2f} by the authors, ratio {ratio:.2f}"
    )
    keep(text, "cpu", {f"ensemble, {level:g}/255": seconds})
