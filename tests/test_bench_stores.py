"""Tables of a folder of 50,000 cells: seconds, memory.

    pytest tests/test_bench_stores.py --benchmark-only -s --store FOLDER

makes the folder, of the project's own writers, where it is not there yet (about 1.2 GB), and runs
the commands that read it, each as a process of its own. With `--store` it stays, and can be read
again: by another version, whose `--json` and leaderboard must have the same bytes.
"""

import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.models.catalog import CATALOG
from harness.storage.cells import CellStore, Description
from harness.storage.packed_outcomes import Packing
from harness.storage.results import cells_root, csv_path, read_provenance, run_key, write
from harness.suites.base import Cell
from harness.suites.catalog import CORRUPTIONS, FAMILIES, SUITES

IMAGES, CLASSES = 355, 10
SEVEN = (*FAMILIES["noise"], *FAMILIES["blur"])
KINDS = {"digits": SEVEN, "cifar10": tuple(CORRUPTIONS)}  # 36 and 96 cells
LIKE = "results/published/digits/robustness/resnet18/seed0.json"


def make_store(results: Path, models: int = 76, seeds: int = 5) -> int:
    """Write runs of robustness on two data sets, and return the number of their cells."""
    told = read_provenance(Path(__file__).parent.parent / LIKE)
    names = [*list(CATALOG)[:models], *(f"model{i}" for i in range(models))][:models]
    difficulty, count = np.random.default_rng(0).random(IMAGES), 0
    for m, model in enumerate(names):
        for seed in range(seeds):
            for dataset in KINDS:
                skill = 0.97 - 0.4 * m / models
                count += _write_run(results, (dataset, model, seed), skill, difficulty, told)
    return count


def _write_run(
    results: Path,
    place: tuple[str, str, int],
    skill: float,
    difficulty: np.ndarray,
    like: dict[str, Any],
) -> int:
    """Write a run of a network of this accuracy on clean images, as `harness run` does."""
    dataset, model, seed = place
    random = np.random.default_rng([seed, *model.encode(), *dataset.encode()])
    store, suite, hits = CellStore(cells_root(results)), SUITES["robustness"](), Packing()
    labels, keys, rows = np.arange(IMAGES) % CLASSES, dict[str, str](), []
    weights = f"{model}{dataset}{seed}"
    for kind, level in [("clean", 0), *((k, lv) for k in KINDS[dataset] for lv in range(1, 6))]:
        hit = 0.7 * difficulty + 0.3 * random.random(IMAGES) < skill - 0.05 * level
        logits = random.standard_normal((IMAGES, CLASSES), np.float32)
        logits[np.arange(IMAGES), (labels + ~hit) % CLASSES] += 5
        described = Description(
            weights=weights, settings="", model=model, code="", arguments={}, data=dataset,
            limit=0, suite="robustness", version=1, suite_code="", condition=kind, level=level,
            constants={}, seed=0, dtype="float32", batch=0, protocol=1,
        )  # fmt: skip
        arrays = {"indices": np.arange(IMAGES), "labels": labels, "logits": logits}
        store.write(described, arrays)
        found = list(suite.measure(Cell(kind, level), arrays))
        hits.add(len(keys), asdict(described), arrays, found)
        keys[f"{kind} {level:g}"] = described.key
        rows += found
    key = {"dataset": dataset, "suite": "robustness", "model": model, "seed": seed}
    key["run"] = run_key(keys, 1)
    told = {name: value for name, value in like.items() if name not in (*key, "csv", "bits")}
    told |= {"cells": keys, "data": dataset, "weights": weights}
    path = csv_path(results, dataset, "robustness", model, seed)
    write(path, key, rows, told | {"training": like["training"] | {"model": model}}, hits.content())
    return len(keys)


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of 50,160 cells."""
    given = request.config.getoption("--store")
    folder = Path(given) if given else tmp_path_factory.mktemp("large") / "results"
    if not folder.is_dir():
        assert make_store(folder) == 50_160
    return folder


PROGRAM = """
import sys
from harness.cli import main
sys.argv[0] = "harness"
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(status.read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def run(*arguments: str) -> tuple[float, float]:
    """The seconds that a command takes of a processor, and MB of memory at most; both printed."""
    start, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = int(done.stderr.split()[-1]) / 1e3
    print(f"{took:6.1f} s of CPU, {time.time() - start:6.1f} s, {memory:6.0f} MB", *arguments)
    return took, memory


# With the seconds that they may take on a machine that does nothing else.
COMMANDS: list[tuple[tuple[str, ...], float]] = [
    (("table",), 45),  # opens every cell once, and remembers what they give
    (("table",), 5),
    (("table", "--json"), 5),
    (("table", "--write"), 15),
]


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("arguments, seconds", COMMANDS)
def test_large_stores_are_read(
    benchmark: BenchmarkFixture, store: Path, arguments: tuple[str, ...], seconds: float
) -> None:
    whole = (*arguments, "--results", os.fspath(store))
    took, memory = benchmark.pedantic(run, whole, rounds=1)
    benchmark.extra_info |= {"seconds of CPU": took, "MB": memory, "seconds wanted": seconds}
    assert memory < 500
