"""Parts of a command's work: which, who says so, and what a part of a study does not do."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.refusal import Refusal
from harness.running.shards import Shard, find_shard
from tests.test_study_files import GOOD, NET, pictures, written

ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")
QUEUES = (*ARRAY, "SLURM_ARRAY_TASK_STEP", "RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUEUES:
        monkeypatch.delenv(name, raising=False)


def harness(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_all_parts_are_all_of_the_work_in_even_parts(count: int) -> None:
    work = [(seed, model) for seed in range(6) for model in range(4)]
    parts = [Shard(i, count).of(work) for i in range(1, count + 1)]
    assert sorted(one for part in parts for one in part) == work
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if count == 4:  # a model that takes long is not one part's alone
        assert all(len({model for _, model in part}) > 1 for part in parts)


def variables(*values: str) -> dict[str, str]:
    return dict(zip(ARRAY, values, strict=False))


@pytest.mark.parametrize(
    "environment, number, count",
    [
        ({}, 1, 1),
        (variables("0", "8", "0"), 1, 8),
        (variables("8", "8", "1"), 8, 8),
        (variables("5", "4"), 0, 0),
        (variables("16", "4", "10") | {"SLURM_ARRAY_TASK_STEP": "2"}, 4, 4),
        (variables("15", "4", "10") | {"SLURM_ARRAY_TASK_STEP": "2"}, 0, 0),
        (variables("7", "3", "1"), 0, 0),  # of --array=1,3,7
        (variables("x", "3", "1"), 0, 0),
        ({"RANK": "2", "WORLD_SIZE": "4"}, 3, 4),
        ({"RANK": "4", "WORLD_SIZE": "4"}, 0, 0),
        ({"RANK": "1"}, 1, 1),
        ({"WORLD_SIZE": "4"}, 1, 1),
        (variables("1", "2", "0") | {"RANK": "2", "WORLD_SIZE": "4"}, 2, 2),
    ],
)
def test_a_queue_says_which_part(environment: Mapping[str, str], number: int, count: int) -> None:
    if not count:
        with pytest.raises(Refusal, match="Give `--shard i/"):
            find_shard(None, environment)
        return
    found = find_shard(None, environment)
    assert (found.number, found.count) == (number, count)
    assert bool(found.sentence) == (count > 1)
    assert find_shard("1/1", environment) == Shard(1, 1)


@pytest.mark.parametrize("words", ["0/8", "9/8", "2", "2/", "a/b", "-1/8", "1/0", "", "1/1000000"])
def test_what_is_no_part_is_refused(words: str) -> None:
    with pytest.raises(Refusal, match="`--shard` must be i/n with i from 1 to n; got .*2/8"):
        find_shard(words)


def test_a_queue_is_told_of_and_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("run", "--suite", "clean", "--model", "resnet18", "--model", "pde_aug", "--dry-run")
    asked += ("--results", str(tmp_path))
    for name, value in zip(ARRAY, "212", strict=True):
        monkeypatch.setenv(name, value)
    refused = harness(*asked)
    assert refused.exit_code == 0 and refused.stderr == ""  # an array of one
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    queued = harness(*asked)
    assert queued.stderr.startswith("This is shard 1 of 3, by SLURM_ARRAY_TASK_ID. Give `--shard")
    assert "resnet18" in queued.stdout and "pde_aug" not in queued.stdout
    whole = harness(*asked, "--shard", "1/1")
    assert whole.stderr == "" and "pde_aug" in whole.stdout
    empty = harness(*asked[:-3], "--shard", "3/3", *asked[-2:])
    assert empty.exit_code == 0 and "nothing to do in shard 3 of 3, of 2 items" in empty.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_parts_of_a_study_do_not_answer_and_all_of_them_together_do(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    (tmp_path / "my_net.py").write_text(NET)
    file = written(tmp_path, GOOD.replace('rivals = ["resnet18"]\n', ""))
    study = ("--quiet", "study", str(file), "--workers", "1")
    for i in (2, 1):
        done = harness(*study, "--shard", f"{i}/2", "--results", str(tmp_path / str(i)))
        assert done.exit_code == 0, done.stderr
        assert f"Done: shard {i} of 2" in done.stdout and "study --no-run" in done.stdout
    assert all(path.name.endswith(".plan.json") for path in tmp_path.rglob("study*.json"))
    folders = [str(tmp_path / name) for name in ("1", "2")]
    merged = harness("merge", *folders, "--to", str(tmp_path / "all"))
    assert merged.exit_code == 0, merged.stderr
    answered = harness(*study, "--no-run", "--results", str(tmp_path / "all"))
    assert answered.exit_code == 0, answered.stderr
    whole = harness(*study, "--results", str(tmp_path / "whole"))
    assert whole.exit_code == 0, whole.stderr
    tables = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("seed*.csv")}
        for root in (tmp_path / "all", tmp_path / "whole")
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 6
