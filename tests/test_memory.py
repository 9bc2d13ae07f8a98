"""Memory stays flat however many conditions are measured: no cell's arrays outlive it.

    pytest tests/test_memory.py --benchmark-only -s

measures a thousand cells in one process and prints how its memory grew.
"""

import gc
import resource
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console
from torch import Tensor, nn

from harness.models.in_memory import source_of
from harness.progress import Progress
from harness.running import one_run as module
from harness.running.execute import execute
from harness.running.one_run import Written
from harness.running.options import Options
from harness.running.plan import plan
from harness.running.rescore import rescore
from harness.storage.cells import CellStore

QUIET = Progress(Console(quiet=True))
MB = 1e6
NOISE = ("gaussian_noise",)


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


class Head(nn.Module):
    """Ten numbers of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 10, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(images, 8).flatten(1))


def run(
    folder: Path, seeds: Sequence[int] = (0,), limit: int = 20, corruptions: tuple[str, ...] = ()
) -> Iterator[Written]:
    """Measure a network under noise and blur: 36 cells, or some of them."""
    options = Options(results=folder, data=folder, limit=limit, corruptions=corruptions)
    jobs = plan([source_of(Head(), "net")], ["digits"], list(seeds), ["robustness"], options)
    return execute(jobs, options, QUIET)


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A function that returns how many cells' logits were alive at once since its last call."""
    alive, counts = list[Any](), [0]

    def note(found: Any) -> Any:
        arrays = found[0] if isinstance(found, tuple) else found
        if arrays is not None:
            assert isinstance(arrays["logits"], np.ndarray)
            gc.collect()
            alive.append(weakref.ref(arrays["logits"]))
            counts.append(sum(one() is not None for one in alive))
        return found

    def watched(function: Callable) -> Callable:
        return lambda *arguments, **options: note(function(*arguments, **options))

    stepwise = module.observe_stepwise

    def steps(*arguments: Any, **options: Any) -> Iterator[None]:
        return note((yield from stepwise(*arguments, **options)))

    monkeypatch.setattr(module, "observe_stepwise", steps)
    for name in ("read", "look"):
        monkeypatch.setattr(CellStore, name, watched(getattr(CellStore, name)))

    def largest() -> int:
        assert len(alive) == 6
        alive.clear()
        found = max(counts)
        counts[:] = [0]
        return found

    return largest


def test_cells_are_measured_one_by_one(tmp_path: Path, most: Callable[[], int]) -> None:
    assert [done.measured for done in run(tmp_path, corruptions=NOISE)] == [6]
    assert most() <= 2, "the one at hand, and the next"
    assert [done.measured for done in run(tmp_path, corruptions=NOISE)] == [0]
    assert most() <= 2, "those that are stored likewise"
    (tmp_path / "quick").rename(tmp_path / "other")
    (tmp_path / "cells").rename(tmp_path / "other/cells")
    assert list(rescore(tmp_path / "other", [], [], [])) == ["1 tables are what their cells say."]
    assert most() <= 2, "and those of tables that are made again"


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_over_a_thousand_cells(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    def work() -> list[float]:
        used = []
        for _ in run(tmp_path, range(28), limit=0):
            gc.collect()
            used.append(resident())
        return used

    used = benchmark.pedantic(work, rounds=1)
    print("MB after each 36 cells:", *(f"{one:.0f}" for one in used))
    assert max(used) < used[1] + 20
