"""Images per second of each attack beside the authors' code, on one thread.

    pytest tests/test_bench_attacks.py --benchmark-only -s

A fifth of the published budgets (20 iterations, 1,000 queries), on 200 images of digits, 3 x 8 x 8,
and the small network of `conftest`; about a fourth of them is broken. The answers are compared
first: as many images stay robust, up to the spread of seeds, somewhat fewer for Square, which draws
every place here. Then both sides take turns. Times are CPU times of the one thread, which the load
of others does not lengthen; a ratio is the median of the ratios of the turns. With a larger network
forward and backward passes take nearly all of the time, so that ratios say how many are saved.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from harness.suites.attacks import ATTACKS

pytestmark = pytest.mark.bench
TURNS = 3
BUDGETS = {
    "apgd_ce": {"iterations": 20},
    "apgd_dlr": {"iterations": 20},
    "apgd_t": {"iterations": 20, "targets": 9},
    "fab_t": {"iterations": 20, "targets": 9},
    "square": {"queries": 1000},
}
IMAGES = 200
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
def test_attacks(norm: str, network: nn.Module, benchmark: Any) -> None:
    x, y = load_digits(return_X_y=True)
    _, x, _, y = train_test_split(x / 16, y, test_size=355, random_state=0, stratify=y)
    images = torch.tensor(x[:IMAGES]).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(y[:IMAGES])

    def left(found: Tensor) -> float:
        return float((network(found).argmax(1) == labels).float().mean())

    lines = [f"{'images per second':20s} {'here':>8s} {'authors':>8s} {'ratio':>6s}  shares left"]
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
        pairs = zip(seconds["ours"], seconds["theirs"], strict=True)
        ratio = statistics.median(b / a for a, b in pairs)
        rates = [IMAGES / statistics.median(seconds[side]) for side in seconds]
        lines.append(
            f"{norm + ' ' + name:20s} {rates[0]:8.1f} {rates[1]:8.1f} {ratio:6.2f}  "
            f"{shares[0]:.3f} {shares[1]:.3f}"
        )
    text = "\n".join(lines)
    print(f"\n{text}\none thread, torch {torch.__version__}, {IMAGES} images, {TURNS} turns")
    benchmark.extra_info["table"] = text
    benchmark.pedantic(ours, rounds=1)
