"""How many images a second a network is asked: as it is, and with its batch norms folded.

    pytest tests/test_bench_evaluation.py --benchmark-only -s

Contenders take turns in one process on the same images; their answers are compared first. On a
CUDA device also the whole robustness suite of 75 cells, as a command of its own.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.models.cards import MODELS
from harness.running.evaluate import Evaluated, batch_size_for, folding, observe
from harness.running.initial import initialize
from harness.running.recipes import recipe_for
from harness.running.train import train
from harness.storage import checkpoints
from harness.storage.files import data_folder
from harness.suites.base import Cell
from harness.suites.clean import clean
from harness.suites.datasets import Split, load

pytestmark = pytest.mark.bench
TITLE = "Evaluation"
READING = (
    "Images per second through the network and into its answers, median of turns side by side."
)
TURNS = 7
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def pictures(count: int) -> Split:
    try:
        split = load("cifar10", train=False, root=data_folder(None))
    except FileNotFoundError:
        split = load("digits", train=False, root=Path())
    which = torch.arange(count) % len(split)
    return replace(split, images=split.images[which], labels=split.labels[which])


@devices
@pytest.mark.parametrize("width", [16, 64])
def test_folding(width: int, device: str, benchmark: Any, keep: Callable[[str, str], None]) -> None:
    where, suite = torch.device(device), clean()
    split = pictures(10_000 if device == "cuda" else 16_000 // width)
    recipe = recipe_for(split, 1, where)
    model, _ = train(
        initialize(lambda: MODELS["resnet18"](width=width), 0), split, recipe, seed=0, device=where
    )
    batch = batch_size_for(where, split.image_size)

    def ask(dtype: str, fold: bool, batch_size: int = batch) -> tuple[np.ndarray, float]:
        subject, on_device = Evaluated(model, where, dtype), split.to(where)
        with folding(suite, subject, split, ours=True) if fold else contextlib.nullcontext():
            start = time.perf_counter()
            found = observe(suite, Cell("clean"), subject, on_device, batch_size=batch_size)
            return found["logits"], len(split) / (time.perf_counter() - start)

    contenders = {
        "float32, batches of 500": ("float32", False, 500),
        "float32": ("float32", False),
        "float32, folded": ("float32", True),
        "bfloat16": ("bfloat16", False),
        "bfloat16, folded": ("bfloat16", True),
    }
    expected, _ = ask("float32", False)
    for name, how in contenders.items():
        logits, _ = ask(*how)
        tolerance = 1e-3 if how[0] == "float32" else 0.05
        assert np.abs(logits - expected).max() < tolerance * np.abs(expected).max(), name
        agree = (logits.argmax(1) == expected.argmax(1)).mean()
        assert agree > 0.98, name
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, how in contenders.items():
            speeds[name].append(ask(*how)[1])
    first = next(iter(contenders))
    size = split.image_size
    lines = [
        f"**resnet18**, width {width}, {len(split):,} images of {size} pixels, n = {TURNS}",
        "",
        "| arithmetic | images per second | times the first |",
        "|---|---|---|",
    ]
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, speeds[first], strict=True))
        lines.append(f"| {name} | {statistics.median(found):.0f} | {ratio:.2f} |")
    keep("\n".join(lines), device)
    benchmark.pedantic(lambda: ask("float32", True), rounds=1)


@pytest.mark.gpu
def test_75_cells_end_to_end(
    benchmark: Any, keep: Callable[[str, str], None], tmp_path: Path
) -> None:
    """At most 10 s on an H200, process start included."""
    model = MODELS["resnet18"]()
    split = pictures(10_000)
    if len(split.classes) != 10 or not split.flip:
        pytest.skip("needs CIFAR-10; set HARNESS_DATA")
    weights = tmp_path / "weights.safetensors"
    checkpoints.write(weights, model.state_dict(), {})
    command = [sys.executable, "-m", "harness", "run", "--suite", "robustness", "--no-train"]
    command += ["--model", "resnet18", "--dataset", "cifar10", "--corruption", "common"]
    command += ["--weights", str(weights), "--dtype", "bfloat16", "--results", str(tmp_path)]

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True)

    start = time.perf_counter()
    benchmark.pedantic(run, rounds=1)
    taken = time.perf_counter() - start
    keep(f"75 cells of 10,000 images, the process's start included: {taken:.1f} s", "cuda")
