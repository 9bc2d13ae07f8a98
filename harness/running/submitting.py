"""Shards of a command as jobs: of a SLURM array, of processes on this machine, of a Ray cluster.

A job is the command itself with `--shard i/n` behind it. All write to one results folder, which
every node must see, so that there is nothing to merge; locks keep them from the same work.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness import stopping
from harness.refusal import Failure, Refusal

COMMANDS = ("run", "train", "study")
UNFIT = ("--shard", "--dry-run", "--show")
FEW_MINUTES = 60


@dataclass(frozen=True)
class Job:
    """One shard of a command; called, it runs it.

    Args:
        words: The command without the program's name.
        shard: As `--shard` takes it, "2/8".
        folder: Where it is run.
        log: File that it prints to; None where whoever runs it keeps what it prints.
    """

    words: tuple[str, ...]
    shard: str
    folder: Path
    log: Path | None = None

    def __call__(self) -> str:
        """Run it to its end; return its shard.

        Raises:
            RuntimeError: It has another exit code than 0.
        """
        command = [sys.executable, "-m", "harness", *self.words, "--shard", self.shard]
        output = self.log.open("ab") if self.log else None
        process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)
        try:
            code = process.wait()
        except BaseException:  # the queue ends it: what is in hand is kept
            process.terminate()
            process.wait()
            raise
        finally:
            if output is not None:
                output.close()
        if code:
            again = ": not finished, submit it again" if code == stopping.UNFINISHED else ""
            raise RuntimeError(f"shard {self.shard} has exit code {code}{again}")
        return self.shard

    def checkpoint(self) -> Any:
        """Let submitit run it again after a preemption: it goes on from what is stored."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def list_jobs(words: Sequence[str], shards: int) -> list[Job]:
    """Return the jobs of a command.

    Args:
        words: "run", "--suite", "clean", ...; the program's name may stand before them.

    Raises:
        Refusal: It is no command that can be a shard.
    """
    own = tuple(words[words[:1] == ["harness"] :])
    if not own or own[0] not in COMMANDS:
        raise Refusal(
            f"Only {', '.join(COMMANDS)} can be submitted; got `{' '.join(words)}`. Give for "
            "example `harness submit --slurm --shards 4 run --suite clean --model resnet18`."
        )
    for word in own:
        if word.partition("=")[0] in UNFIT:
            raise Refusal(f"`{word}` cannot be submitted: each job is a shard. Leave it out.")
    if not 1 <= shards <= 10_000:
        raise Refusal(f"`--shards` must be from 1 to 10,000; got {shards}.")
    return [Job(own, f"{i}/{shards}", Path.cwd()) for i in range(1, shards + 1)]


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs, whole numbers as such.

    Raises:
        Refusal: One is none.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise Refusal(f"`--set` is NAME=VALUE, such as gpus_per_node=1; got {setting!r}.")
        found[name] = int(value) if value.isdecimal() else value
    return found


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise Refusal(
            f"`--{extra}` needs {module}, which is not installed. Run `pip install {module}`."
        )


def submit(
    jobs: Sequence[Job], cluster: str, logs: Path, minutes: int, settings: Mapping[str, Any]
) -> list[Any]:
    """Hand jobs to submitit; return its jobs, which have a `job_id`.

    Args:
        cluster: "slurm", one array; or "local", processes of this machine.
        logs: Folder of what jobs print, and of what submitit keeps.
        minutes: That a job may take.
        settings: As `submitit.AutoExecutor.update_parameters` takes them.

    Raises:
        Refusal: submitit or SLURM is not here, or there is no such setting.
    """
    _need("submitit", "slurm")
    import submitit

    arrays = {"slurm_array_parallelism": len(jobs)} if cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(
            **{"name": "harness", "timeout_min": minutes, **arrays, **settings}
        )
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        raise Refusal(f"submitit says: {' '.join(str(error).split())[:300]}") from error
    with executor.batch():
        return [executor.submit(job) for job in jobs]


def await_all(submitted: Sequence[Any]) -> Iterator[str]:
    """Wait for the jobs of `submit`; yield a line for each.

    Raises:
        Failure: Some failed, after all the others.
    """
    failed = []
    for job in submitted:
        error = job.exception()
        text = "finished" if error is None else _reason(error)
        yield f"{job.job_id}: {text}"
        failed += [f"{job.job_id}: {text}. See {job.paths.stderr}."] if error else []
    if failed:
        raise Failure("\n".join(failed))


def _reason(error: BaseException) -> str:
    """The last error in a message that holds the traceback of a job."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in reversed(lines) if "Error: " in line), lines[0]).strip()


def run_on_ray(jobs: Sequence[Job], logs: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    """Run jobs on a Ray cluster, of RAY_ADDRESS, or on one that is started here; yield a line each.

    Args:
        settings: Of a task, such as num_gpus=1.

    Raises:
        Refusal: Ray is not here.
        Failure: Some failed, after all the others.
    """
    _need("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    import ray

    logs.mkdir(parents=True, exist_ok=True)
    dashboard = None if os.environ.get("RAY_ADDRESS") else False
    ray.init(log_to_driver=False, include_dashboard=dashboard, logging_level=logging.WARNING)
    stopping.listen()  # Ray has handlers of its own
    failed, names = list[str](), dict[Any, tuple[str, Path]]()
    try:
        task = ray.remote(**{"max_retries": 2, **settings})(_run)
        for job in jobs:
            log = logs.absolute() / f"shard-{job.shard.replace('/', '-of-')}.log"
            names[task.remote(job.words, job.shard, job.folder, log)] = job.shard, log
        while names:
            for one in ray.wait(list(names), timeout=stopping.ONCE_S)[0]:
                shard, log = names.pop(one)
                try:
                    ray.get(one)
                    yield f"shard {shard}: finished"
                except ray.exceptions.RayError as error:
                    failed.append(f"shard {shard}: {_reason(error)}. See {log}.")
    finally:
        for one in names:
            ray.cancel(one)  # which ends its process
        if names:
            ray.wait(list(names), num_returns=len(names), timeout=2 * stopping.PATIENCE_S)
        ray.shutdown()
    if failed:
        raise Failure("\n".join(failed))


def _run(words: tuple[str, ...], shard: str, folder: Path, log: Path) -> str:
    return Job(words, shard, folder, log)()
