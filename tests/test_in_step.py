"""Several models see every image once it is made; what is measured does not depend on company."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from harness.models.in_memory import source_of
from harness.progress import Progress
from harness.refusal import Failure
from harness.running import execute as module
from harness.running.execute import execute
from harness.running.one_run import Written
from harness.running.options import Options
from harness.running.plan import plan
from harness.running.shared_images import Shared
from harness.suites.base import Cell

QUIET = Progress(Console(quiet=True))


class Head(nn.Module):
    """Ten numbers of an image."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.head = nn.Linear(48, 10, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(10, 48, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(images, 8).flatten(1))


def grain(images: Tensor) -> Tensor:
    """Mean difference of neighbors, (N, 1): large under noise."""
    return images.diff(dim=-1).abs().mean((1, 2, 3)).unsqueeze(1)


class Broken(Head):
    """Gives what is not a number under noise."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / (grain(images) < 0.1)


class Raising(Head):
    """Raises under noise."""

    def forward(self, images: Tensor) -> Tensor:
        if grain(images).max() > 0.1:
            raise RuntimeError("too noisy")
        return super().forward(images)


def run(folder: Path, heads: dict[str, nn.Module], **more: int) -> list[Written]:
    options = Options(
        results=folder, data=folder, limit=40, corruptions=("noise",), batch_size=16, **more
    )
    sources = [source_of(head, name) for name, head in heads.items()]
    jobs = plan(sources, ["digits"], [0], ["robustness", "clean"], options)
    return list(execute(jobs, options, QUIET))


def tables(folder: Path, names: Sequence[str]) -> list[bytes]:
    quick = folder / "quick/digits"
    return [
        (quick / s / n / "seed0.csv").read_bytes() for s in ("robustness", "clean") for n in names
    ]


def test_tables_are_those_of_one_model_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = list[str](), Shared._made

    def counted(shared: Shared, cell: Cell, *arguments: Any) -> Tensor:
        made.append(cell.condition)
        return make(shared, cell, *arguments)

    heads = {name: Head(seed) for seed, name in enumerate("abc")}
    monkeypatch.setattr(Shared, "_made", counted)
    together = run(tmp_path / "together", heads)
    assert [w.measured for w in together] == [16] * 3 + [1] * 3
    count = len(made)
    assert made.count("gaussian_noise") == 5 * 3  # severities times batches, for all three
    made.clear()
    monkeypatch.setattr(module, "AT_ONCE", 1)
    run(tmp_path / "alone", heads)
    assert len(made) == 3 * count
    assert tables(tmp_path / "together", "abc") == tables(tmp_path / "alone", "abc")
    cells = [{p.name: p.read_bytes() for p in (tmp_path / f / "cells").rglob("*") if p.is_file()}
             for f in ("together", "alone")]  # fmt: skip
    assert len(cells[0]) > 40 and cells[0].keys() == cells[1].keys()


def test_what_is_stored_of_some_is_not_measured_again(tmp_path: Path) -> None:
    heads = {name: Head(seed) for seed, name in enumerate("abc")}
    run(tmp_path, {"b": heads["b"]})
    assert [w.measured for w in run(tmp_path, heads)] == [16, 0, 16, 1, 0, 1]


@pytest.mark.parametrize("bad", [Broken(1), Raising(1)])
def test_one_that_fails_does_not_keep_the_others(bad: nn.Module, tmp_path: Path) -> None:
    heads = {"a": Head(0), "bad": bad, "c": Head(2)}
    with pytest.raises(Failure, match="bad on digits, seed 0"):
        run(tmp_path / "with", heads)
    assert not (tmp_path / "with/quick/digits/robustness/bad/seed0.csv").exists()
    run(tmp_path / "without", {"a": Head(0), "c": Head(2)})
    assert tables(tmp_path / "with", "ac") == tables(tmp_path / "without", "ac")
