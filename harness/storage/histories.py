"""How trainings went: results/checkpoints/DATASET/MODEL/seedN.json, beside the weights."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from harness.refusal import Refusal
from harness.storage.results import read_provenance

SCORES = ("loss", "accuracy", "held_out")  # of an epoch; the last only where images are held out
COLUMNS = ("dataset", "model", "seed", "epoch", *SCORES)


def read_histories(results: Path) -> pd.DataFrame:
    """Return a row for each epoch of each training: `COLUMNS`, NaN where a score was not measured.

    Raises:
        Refusal: A file is damaged.
    """
    rows: list[tuple] = []
    for path in sorted((results / "checkpoints").glob("*/*/seed*.json")):
        content = read_provenance(path)
        key = [content.get(name) for name in ("dataset", "model", "seed")]
        history = content.get("history")
        if None in key or not isinstance(history, list) or not all(map(_is_epoch, history)):
            raise Refusal(f"{path} is damaged: it describes no training. Remove it.")
        rows += [
            (*key, int(epoch["epoch"]), *(float(epoch.get(score, math.nan)) for score in SCORES))
            for epoch in history
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_epoch(epoch: Any) -> bool:
    return (
        isinstance(epoch, dict)
        and {"epoch", "loss", "accuracy"} <= epoch.keys()
        and all(type(epoch[name]) in (int, float) for name in epoch)
        and math.isfinite(epoch["epoch"])
    )
