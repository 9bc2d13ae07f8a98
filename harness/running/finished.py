"""Whether the runs of a job are all there: where they are, its weights are not needed.

So a study goes on from the runs of other machines, or those that a clone holds.
"""

from typing import Any

from harness.refusal import Refusal, user_input
from harness.running.evaluate import dtype_for
from harness.running.jobs import Evaluation, Job
from harness.running.options import Options
from harness.running.recipes import FITTED, describe_recipe
from harness.running.train import TRAINER
from harness.storage import results
from harness.suites.datasets import training_fingerprint


def is_finished(job: Job, options: Options) -> bool:
    """Return whether all runs of a job are as the program would make them now.

    Of one source code, training, images and arithmetic; only the machine may have been another.
    """
    wanted = _training(job, options)
    return all(_is_there(evaluation, job, wanted, options) for evaluation in job.evaluations)


def _training(job: Job, options: Options) -> dict[str, Any]:
    """What the JSON of a run says of the training that the job would have."""
    recipe = FITTED if job.fitted else job.recipe(job.split, options)
    with user_input():
        images = training_fingerprint(job.spec, options.data, job.split.reading)
    return {
        "arguments": {} if job.width is None else {"width": job.width},
        "code": dict(job.source.code),
        "data": images,
        "model": job.source.name,
        "recipe": describe_recipe(recipe.described()),
        "seed": job.seed,
        "trainer": TRAINER,
    }


def _is_there(evaluation: Evaluation, job: Job, training: dict[str, Any], options: Options) -> bool:
    place = evaluation.dataset, evaluation.name, evaluation.model, job.seed
    try:
        _, run = results.read_run(results.csv_path(options.root, *place))
    except Refusal:
        return False
    found = dict(run.get("training", {}))
    found["recipe"] = describe_recipe(found["recipe"]) if "recipe" in found else ""
    measured = {
        "version": evaluation.suite.version,
        "limit": options.limit,
        "data": job.images,
        "image_seed": evaluation.setting.seed,
        "dtype": dtype_for(evaluation.suite, options.dtype),
        "code": {"model": dict(job.source.code), "suite": dict(evaluation.code)},
    }
    cells = {f"{cell.condition} {cell.level:g}" for cell in evaluation.cells}
    return (
        all(found.get(name) == value for name, value in training.items())
        and all(run.get(name) == value for name, value in measured.items())
        and cells <= run["cells"].keys()
    )
