"""What determines numbers, as it is stored with them: of each cell, and of a run.

A run goes on from an earlier one of the same model: conditions that were measured before, and are
not asked for now, stay in the table, if the same code, weights and images would give them again.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from harness.models.preprocessing import preprocessing_of
from harness.models.source_code import difference, digest, in_words
from harness.refusal import Refusal, user_input
from harness.running.behavior import declared
from harness.running.evaluate import PROTOCOL, batch_size_of, dtype_for
from harness.running.jobs import Evaluation, Job
from harness.running.options import Options, resolve_device
from harness.storage import logs, results
from harness.storage.cells import CellStore, Description
from harness.storage.provenance import command_line
from harness.suites.base import Cell
from harness.suites.out_sets import OPTION

LOG = logging.getLogger(__name__)


def describe_cells(
    job: Job, evaluation: Evaluation, weights: str, options: Options
) -> list[Description]:
    """Return all that can change each cell's arrays."""
    code, suite_code = digest(job.source.code), digest(evaluation.code)
    return [
        Description(
            weights=weights,
            settings=job.settings,
            model=job.source.name,
            code=code,
            arguments={} if job.width is None else {"width": job.width},
            data=job.images,
            limit=options.limit,
            suite=evaluation.name,
            version=evaluation.suite.version,
            suite_code=suite_code,
            condition=cell.condition,
            level=cell.level,
            constants=dict(cell.constants),
            seed=evaluation.setting.seed,
            draws=job.seed if evaluation.suite.draws_by_seed else None,
            dtype=dtype_for(evaluation.suite, options.dtype),
            batch=job.behavior.batch,
            protocol=PROTOCOL,
        )
        for cell in evaluation.cells
    ]


def describe_run(
    job: Job, evaluation: Evaluation, cell: Description, model: nn.Module, options: Options
) -> dict[str, Any]:
    """Return what made the numbers of a run, as any of its cells, but for what was found while it
    ran."""
    device = resolve_device(options.device)
    words = list(job.behavior.words or declared(model).words)
    if job.split.damaged:
        words.append(f"{job.split.damaged} damaged images are left out")
    said = preprocessing_of(model).describe(job.split.framing)
    told = {} if job.labels is None else {"labels": job.labels.as_table()}
    history = logs.path_of(options.results, job.dataset, job.source.name, job.seed)
    if cost := logs.cost_of(history, job.weights.description):
        told["training_run"] = cost
    return told | {
        "version": cell.version,
        "images": options.limit or len(job.split),
        "limit": options.limit,
        "test_images": len(job.split),
        "classes": len(job.split.classes),
        "arguments": cell.arguments,
        "weights": cell.weights,
        "origin": job.origin,
        "behavior": words,
        "preprocessing": said or "none",
        "training": dict(job.weights.description),
        "data": cell.data,
        "image_seed": cell.seed,
        "dtype": cell.dtype,
        "batch_size": cell.batch
        or options.batch_size
        or batch_size_of(evaluation.suite, device, job.split.image_size),
        "command": command_line(),
    }


def earlier_run(path: Path) -> dict[str, Any] | None:
    """Return what the JSON of the run at `path` says; None where there is no sound one."""
    try:
        return results.read_provenance(path.with_suffix(".json"))
    except Refusal:
        return None


def with_earlier(
    job: Job,
    evaluation: Evaluation,
    weights: str,
    options: Options,
    store: CellStore,
    before: Mapping[str, Any] | None,
) -> Evaluation:
    """Return the evaluation with the conditions of an earlier run that are stored as of now.

    Those that are not, since code, weights or images have changed, are left out, and said.
    """
    asked = {cell.condition for cell in evaluation.cells}
    old = {name.rpartition(" ")[0] for name in (before or {}).get("cells", {})} - asked
    if not old:
        return evaluation
    kept = list[Cell]()
    for name in sorted(old):
        try:
            cells = _named(name, evaluation, store, before or {})
        except Refusal:
            continue
        own = replace(evaluation, cells=tuple(c for c in cells if c.condition == name))
        if own.cells and all(d.key in store for d in describe_cells(job, own, weights, options)):
            kept += own.cells
    lost = sorted(old - {cell.condition for cell in kept})
    transfers = any("transfer" in name for name in lost)
    cure = "--transfer-from" if transfers else "--corruption"
    if lost:
        LOG.warning(
            "%s: the earlier numbers of %s under %s are of other code, weights or images, and "
            "leave the table. Name them with %s to measure them again.",
            evaluation.name,
            evaluation.model,
            ", ".join(lost),
            OPTION if evaluation.setting.out_of_distribution else cure,
        )
    return replace(evaluation, cells=(*evaluation.cells, *kept))


def _named(
    name: str, evaluation: Evaluation, store: CellStore, before: Mapping[str, Any]
) -> tuple[Cell, ...]:
    """The cells of a condition that is not asked for now; of another data set or network, as kept.

    Raises:
        Refusal: The suite cannot give them any more.
    """
    if not evaluation.setting.out_of_distribution:
        with user_input():
            cells = evaluation.suite.cells(replace(evaluation.setting, corruptions=(name,)))
        if any(cell.condition == name for cell in cells):
            return cells
    keys = [key for cell, key in before["cells"].items() if cell.rpartition(" ")[0] == name]
    found = [look[1] for key in keys if (look := store.look(key)) is not None]
    return tuple(Cell(name, d["level"], _gone, d["constants"]) for d in found)


def _gone(images: Tensor, indices: Tensor, seed: int) -> Tensor:
    raise Refusal(
        f"A stored cell was lost meanwhile. Name its data set with `{OPTION}`, or the model that "
        "its images were made on with `--transfer-from`."
    )


def describe_change(
    before: Mapping[str, Any] | None,
    code: Mapping[str, Mapping[str, str]],
    weights: str,
    cell: Description,
) -> str:
    """Return why the numbers of an earlier run do not hold any more, "" where they were none."""
    if before is None:
        return ""
    reasons = []
    for part in ("model", "suite"):
        changed = difference(before.get("code", {}).get(part, {}), code[part])
        if changed and "code" in before:
            reasons.append(f"the source code of the {part} has changed ({in_words(changed)})")
    if before.get("weights") != weights:
        reasons.append("its weights are others")
    for name, was, now in (
        ("the arithmetic", before.get("dtype"), cell.dtype),
        ("the number of images", before.get("limit"), cell.limit),
        ("the version of the suite", before.get("version"), cell.version),
    ):
        if was != now:
            reasons.append(f"{name} was {was or 'all'}, and is {now or 'all'}")
    return ", ".join(reasons)
