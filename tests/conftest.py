import csv
import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from harness.analysis import boards, leaderboard
from harness.running.environment import device_name
from harness.storage.cells import CellStore, Description
from harness.storage.json_files import read_json, write_json
from harness.storage.packed_outcomes import Packing
from harness.storage.results import COLUMNS, KEY, cells_root, csv_path, run_key, write
from harness.suites.base import Cell
from harness.suites.catalog import CORRUPTIONS, DATASETS, SUITES
from tests.side_by_side import Keep, Rounds, write_rounds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tables", metavar="FOLDER", help="where speed comparisons put their tables")
    parser.addoption("--store", metavar="FOLDER", help="results of 50,000 cells to make or to read")
    parser.addoption("--threads", type=int, default=1, help="threads of a speed comparison")
    parser.addoption(
        "--changes", type=int, default=300, help="random changes of stored files to try"
    )


def machine(device: str) -> str:
    """Return what speeds were measured on, "AMD EPYC, 2 threads, torch 2.15.0, Python 3.11.7"."""
    cuda = f", CUDA {torch.version.cuda}" if device == "cuda" else ""
    where = device_name(torch.device(device))
    return f"{where}{cuda}, torch {torch.__version__}, Python {platform.python_version()}"


@pytest.fixture(scope="module")
def keep(request: pytest.FixtureRequest) -> Iterator[Keep]:
    """A function that prints a table and, by `--tables FOLDER`, keeps it as MODULE-DEVICE.md.

    Rounds that it is given go to MODULE-DEVICE.json beside it.

    The module says in TITLE what its tables are of, and in READING how they are read.
    `tox -e gpu` makes those of a CUDA device.
    """
    module, folder, begun = request.module, request.config.getoption("--tables"), set()
    name = module.__name__.rpartition(".")[2]
    before, threads = torch.get_num_threads(), request.config.getoption("--threads")
    torch.set_num_threads(threads)

    def keep_table(text: str, device: str, rounds: Mapping[str, Rounds] | None = None) -> None:
        print(f"\n{text}\n")
        if not folder:
            return
        path = Path(folder) / f"{name.removeprefix('test_bench_')}-{device}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if device not in begun:
            begun.add(device)
            path.with_suffix(".json").unlink(missing_ok=True)
            marks = "gpu" if device == "cuda" else "not gpu"
            path.write_text(
                f"# {module.TITLE}, {device}\n\n{machine(device)}.\n{module.READING}\nMade by\n\n"
                f"    pytest tests/{name}.py --benchmark-only --tables results/benchmarks "
                f'--threads {threads} -m "{marks}"\n\n'
            )
        with path.open("a") as file:
            file.write(f"{text}\n\n")
        if rounds is not None:
            told = {"device": machine(device), "threads": threads}
            write_rounds(path.with_suffix(".json"), told, rounds)

    yield keep_table
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def forget_users_code() -> Iterator[None]:
    """Take out of the registries what a test brought into this process from a user's file."""
    yield
    for registry in (SUITES, DATASETS, CORRUPTIONS):
        for name in registry._entries.keys() - registry._modules.keys():
            del registry._entries[name]


# Small tensors: threads that wait for each other take many times as long where cores are shared.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of programs that tests start


@pytest.fixture(scope="module")
def calibrated_on_few() -> Iterator[None]:
    """Temperatures of attention are found on 20 training images, not on 1000 in 8 s a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.running.evaluate.CALIBRATION", 20)
        yield


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Twelve images (12, 3, 32, 32), uint8: waves, edges, flat fields, noise, black and white."""
    random = np.random.default_rng(0)
    h, w = np.mgrid[:32, :32] / 32
    images = []
    for k in range(9):
        wave = np.stack(
            [np.sin(6 * (k + 1) * (h * np.cos(c) + w * np.sin(c)) + c) for c in range(3)]
        )
        edge = (h + (k - 4) * w > 0.5) * random.uniform(-1, 1, 3)[:, None, None]
        grain = random.normal(size=(3, 32, 32)) * 0.02 * k
        images.append(np.clip(127 + 90 * (wave * 0.6 + edge + grain), 0, 255))
    images.append(np.broadcast_to(np.array([200, 77, 13])[:, None, None], (3, 32, 32)))
    images.append(np.zeros((3, 32, 32)))
    images.append(np.full((3, 32, 32), 255))
    return torch.from_numpy(np.stack(images).astype(np.uint8))


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """A small convolutional network for digits, images (N, 3, 8, 8) in [0, 1] to 10 logits.

    It is trained for a second or two on noisy images of scikit-learn's digits, those that a
    stratified split with `random_state=0` and 355 test images leaves.
    """
    images, labels = load_digits(return_X_y=True)
    x, _, y, _ = train_test_split(
        images / 16, labels, test_size=355, random_state=0, stratify=labels
    )
    pictures = torch.tensor(x).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    classes = torch.tensor(y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(20):
            for rows in torch.randperm(len(pictures)).split(128):
                noisy = pictures[rows] + 0.1 * torch.randn(len(rows), 3, 8, 8)
                loss = nn.functional.cross_entropy(net(noisy.clamp(0, 1)), classes[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def told_folder() -> Callable[..., Path]:
    """A function that writes a results folder of robustness: CSVs, JSONs, a leaderboard.

    Model i has accuracy 0.9 - 0.01 i - 0.05 level + 0.002 seed and NLL 2 (1 - accuracy) on 1000
    images; 60 models or more lie closer together, above 0.
    """

    def write(
        results: Path,
        models: Sequence[str],
        *,
        seeds: Sequence[int] = (0, 1),
        dataset: str = "d",
        kinds: Sequence[str] = ("fog", "snow"),
        board: bool = True,
        made: dict[str, Any] | None = None,
    ) -> Path:
        cells = [("clean", 0), *((kind, level) for kind in kinds for level in range(1, 6))]
        rows = []
        apart = min(0.01, 0.6 / len(models))
        for i, model in enumerate(models):
            for seed in seeds:
                measured = []
                for condition, level in cells:
                    accuracy = round(0.9 - apart * i - 0.05 * level + 0.002 * seed, 6)
                    key = (model, "robustness", dataset, seed, condition, level)
                    measured.append((*key, "accuracy", "", accuracy, 1000, f"run{seed}"))
                    measured.append(
                        (*key, "nll", "", round(2 - 2 * accuracy, 6), 1000, f"run{seed}")
                    )
                path = csv_path(results, dataset, "robustness", model, seed)
                _write_csv(path, COLUMNS, measured)
                rows += measured
                told = {
                    "model": model,
                    "suite": "robustness",
                    "dataset": dataset,
                    "seed": seed,
                    "run": f"run{seed}",
                    "weights": f"{i:032x}{seed:032x}",
                    "command": "harness run --suite robustness",
                    "finished": f"2026-01-0{seed + 1}T00:00:00+00:00",
                    "wall_s": 1.5,
                    "images": 1000,
                    "limit": 0,
                    "data": "images",
                    "version": 1,
                    "rows": len(measured),
                    "environment": {"commit": "c0ffee" * 6, "dirty": False, "device": "a CPU"},
                    "cells": {f"{c} {level}": "0" * 64 for c, level in cells},
                }
                told |= {"csv": hashlib.sha256(path.read_bytes()).hexdigest(), **(made or {})}
                write_json(path.with_suffix(".json"), told)
        if board:
            table = pd.DataFrame(rows, columns=list(COLUMNS))
            (results / boards.FILE).write_bytes(leaderboard.as_csv(leaderboard.leaderboard(table)))
        return results

    return write


@pytest.fixture(scope="session")
def store_table() -> Callable[..., None]:
    """A function that writes a long table as runs of a results folder, with what JSON must say."""

    def store(results: Path, table: pd.DataFrame, **told: Any) -> None:
        for (dataset, suite, model, seed), rows in table.groupby(list(KEY)):
            path = csv_path(results, dataset, suite, model, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(path, index=False, lineterminator="\n")
            key = {"dataset": dataset, "suite": suite, "model": model, "seed": seed}
            made = {"run": rows["run"].iloc[0], "limit": 0, "version": 1, "rows": len(rows)}
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            made |= {"cells": {}, "data": f"images of {dataset}", "csv": digest}
            write_json(path.with_suffix(".json"), key | made | told)

    return store


@pytest.fixture(scope="session")
def vouch() -> Callable[..., None]:
    """A function that lets a run's JSON vouch for its CSV as it is now, and say what else is given.

    So a test reads rows that no run wrote.
    """

    def sign(path: Path, **told: Any) -> None:
        beside = path.with_suffix(".json")
        digest = {"csv": hashlib.sha256(path.read_bytes()).hexdigest()}
        write_json(beside, read_json(beside, "") | digest | told)

    return sign


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process a stretch of tests, not every other one: fixtures of modules are made once.

    Whoever is done first takes over what others have not begun.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what takes hours, unless `-m` asks for it, and what needs a CUDA device without one."""
    asked = config.getoption("-m")
    for item in items:
        if item.get_closest_marker("fire") and "fire" not in asked:
            item.add_marker(pytest.mark.skip(reason="takes hours; ask for it with -m fire"))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture
def answered() -> Callable[..., Path]:
    """A function that writes what a run of a network of known accuracy leaves: cells, CSV, JSON
    and packed hits.

    The images' difficulty is shared by all runs; `accuracy` is the chance of a hit on the clean
    images, and each severity of a corruption takes `fall` away.
    """

    def answer(
        results: Path,
        model: str,
        seed: int = 0,
        *,
        accuracy: float = 0.9,
        fall: float = 0.02,
        n: int = 200,
        kinds: Sequence[str] = ("gaussian_noise", "shot_noise", "impulse_noise"),
        suite: str = "robustness",
        dataset: str = "d",
        data: str = "images",
        limit: int = 0,
        version: int = 1,
        luck: int = 0,
        bits: bool = True,
    ) -> Path:
        difficulty = np.random.default_rng(0).random(n)
        chance = np.random.default_rng([seed, luck, len(model), sum(model.encode())])
        labels = np.arange(n) % 10
        store, keys, measured, hits = CellStore(cells_root(results)), {}, [], Packing()
        wheres = [("clean", 0), *((kind, level) for kind in kinds for level in range(1, 6))]
        for condition, level in wheres:
            hit = 0.7 * difficulty + 0.3 * chance.random(n) < accuracy - fall * level
            logits = chance.normal(size=(n, 10)).astype(np.float32)
            logits[np.arange(n), (labels + ~hit) % 10] += 6
            described = Description(
                weights=f"{model}{seed}{luck}", settings="", model=model, code="", arguments={},
                data=data, limit=limit, suite=suite, version=version, suite_code="",
                condition=condition, level=level, constants={}, seed=0, dtype="float32", batch=0,
                protocol=1,
            )  # fmt: skip
            arrays = {"indices": np.arange(n), "labels": labels, "logits": logits}
            store.write(described, arrays)
            keys[f"{condition} {level:g}"] = described.key
            rows = list(SUITES[suite]().measure(Cell(condition, level), arrays))
            hits.add(len(keys), asdict(described), arrays, rows)
            measured += rows
        key = {"model": model, "suite": suite, "dataset": dataset, "seed": seed}
        key["run"] = run_key(keys, version)
        path = csv_path(results, dataset, suite, model, seed)
        told = {"version": version, "limit": limit, "data": data, "image_seed": 0, "cells": keys}
        write(path, key, measured, told, hits.content() if bits else b"")
        return path

    return answer
