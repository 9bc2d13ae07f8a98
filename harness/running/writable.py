"""What a plan would write, by the rules of those who read it: refused before any work.

Names that user code brings are checked as well: conditions, metrics, data sets, models.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.models.cards import MODELS
from harness.refusal import Refusal
from harness.running.jobs import Evaluation, Job
from harness.storage import results
from harness.storage.files import NO_DATASETS, list_folder
from harness.storage.spelling import (
    name_of_images,
    problem_of_metric,
    problem_of_name,
    problem_of_whole,
)
from harness.suites.metrics import BUILT_IN

CURES = {
    "model": "Give it another one with `--name`",
    "suite": "Rename the function",
    "data set": "Give it another one with `--dataset NAME=PATH`",
}
SAME = ("better", "unit", "low", "high")  # of a metric, in all runs of a folder


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuse a training seed that cannot be read again.

    Raises:
        Refusal: Says which.
    """
    for seed in seeds:
        if problem := problem_of_whole(seed, 0):
            raise Refusal(f"`--seed` {problem}.")


def check_name(name: str, models: int) -> None:
    """Refuse another name of a model that cannot stand in a table.

    Raises:
        Refusal: Says why.
    """
    if models != 1:
        raise Refusal(f"`--name {name}` is for one model; got {models}. Run them one by one.")
    if problem := problem_of_name(name):
        raise Refusal(f"`--name` {problem}. Give a name that can stand in a table.")
    if name in MODELS or "(" in name or "[" in name:
        raise Refusal(f"`--name {name}` is, or reads like, a registered model. Give another one.")


def check_writable(jobs: Sequence[Job], root: Path) -> None:
    """Refuse what could not be read again once it is written.

    Args:
        root: Folder that tables are written below.

    Raises:
        Refusal: Says what, and the cure.
    """
    check_seeds(job.seed for job in jobs)
    for job in jobs:
        _check_name("model", job.source.name)
        _check_name("data set", job.dataset)
        for one in job.evaluations:
            _check_name("suite", one.name)
            _check_name("model", one.model)
            _check_name("data set", one.dataset)
            _check_cells(one)
    paths = {_path(root, job, one): one for job in jobs for one in job.evaluations}
    _check_metrics(paths, root)
    _check_case(
        [*paths, *(job.weights.path.with_suffix(".csv") for job in jobs if not job.trained)]
    )
    _check_images(jobs, root)


def _path(root: Path, job: Job, one: Evaluation) -> Path:
    return results.csv_path(root, one.dataset, one.name, one.model, job.seed)


def _check_name(kind: str, name: str) -> None:
    if problem := problem_of_name(name):
        raise Refusal(f"The name of the {kind} {problem}. {CURES[kind]}.")


def _check_cells(one: Evaluation) -> None:
    if not one.cells:
        raise Refusal(f"`{one.name}` lists no conditions here. Let its `cells` give one or more.")
    seen: set[tuple[str, str]] = set()
    for cell in one.cells:
        if problem := problem_of_name(cell.condition):
            raise Refusal(f"A condition of `{one.name}` {problem}. Rename it.")
        where = cell.condition, f"{cell.level:g}"
        if not math.isfinite(cell.level):
            raise Refusal(f"The level of `{where[0]}` in `{one.name}` is {where[1]}: no number.")
        if where in seen:
            raise Refusal(
                f"`{one.name}` has the condition `{where[0]}` at level {where[1]} twice; tables "
                "keep six digits of a level. Rename one."
            )
        seen.add(where)


def _check_metrics(paths: Mapping[Path, Evaluation], root: Path) -> None:
    """Refuse metrics that a JSON cannot describe, or that another run describes otherwise."""
    own: dict[str, Mapping[str, Any]] = {}
    for one in paths.values():
        for metric in one.suite.metrics:
            if metric.name not in BUILT_IN:
                own[metric.name] = described = metric.describe()
                if problem := problem_of_metric(described):
                    raise Refusal(f"A metric of `{one.name}` {problem}. Correct it.")
    if not own:
        return
    for path in results.run_files(root):
        for there in () if path in paths else _metrics_of(path):
            here = own.get(there["name"], there)
            for part in SAME:
                if here.get(part) != there.get(part):
                    raise Refusal(
                        f"The metric `{here['name']}` has {part} {here.get(part)!a}, and "
                        f"{there.get(part)!a} in {path.with_suffix('.json')}. Rename it, or "
                        "choose another folder with `--results`."
                    )


def _metrics_of(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from results.read_provenance(path.with_suffix(".json")).get("metrics", [])
    except Refusal:
        return  # damaged: it is written again, or whoever reads it says so


def _check_case(paths: Iterable[Path]) -> None:
    """Refuse a path that a file system without case would take for another one's."""

    @cache
    def beside(folder: Path) -> set[str]:
        return {path.name for path in list_folder(folder)}

    for part in (part for path in paths for part in path.parents[:3]):
        names = beside(part.parent)
        alike = [n for n in names if n.lower() == part.name.lower()]
        if alike and part.name not in alike:
            raise Refusal(
                f"{part} differs from `{alike[0]}` beside it in capital letters alone, which some "
                "file systems take for one. Give another name with `--name`, or `--dataset "
                "NAME=PATH`."
            )
        names.add(part.name)


def _check_images(jobs: Sequence[Job], root: Path) -> None:
    """Refuse images other than those that runs of the same data set have under another seed."""
    own = {job.dataset + job.split.mark: job for job in jobs if job.evaluations}
    for folder in list_folder(root) if own else ():
        if folder.name in NO_DATASETS:
            continue
        for path in sorted(folder.glob("*/*/seed*.json")):
            try:
                old = results.read_provenance(path)
            except Refusal:
                continue
            job = own.get(name_of_images(old["dataset"]))
            if job is not None and job.images != old["data"]:
                raise Refusal(
                    f"{path.with_suffix('.csv')} is of other test images than `{job.dataset}` "
                    "has now. Give these another name with `--dataset NAME=PATH`, or another "
                    "folder with `--results`."
                )
            break  # all of a folder are of the same images
