"""Logs of trainings, results/checkpoints/DATASET/MODEL/seedN.json: where they lie, their costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage import checkpoints
from harness.storage.files import canonical
from harness.storage.json_files import read_json
from harness.storage.results import CHECKPOINTS


def path_of(results: Path, dataset: str, model: str, seed: int) -> Path:
    """Return where it is told how a training went: in the results, wherever its weights lie.

    So whoever reads a results folder finds it there.
    """
    weights = checkpoints.weights_path(results / CHECKPOINTS, dataset, model, seed)
    return weights.with_suffix(".json")


def cost_of(path: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seconds, the device and the commit of the training that weights come from.

    Empty where `path` does not tell of it.

    Args:
        description: Of the weights.
    """
    if not path.is_file():
        return {}
    try:
        log = read_json(path, "")
    except Refusal:
        return {}
    of = log.get("environment")
    told = {k: v for k, v in description.items() if k != "sha256"}
    same = canonical({k: log.get(k) for k in told}) == canonical(told)
    if not description or not same or not isinstance(of, dict):
        return {}
    return {"wall_s": log.get("wall_s"), "device": of.get("device"), "commit": of.get("commit")}
