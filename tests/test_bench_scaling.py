"""How costs grow: with the batch, the size of images, the number of models, of cells and of cores.

    pytest tests/test_bench_scaling.py --benchmark-only -s --tables results/benchmarks

The slope of a table is b in seconds ~ size^b, fitted to the whole table and to its last two rows: 1
where the cost is in proportion, below where something is paid once, above where cost runs away. A
fixed piece of work takes its turns beside; with it tables of different days are compared.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.analysis.leaderboard import leaderboard
from harness.models.cards import MODELS
from harness.models.ops import heat, perona_malik
from harness.models.ops.solvers import solver
from harness.running.ahead import Ahead
from harness.running.evaluate import Evaluated, folding, observe
from harness.storage.results import read
from harness.suites.base import Cell
from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions import corrupt
from harness.suites.datasets import load
from harness.suites.robustness import robustness
from tests.side_by_side import (
    TURNS,
    YARDSTICK,
    Keep,
    Work,
    median_ratio,
    ms,
    slope,
    turns,
    yardstick,
)

pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]
TITLE = "Growth of costs"
READING = (
    "Median and quartiles of a call; CPU time where there is one thread. `slope`: b in seconds ~\n"
    "size^b, of the whole table and of its last two rows; 1 is in proportion."
)


def grown(title: str, what: str, works: Mapping[int, Work], keep: Keep, rounds: int = 7) -> None:
    """Measure a call at several sizes, and keep the table with its slopes."""
    times = turns({**{str(n): work for n, work in works.items()}, YARDSTICK: yardstick}, rounds)
    beside = times.pop(YARDSTICK)
    sizes, medians = [*works], [median(found) for found in times.values()]
    lines = [
        f"**{title}**, n = {rounds}",
        "",
        f"| {what} | median ms | quartiles ms | us for one |",
    ]
    lines.append("|---|---|---|---|")
    for n, found in zip(sizes, times.values(), strict=True):
        lines.append(f"| {n} | {ms(found)} | {1e6 * median(found) / n:.4g} |")
    whole, last = slope(sizes, medians), slope(sizes[-2:], medians[-2:])
    lines += ["", f"slope {whole:.2f}, of the last two rows {last:.2f}"]
    groups = {f"{title}, {what} {n}": {n: found, YARDSTICK: beside} for n, found in times.items()}
    keep("\n".join(lines), "cpu", groups)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def images(count: int, size: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=g)


def diffuse(u: torch.Tensor) -> object:
    return heat(u, dt=0.2, num_steps=10)


def preserve_edges(u: torch.Tensor) -> object:
    return perona_malik(u, dt=0.2, num_steps=10, kappa=0.7)


@pytest.mark.parametrize("operator", [diffuse, preserve_edges], ids=["heat", "perona_malik"])
def test_operators(operator: Callable, keep: Keep, benchmark: Any) -> None:
    name = {diffuse: "heat", preserve_edges: "perona_malik"}[operator]
    batches = {n: partial(operator, noise(n, 3, 32, 32)) for n in (1, 8, 64, 256)}
    grown(f"{name}, images of 3 x 32 x 32", "batch", batches, keep)
    sizes = {n: partial(operator, noise(16, 3, n, n)) for n in (16, 32, 64, 128)}
    grown(f"{name}, 16 images of 3 channels", "pixels of a side", sizes, keep)
    benchmark.pedantic(yardstick, rounds=1)


@pytest.mark.parametrize("kind", ["gaussian_noise", "defocus_blur", "elastic_transform"])
def test_corruptions(kind: str, keep: Keep, benchmark: Any) -> None:
    batches = {n: partial(corrupt, images(n, 32), kind, 3) for n in (1, 8, 64, 512)}
    grown(f"{kind}, images of 32 pixels", "batch", batches, keep)
    sizes = {n: partial(corrupt, images(8, n), kind, 3) for n in (32, 64, 128, 224)}
    grown(f"{kind}, 8 images", "pixels of a side", sizes, keep)
    benchmark.pedantic(yardstick, rounds=1)


@torch.no_grad()
def test_networks(keep: Keep, benchmark: Any) -> None:
    for name in ("resnet18", "ode_block(solver='dopri5')"):
        builder, _, rest = name.partition("(")
        model = MODELS[builder](width=16, **({"solver": "dopri5"} if rest else {})).eval()
        batches = {n: partial(model, torch.rand(n, 3, 32, 32)) for n in (1, 8, 64, 256)}
        grown(f"{name}, width 16, 32 pixels", "batch", batches, keep)
        sizes = {n: partial(model, torch.rand(8, 3, n, n)) for n in (16, 32, 64, 128)}
        grown(f"{name}, width 16, 8 images", "pixels of a side", sizes, keep)
    benchmark.pedantic(yardstick, rounds=1)


@torch.no_grad()
def test_solves(keep: Keep, benchmark: Any) -> None:
    layer = nn.Conv2d(16, 16, 3, padding=1)
    solve = solver("dopri5")
    states = {n: noise(n, 16, 8, 8) for n in (1, 8, 64, 256)}
    works = {n: partial(solve, lambda t, u: torch.tanh(layer(u)), u) for n, u in states.items()}
    grown("dopri5, maps of 16 x 8 x 8", "batch", works, keep)
    benchmark.pedantic(yardstick, rounds=1)


def test_cells(keep: Keep, benchmark: Any) -> None:
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    kinds = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur")

    def evaluate(corruptions: Sequence[str]) -> object:
        return harness.evaluate(
            net, suite="robustness", dataset="digits", name="net", corruptions=list(corruptions)
        )

    works = {1 + 5 * k: partial(evaluate, kinds[:k]) for k in (1, 2, 4)}
    grown("evaluate, robustness on the digits", "cells", works, keep, 5)
    benchmark.pedantic(yardstick, rounds=1)


def test_models(
    keep: Keep, benchmark: Any, told_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Reading, and ranking, what many models left."""
    folders = {}
    for n in (8, 32, 128):
        folders[n] = told_folder(tmp_path / str(n), [f"m{i}" for i in range(n)], board=False)

    works = {n: partial(read, folder) for n, folder in folders.items()}
    grown("reading results of 2 seeds x 11 cells", "models", works, keep, 5)
    frames = {n: read(folder) for n, folder in folders.items()}
    ranks = {n: partial(leaderboard, frame) for n, frame in frames.items()}
    grown("leaderboard of 2 seeds x 11 cells", "models", ranks, keep, 5)
    benchmark.pedantic(yardstick, rounds=1)


def test_cores(keep: Keep, benchmark: Any) -> None:
    """Images made and classified: a batch at a time on all cores, or a batch on each."""
    count, size = len(os.sched_getaffinity(0)), 100
    if count < 2:
        pytest.skip("needs two cores")
    split = load("digits", train=False, root=Path())
    which = torch.arange(4000) % len(split)
    split = replace(split, images=split.images[which], labels=split.labels[which])
    cell = Cell("motion_blur", 3, partial(CORRUPTIONS["motion_blur"], severity=3))
    subject = Evaluated(MODELS["resnet18"](width=16), torch.device("cpu"))
    contenders = {
        f"{count} batches, a thread each": (count, Ahead(count, looks=True)),
        f"{count} threads in a batch, images made ahead": (count, Ahead(count)),
        f"{count} threads in a batch": (count, Ahead()),
        "one thread": (1, Ahead()),
    }

    def ask(threads: int, ahead: Ahead) -> np.ndarray:
        torch.set_num_threads(threads)
        found = observe(robustness(), cell, subject, split, batch_size=size, ahead=ahead)
        return found["logits"]

    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    with folding(robustness(), subject, split, ours=True):
        expected = ask(1, Ahead())
        assert np.array_equal(ask(*contenders[next(iter(contenders))]), expected)
        for _ in range(TURNS):
            for name, how in contenders.items():
                start = time.perf_counter()
                ask(*how)
                rounds[name].append(time.perf_counter() - start)
        benchmark.pedantic(ask, contenders[next(iter(contenders))], rounds=1)
    title = f"resnet18, width 16, {len(split):,} images of 32 pixels under motion blur"
    lines = [f"**{title}**, made and classified, n = {TURNS}", ""]
    lines += ["| | images per second | times one thread |", "|---|---|---|"]
    for name, found in rounds.items():
        ratio = median_ratio(rounds["one thread"], found)
        lines.append(f"| {name} | {len(split) / median(found):.0f} | {ratio:.2f} |")
    keep("\n".join(lines), "cpu", {title: rounds})
