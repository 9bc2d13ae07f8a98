"""Contenders in turns in one process, and their rounds as JSON beside the tables.

A round of a contender is the seconds of a call: CPU seconds where there is one thread, which the
load of others lengthens least. The first contender of a group is ours. What the others take in the
same turns says how fast the machine was; where nobody else does the work, `yardstick` is beside it.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

TURNS = 7
LEAST = 0.1  # seconds that the calls of a turn take at least
YARDSTICK = "yardstick"

Work = Callable[[], object]
Rounds = Mapping[str, Sequence[float]]


class Keep(Protocol):
    """What the fixture `keep` gives: a function that prints a table and keeps it."""

    def __call__(self, text: str, device: str, rounds: Mapping[str, Rounds] | None = None) -> None:
        """Keep a table, and of each group of contenders the rounds by contender."""


def yardstick() -> None:
    """Do a fixed piece of work, half of it arithmetic and half of it memory."""
    a = torch.full((256, 256), 0.5)
    for _ in range(4):
        a = (a @ a).clamp_(max=1)
    torch.full((1 << 20,), 0.5).tanh_().add_(1).mul_(2)


def clock() -> float:
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def turns(
    contenders: Mapping[str, Work], rounds: int = TURNS, least: float = LEAST
) -> dict[str, list[float]]:
    """Return the seconds of a call of each contender in each turn, after one that warms up."""
    calls = {}
    for name, work in contenders.items():
        work()
        start = clock()
        work()
        calls[name] = max(1, math.ceil(least / max(clock() - start, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            start = clock()
            for _ in range(calls[name]):
                work()
            found[name].append((clock() - start) / calls[name])
    return found


def median_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def ms(seconds: Sequence[float]) -> str:
    """Return "median | first quartile-third quartile" in milliseconds."""
    low, middle, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
    return f"{middle:.4g} | {low:.4g}-{high:.4g}"


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return b of seconds ~ size^b, by least squares on logarithms; 1 is in proportion."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, seconds)]).slope


def write_rounds(path: Path, machine: Mapping[str, Any], groups: Mapping[str, Rounds]) -> None:
    """Add the rounds of groups to a JSON file."""
    told: dict[str, Any] = {"machine": dict(machine), "groups": {}}
    if path.is_file():
        told = json.loads(path.read_text())
    for group, rounds in groups.items():
        told["groups"][group] = {n: [float(f"{v:.6g}") for v in r] for n, r in rounds.items()}
    lines = [f"{json.dumps(g)}: {json.dumps(r)}" for g, r in told["groups"].items()]
    content = ",\n".join(lines)
    path.write_text(f'{{"machine": {json.dumps(told["machine"])}, "groups": {{\n{content}\n}}}}\n')
