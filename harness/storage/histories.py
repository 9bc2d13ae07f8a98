"""How trainings went: results/checkpoints/DATASET/MODEL/seedN.json, beside the weights."""

import math
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from harness.refusal import Refusal
from harness.storage.arrays import Damaged, read_description
from harness.storage.files import list_folder, safe
from harness.storage.json_files import read_json
from harness.storage.spelling import problem_of_name

# Of an epoch; without accuracy where a model has a loss of its own, the last where images are held
# out.
SCORES = ("loss", "accuracy", "held_out")
COLUMNS = ("dataset", "model", "seed", "epoch", *SCORES)
LARGEST = 1e30  # what an axis can have; a training that diverges further ends with an error
CURE = "Rename it to read the others without it, or train again in another `--results` folder."


def read_histories(results: Path) -> pd.DataFrame:
    """Return a row for each epoch of each training: `COLUMNS`, NaN where a score was not measured.

    Raises:
        Refusal: A folder cannot be read.
        Refusal: A file is damaged, or of other weights than those beside it.
    """
    rows: list[tuple] = []
    models = [m for dataset in list_folder(results / "checkpoints") for m in list_folder(dataset)]
    for path in [p for m in models for p in list_folder(m) if fnmatch(p.name, "seed*.json")]:
        content = read_json(path, CURE)
        key = [content.get(name) for name in ("dataset", "model", "seed")]
        history = content.get("history")
        if (
            not all(isinstance(name, str) and not problem_of_name(name) for name in key[:2])
            or type(key[2]) is not int
            or not isinstance(history, list)
            or not all(map(_is_epoch, history))
        ):
            raise Refusal(f"{path} describes no training. {CURE}")
        _check_place(path, content)
        rows += [
            (*key, int(epoch["epoch"]), *(float(epoch.get(score, math.nan)) for score in SCORES))
            for epoch in history
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check_place(path: Path, content: dict[str, Any]) -> None:
    """Refuse the history of another training than that of its path and of the weights there."""
    dataset, model, seed = (content[name] for name in ("dataset", "model", "seed"))
    if (safe(dataset), safe(model), f"seed{seed}.json") != path.parts[-3:]:
        raise Refusal(
            f"{path} is the training of {model} on {dataset}, seed {seed}: it was moved. {CURE}"
        )
    weights = path.with_suffix(".safetensors")
    try:
        described = read_description(weights) if weights.is_file() else {}
    except Damaged as error:
        raise Refusal(f"{error} The training beside it may be of other weights. {CURE}") from None
    other = [k for k, v in described.items() if k != "sha256" and content.get(k) != v]
    if other:
        raise Refusal(
            f"{path} is not the training of {weights.name} beside it: `{other[0]}` differs. {CURE}"
        )


def _is_epoch(epoch: Any) -> bool:
    return (
        isinstance(epoch, dict)
        and {"epoch", "loss"} <= epoch.keys()
        and all(type(epoch[name]) in (int, float) for name in epoch)
        and 0 <= epoch["epoch"] <= LARGEST
        and all(abs(epoch[score]) <= LARGEST for score in SCORES if score in epoch)
    )
