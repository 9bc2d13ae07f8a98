"""Shards as jobs: what is refused, and jobs that really run, of submitit and of Ray."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.refusal import Refusal
from harness.running import submitting
from harness.running.submitting import list_jobs, parse_settings

MODEL = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""
RUN = ("run", "--suite", "clean", "--model", "mine.py:tiny", "--seed", "0", "--seed", "1")
RUN += ("--epochs", "1", "--limit", "20")


def submit(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["submit", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def test_jobs_are_shards_of_the_command() -> None:
    jobs = list_jobs(["harness", "study", "--seeds", "5"], 3)
    assert [job.shard for job in jobs] == ["1/3", "2/3", "3/3"]
    assert {job.words for job in jobs} == {("study", "--seeds", "5")}
    assert parse_settings(["gpus_per_node=1", "slurm_partition=gpu"]) == {
        "gpus_per_node": 1,
        "slurm_partition": "gpu",
    }


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["table"], "Only run, train, study can be submitted; got `table`"),
        (["run", "--shard", "1/2"], "`--shard` cannot be submitted"),
        (["study", "--dry-run"], "`--dry-run` cannot be submitted"),
    ],
)
def test_what_is_no_shard_is_refused(words: list[str], sentence: str) -> None:
    refused = submit("--slurm", "--shards", "2", *words)
    assert refused.exit_code == 2 and sentence in refused.stderr


def test_bad_options_are_refused(here: Path) -> None:
    for arguments, sentence in (
        (("run",), "Give one of `--slurm`, `--local` and `--ray`."),
        (("--slurm", "--ray", "run"), "Give one of"),
        (("--slurm", "--set", "gpu", "run"), "`--set` is NAME=VALUE"),
        (("--slurm", "--shards", "0", "run"), "`--shards` must be from 1"),
        (("--local", "--set", "no_such=1", "run"), "submitit says: "),
    ):
        refused = submit(*arguments)
        assert refused.exit_code == 2 and sentence in refused.stderr, refused.stderr


def test_slurm_that_is_not_here_is_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(Refusal, match="srun"):
        submitting.submit(list_jobs(RUN, 2), "slurm", here / "jobs", 5, {})


@pytest.mark.slow
def test_jobs_on_this_machine_write_one_results_folder(here: Path) -> None:
    done = submit("--local", "--shards", "2", "--wait", "--to", "jobs", *RUN)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count(": finished\n") == 2 and "2 jobs, which print to jobs." in done.stdout
    made = sorted(path.name for path in here.rglob("quick/digits/clean/tiny/*.csv"))
    assert made == ["seed0.csv", "seed1.csv"]


def test_a_job_that_failed_is_told_by_its_last_error() -> None:
    text = "Job failed with trace:\nTraceback\nRuntimeError: shard 1/2 has exit code 2\n\nLogs: x"
    assert submitting._reason(ValueError(text)) == "RuntimeError: shard 1/2 has exit code 2"
    assert submitting._reason(ValueError("")) == "ValueError"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_jobs_on_ray_write_one_results_folder(here: Path) -> None:
    done = submit("--ray", "--shards", "2", "--to", "jobs", *RUN)
    assert done.exit_code == 0, done.stderr
    assert sorted(done.stdout.splitlines()[1:]) == ["shard 1/2: finished", "shard 2/2: finished"]
    made = sorted(path.name for path in here.rglob("quick/digits/clean/tiny/*.csv"))
    assert made == ["seed0.csv", "seed1.csv"]
