"""The columns of the table; write one run, read all runs.

    results/DATASET/SUITE/MODEL/seedN.csv    measurements, ten columns, in long form
    results/DATASET/SUITE/MODEL/seedN.json   what made them

Equal cells give equal bytes: values have six decimals, rows the order of the suite.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.cells import CellStore
from harness.checkpoints import safe
from harness.files import canonical, write_bytes
from models.registry import unknown
from suites.base import Measurement
from suites.metrics import hits

COLUMNS = (
    "model",
    "suite",
    "dataset",
    "seed",
    "condition",
    "level",
    "metric",
    "value",
    "n",
    "run",
)
QUICK = "quick"  # the folder, in the results, of runs on a subset


def csv_path(results: Path, dataset: str, suite: str, model: str, seed: int) -> Path:
    """Return where the measurements of one run lie."""
    return results / safe(dataset) / suite / safe(model) / f"seed{seed}.csv"


def run_key(cells: Mapping[str, str], version: int) -> str:
    """Return the name of a run: a hash of its cells and of how they are measured."""
    content = canonical({"cells": cells, "version": version})
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def write(
    path: Path, key: Mapping[str, Any], measurements: Iterable[Measurement], provenance: dict
) -> bool:
    """Write a run's CSV and JSON; leave files that already say so untouched.

    Args:
        key: `model`, `suite`, `dataset`, `seed` and `run`.
        provenance: What made the numbers; JSON-able.

    Returns:
        Whether anything was written.
    """
    rows = [
        (key["model"], key["suite"], key["dataset"], key["seed"], m.condition)
        + (f"{m.level:g}", m.metric, f"{m.value:.6f}", m.n, key["run"])
        for m in measurements
    ]
    content = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n").encode()
    beside = path.with_suffix(".json")
    if path.is_file() and path.read_bytes() == content and _run_of(beside) == key["run"]:
        return False
    write_bytes(path, content)
    write_bytes(beside, (json.dumps(dict(key) | provenance, indent=2) + "\n").encode())
    return True


def _run_of(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())["run"]
    except (OSError, ValueError, KeyError):
        return None


def read(results: Path) -> pd.DataFrame:
    """Return all measurements below `results`, in long form; empty where there are none.

    Raises:
        ValueError: A file lacks a column, or is damaged.
    """
    frames = []
    for path in sorted(results.glob("*/*/*/seed*.csv")):
        try:
            frame = pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged: {error}. Remove it and run it again.") from None
        missing = [c for c in COLUMNS if c not in frame]
        if missing:
            raise ValueError(f"{path} lacks the column `{missing[0]}`. Remove it and run it again.")
        frames.append(frame)
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(frames, ignore_index=True)


def chosen(
    results: Path, suites: Sequence[str], datasets: Sequence[str], models: Sequence[str]
) -> pd.DataFrame:
    """Return the measurements of these suites, data sets and models; of all for an empty list.

    Raises:
        LookupError: There are none at all, or none of one of these names.
    """
    frame = read(results)
    if frame.empty:
        raise LookupError(
            f"There are no results in {results}. Run `harness run --suite robustness --model "
            "pde_aug`."
        )
    for column, names in (("suite", suites), ("dataset", datasets), ("model", models)):
        for name in names:
            if name not in set(frame[column]):
                raise unknown(f"{column} in {results}", name, frame[column].unique())
        if names:
            frame = frame[frame[column].isin(names)]
    return frame


def ordered(frame: pd.DataFrame, models: Iterable[str]) -> pd.DataFrame:
    """Return `frame` with its models in the order of `models`, those not in it last."""
    place = {name: i for i, name in enumerate(models)}
    rank = frame["model"].map(lambda name: place.get(name, len(place)))
    return frame.iloc[rank.argsort(kind="stable")]


def outcomes(
    results: Path, dataset: str, suite: str, model: str, seed: int, conditions: set[str]
) -> np.ndarray | None:
    """Return whether each image was classified correctly, booleans (cells, N), from stored cells.

    None if a cell of the run is not stored here, as in a fresh clone.

    Args:
        conditions: Those to take, such as the corruptions without "clean".
    """
    path = csv_path(results, dataset, suite, model, seed).with_suffix(".json")
    if not path.is_file():
        return None
    store = CellStore(cells_root(results))
    rows = []
    for name, key in json.loads(path.read_text())["cells"].items():
        if name.rpartition(" ")[0] not in conditions:
            continue
        arrays = store.read(key)
        if arrays is None or "logits" not in arrays:
            return None
        rows.append(hits(arrays["logits"], arrays["labels"]).numpy())
    return np.stack(rows) if rows else None


def cells_root(results: Path) -> Path:
    """Return where the cells of a results folder lie; those of `quick` lie beside it."""
    own = results / "cells"
    return results.parent / "cells" if results.name == QUICK and not own.is_dir() else own
