"""The comparison of two folders of benchmarks, on rounds that are made up."""

import json
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import benchmarks
from tests.side_by_side import slope, turns, write_rounds, yardstick

GROUPS = [f"work {i}" for i in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a folder of 40 groups, ours beside another, with noise of 4 %."""

    def write(
        name: str,
        slower: dict[str, float] | None = None,
        load: float = 1.0,
        rounds: int = 7,
        beside: bool = True,
        **told: Any,
    ) -> Path:
        random, made = np.random.default_rng(len(name) + rounds), tmp_path / name
        made.mkdir()
        machine = {"device": "A", "cores": 2, "threads": 1, "python": "3", "versions": {}} | told
        (made / benchmarks.MACHINE).write_text(json.dumps(machine))
        for group in GROUPS:
            busy = load * (1 + 0.3 * random.random(rounds))  # lasts for a turn, and so for both
            noise = 1 + 0.04 * random.standard_normal((2, rounds))
            sides = {"ours": 1e-3 * busy * noise[0] * (slower or {}).get(group, 1.0)}
            if beside:
                sides["theirs"] = 5e-3 * busy * noise[1]
            write_rounds(made / "work-cpu.json", {}, {group: {k: [*v] for k, v in sides.items()}})
        return made

    return write


def test_planted_slower_rounds_are_found_and_nothing_else(
    folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    planted = {"work 3": 1.4, "work 17": 2.0}
    old, new = folder("old"), folder("newer", planted)
    assert benchmarks.main(["compare", str(old), str(new)]) == 1
    printed = capsys.readouterr().out
    slower = [line for line in printed.splitlines() if line.endswith("| slower |")]
    assert [line.split(" | ")[1] for line in slower] == ["work 17", "work 3"]
    assert "2 of 40 groups are slower by more than 10%" in printed
    changes = {change.group: change for change in benchmarks.compare(old, new)}
    for group in GROUPS:
        truth = planted.get(group, 1.0)
        assert changes[group].low <= changes[group].times <= changes[group].high
        assert changes[group].times == pytest.approx(truth, rel=0.08)


def test_what_became_faster_is_said_and_is_no_failure(
    folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = folder("old"), folder("newer", {"work 5": 0.5})
    assert benchmarks.main(["compare", str(old), str(new)]) == 0
    assert "| work 5 | 0.5" in capsys.readouterr().out


def test_a_machine_under_load_is_divided_out_where_others_ran_beside(
    folder: Callable[..., Path],
) -> None:
    old, new = folder("old"), folder("newer", load=1.6)
    assert benchmarks.main(["compare", str(old), str(new)]) == 0
    alone = folder("alone", beside=False), folder("alone, later", beside=False, load=1.6)
    assert benchmarks.main(["compare", *map(str, alone)]) == 1
    assert not any(change.relative for change in benchmarks.compare(*alone))


def test_equal_code_is_rarely_called_slower(folder: Callable[..., Path]) -> None:
    names = ["a", "bb", "ccc", "dddd", "eeeee"]
    folders = [folder(name) for name in names]
    found = [benchmarks.compare(a, b) for a, b in combinations(folders, 2)]
    changes = [change for pair in found for change in pair]
    assert len(changes) == 400
    assert not [change for change in changes if change.verdict(benchmarks.MARGIN)]
    # Without a margin the intervals miss 1 in one of a hundred.
    assert sum(not change.low <= 1 <= change.high for change in changes) <= 12


def test_three_rounds_give_their_widest_interval(folder: Callable[..., Path]) -> None:
    old, new = folder("old", rounds=3), folder("newer", {"work 1": 3.0}, rounds=3)
    (change,) = (c for c in benchmarks.compare(old, new) if c.verdict(0.1))
    assert change.group == "work 1" and change.rounds == (3, 3)


@pytest.mark.parametrize("n, m", [(3, 3), (4, 5), (5, 4), (5, 5), (7, 7)])
def test_the_interval_is_that_of_the_rank_test(n: int, m: int) -> None:
    statistics = []  # of Mann and Whitney, over all ways to share out the ranks
    for ranks in combinations(range(n + m), n):
        others = [r for r in range(n + m) if r not in ranks]
        statistics.append(sum(a < b for a, b in product(ranks, others)))
    out = benchmarks.outside(n, m)
    share = np.array(statistics)
    assert out == 0 or (share <= out - 1).mean() <= benchmarks.MISS / 2
    assert (share <= out).mean() > benchmarks.MISS / 2


def test_folders_without_anything_in_common_are_refused(
    folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = folder("old")
    assert benchmarks.main(["compare", str(old), str(tmp_path)]) == 2
    assert "Give a folder that `write` made" in capsys.readouterr().err
    (tmp_path / benchmarks.MACHINE).write_text("{}")
    assert benchmarks.main(["compare", str(old), str(tmp_path)]) == 2
    assert "no group in common" in capsys.readouterr().err


def test_another_machine_is_told(
    folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = folder("old"), folder("newer", device="B")
    assert benchmarks.main(["compare", str(old), str(new)]) == 0
    assert "device: A before, B now" in capsys.readouterr().out


def test_a_folder_says_what_was_measured_on_what() -> None:
    told = benchmarks.machine(1)
    name = benchmarks.folder_name(told)
    assert f"{told['cores']}-cores-1-threads-torch-" in name
    assert told["commit"] is None or told["commit"][:7] in name
    assert {"python", "versions", "device", "load"} <= told.keys()


def test_turns_and_slopes() -> None:
    calls = []
    times = turns({"a": lambda: calls.append("a"), "yardstick": yardstick}, rounds=3, least=1e-3)
    assert [len(found) for found in times.values()] == [3, 3] and min(times["yardstick"]) > 0
    assert len(calls) > 3
    assert slope([1, 10, 100], [2, 20, 200]) == pytest.approx(1)
    assert slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
