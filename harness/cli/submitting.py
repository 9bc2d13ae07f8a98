"""The command that hands work to a queue: submit."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options as opt
from harness.cli.app import app, print_lines

Words = Annotated[
    list[str],
    typer.Argument(metavar="COMMAND", help="harness run, train or study, with its options."),
]
Set = Annotated[
    list[str],
    opt.what(
        "NAME=VALUE for submitit (slurm_partition=gpu, gpus_per_node=1, cpus_per_task=8, "
        "mem_gb=32) or a Ray task (num_gpus=1); repeats.",
        "--set",
    ),
]
Minutes = Annotated[int, opt.what("Minutes that a job may take.")]


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=opt.examples(
        "harness submit --slurm --shards 8 --set slurm_partition=gpu --set gpus_per_node=1 "
        "harness study --preset cifar10",
        "harness submit --local --shards 2 --wait run --suite clean --model resnet18 --seed 0 "
        "--seed 1",
    ),
)
def submit(
    words: Words,
    slurm: Annotated[bool, opt.what("One array of SLURM jobs.", "--slurm")] = False,
    local: Annotated[bool, opt.what("Processes on this machine.", "--local")] = False,
    ray: Annotated[bool, opt.what("Ray, of RAY_ADDRESS or started here; waits.", "--ray")] = False,
    shards: Annotated[int, opt.what("Number of jobs, one shard each.")] = 1,
    minutes: Minutes = 60,
    settings: Set = [],
    wait: Annotated[bool, opt.what("Wait until all have finished.", "--wait")] = False,
    logs: Annotated[Path, opt.output("Folder of what jobs print.", "--to")] = Path("jobs"),
) -> None:
    """Hand shards of a command to SLURM or Ray; print the jobs and where they write.

    All write to the command's own results folder, which every node must see.
    """
    from harness.refusal import Refusal
    from harness.running import submitting

    if slurm + local + ray != 1:
        raise Refusal("Give one of `--slurm`, `--local` and `--ray`.")
    jobs, given = submitting.list_jobs(words, shards), submitting.parse_settings(settings)
    if ray:
        print_lines([f"{len(jobs)} shards on Ray, which print to {logs}."])
        print_lines(submitting.run_on_ray(jobs, logs, given))
        return
    cluster = "slurm" if slurm else "local"
    submitted = submitting.submit(jobs, cluster, logs, minutes, given)
    for job, one in zip(jobs, submitted, strict=True):
        print_lines([f"shard {job.shard}: job {one.job_id}"])
    print_lines([f"{len(jobs)} jobs, which print to {logs}."])
    if wait:
        print_lines(submitting.await_all(submitted))
