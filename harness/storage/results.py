"""The columns of the table; write one run, read all runs.

    results/DATASET/SUITE/MODEL/seedN.csv    measurements, one number a row
    results/DATASET/SUITE/MODEL/seedN.json   what made them

Equal cells give equal bytes: values have six decimals, rows the order of the suite.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.refusal import Refusal, unknown
from harness.storage.files import canonical, safe, write_bytes
from harness.storage.rows import AGAIN, long_rows, problem_of_name, read_rows
from harness.suites.metrics import METRICS

if TYPE_CHECKING:
    from harness.suites.base import Measurement  # PyTorch, which reading does not need

COLUMNS = (
    "model",
    "suite",
    "dataset",
    "seed",
    "condition",
    "level",
    "metric",
    "variant",
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
    path: Path, key: Mapping[str, Any], measurements: "Iterable[Measurement]", provenance: dict
) -> bool:
    """Write a run's CSV and JSON; leave files that already say so untouched.

    Args:
        key: `model`, `suite`, `dataset`, `seed` and `run`.
        provenance: What made the numbers; JSON-able.

    Returns:
        Whether anything was written.
    """
    rows = [
        (
            *(key["model"], key["suite"], key["dataset"], key["seed"], m.condition),
            *(f"{m.level:g}", m.metric, m.variant, f"{m.value:.6f}", m.n, key["run"]),
        )
        for m in measurements
    ]
    content = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n").encode()
    beside = path.with_suffix(".json")
    if path.is_file() and path.read_bytes() == content and _run_of(beside) == key["run"]:
        return False
    write_bytes(path, content)
    content = (json.dumps(dict(key) | {"rows": len(rows)} | provenance, indent=2) + "\n").encode()
    write_bytes(beside, content)
    return True


def _run_of(path: Path) -> str | None:
    try:
        return read_provenance(path).get("run")
    except Refusal:
        return None


def read(results: Path, *, whole: bool = False) -> pd.DataFrame:
    """Return all measurements below `results`, in long form; empty where there are none.

    Args:
        whole: Leave out runs on a subset of the images, as their JSON says.

    Raises:
        Refusal: A file lacks a column, is damaged, or is of another run than its path says.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for path in sorted(results.glob("*/*/*/seed*.csv")):
        rows = long_rows(read_rows(path, ended=True), COLUMNS)
        beside = read_provenance(path.with_suffix(".json"))
        _check_place(rows, beside, path)
        if not (whole and beside.get("limit")):
            for name, values in columns.items():
                values += rows[name]
    return pd.DataFrame(columns)


def _check_place(rows: dict[str, list[Any]], beside: dict[str, Any], path: Path) -> None:
    """Refuse rows of another run than the one whose path they lie at, and a part of a run."""
    for column in ("dataset", "suite", "model", "seed", "run"):
        if len(set(rows[column])) > 1:
            raise Refusal(f"{path} holds several of `{column}`. {AGAIN}")
    if not rows["seed"]:
        raise Refusal(f"{path} is damaged: it has no rows. {AGAIN}")
    dataset, suite, model, seed, run = (
        rows[column][0] for column in ("dataset", "suite", "model", "seed", "run")
    )
    place = safe(dataset), suite, safe(model), f"seed{seed}.csv"
    if place != path.parts[-4:]:
        raise Refusal(
            f"{path} holds {model} on {dataset}, {suite}, seed {seed}: it was moved or edited. "
            f"{AGAIN}"
        )
    count, written = len(rows["run"]), beside.get("rows")
    if written is not None and count != written and run == beside.get("run"):
        raise Refusal(
            f"{path} has {count} rows, its JSON says {written}: it was cut off or edited. Make it "
            "again with `harness table --rescore`, or run it again."
        )


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what the JSON beside a CSV says; empty where there is none.

    Raises:
        Refusal: It is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged: {error}. {AGAIN}") from None
    kinds = {"cells": dict, "seed": int, "limit": int, "version": int, "rows": int}
    kinds |= dict.fromkeys(("model", "suite", "dataset", "run"), str)
    if not isinstance(content, dict) or any(
        not isinstance(content[k], kind) or (kind is str and problem_of_name(content[k]))
        for k, kind in kinds.items()
        if k in content
    ):
        raise Refusal(f"{path} is damaged: it is not what `harness run` writes. {AGAIN}")
    for described in content.get("metrics", []):
        _declare(described, path)
    for name, key in content.get("cells", {}).items():
        if not (isinstance(key, str) and re.fullmatch("[0-9a-f]{64}", key)):
            raise Refusal(f"{path} is damaged: {name!a} has no cell's key. {AGAIN}")
    return content


def _declare(described: Any, path: Path) -> None:
    """Make a metric known that a user's suite brought, as the JSON of its run describes it."""
    texts = {"name", "title", "meaning", "better", "unit", "reference"}
    numbers = {"low", "high"}
    if (
        not isinstance(described, dict)
        or not {"name", "title"} <= described.keys() <= texts | numbers
        or any(not isinstance(described[k], str) for k in texts & described.keys())
        or any(type(described[k]) not in (int, float) for k in numbers & described.keys())
        or described.get("better", "neither") not in ("up", "down", "neither")
        or problem_of_name(described["name"])
    ):
        raise Refusal(f"{path} is damaged: `metrics` describes no metric. {AGAIN}")
    METRICS.declare(described)


def select(
    results: Path,
    suites: Sequence[str],
    datasets: Sequence[str],
    models: Sequence[str],
    *,
    whole: bool = False,
) -> pd.DataFrame:
    """Return the measurements of these suites, data sets and models; of all for an empty list.

    Args:
        whole: Leave out runs on a subset of the images.

    Raises:
        Refusal: There are none at all, or none of one of these names.
    """
    frame = read(results, whole=whole)
    if frame.empty:
        raise Refusal(
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


def order_models(frame: pd.DataFrame, models: Iterable[str]) -> pd.DataFrame:
    """Return `frame` with its models in the order of `models`, those not in it last."""
    place = {name: i for i, name in enumerate(models)}
    rank = frame["model"].map(lambda name: place.get(name, len(place)))
    return frame.iloc[rank.argsort(kind="stable")]


def cells_root(results: Path) -> Path:
    """Return where the cells of a results folder lie; those of `quick` lie beside it."""
    own = results / "cells"
    return results.parent / "cells" if results.name == QUICK and not own.is_dir() else own
