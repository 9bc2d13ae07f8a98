"""What made the numbers: the JSON beside every CSV, without what is the same in all of them.

A run's JSON names its cells by 64 digits each; the page says how many there are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.storage.files import canonical
from harness.storage.results import csv_path, read_provenance

KEY = ("dataset", "suite", "model", "seed")
OWN = ("run", "weights", "finished", "wall_s", "cells_measured", "cells")  # differ between runs


def runs(results: Path, table: pd.DataFrame) -> dict[str, Any]:
    """Return what made each run of a long table.

    Returns:
        `runs`: of each its key, `path`, what is its own, and the place of the rest in `shared`.

    Raises:
        Refusal: A JSON is damaged.
    """
    shared: dict[str, tuple[int, dict]] = {}
    found = []
    for dataset, suite, model, seed in table[list(KEY)].drop_duplicates().itertuples(index=False):
        path = csv_path(results, dataset, suite, model, int(seed)).with_suffix(".json")
        rest = read_provenance(path)
        own: dict[str, Any] = {name: rest.pop(name) for name in OWN if name in rest}
        if isinstance(own.get("cells"), dict):
            own["cells"] = len(own["cells"])
        training = rest.get("training")
        if isinstance(training, dict):
            rest["training"] = {k: v for k, v in training.items() if k not in KEY}
        rest = {name: value for name, value in rest.items() if name not in KEY}
        at, _ = shared.setdefault(canonical(rest), (len(shared), rest))
        found.append(
            {
                "dataset": dataset,
                "suite": suite,
                "model": model,
                "seed": int(seed),
                "path": path.relative_to(results).with_suffix("").as_posix(),
                "shared": at,
                "own": own,
            }
        )
    return {"runs": found, "shared": [rest for _, rest in shared.values()]}


def rows(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs as a table shows them: their key, path and what a reader asks first."""
    found = []
    for i, run in enumerate(made["runs"]):
        rest = made["shared"][run["shared"]]
        environment = rest.get("environment")
        here = environment if isinstance(environment, dict) else {}
        commit = here.get("commit")
        found.append(
            {name: run[name] for name in ("dataset", "suite", "model", "seed", "path")}
            | {
                "number": i,
                "images": rest.get("images", ""),
                "subset": bool(rest.get("limit")),
                "commit": str(commit)[:10] if commit else "",
                "dirty": bool(here.get("dirty")),
                "device": here.get("device", ""),
                "finished": str(run["own"].get("finished", ""))[:19].replace("T", " "),
                "wall_s": run["own"].get("wall_s", ""),
            }
        )
    return found
