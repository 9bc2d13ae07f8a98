"""What made the numbers: the JSON beside every CSV, without what is the same in all of them.

A run's JSON names its cells by 64 digits each; the page says how many there are. A number knows its
runs by their keys, which rows and JSON share.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.refusal import Refusal
from harness.storage.files import canonical
from harness.storage.results import KEY, csv_path, read_provenances

# What differs between runs.
OWN = (
    "run", "csv", "weights", "origin", "training_run", "finished", "wall_s", "cells_measured",
    "cells", "rows",
)  # fmt: skip
Place = Mapping[tuple[str, str, str], Mapping[str, int]]  # by (dataset, suite, model) and key


def runs(results: Path, table: pd.DataFrame) -> dict[str, Any]:
    """Return what made each run of a long table.

    Returns:
        `runs`: of each its key, `path`, what is its own, and the place of the rest in `shared`.

    Raises:
        Refusal: A JSON is damaged, or is of another run than the rows.
    """
    shared: dict[str, tuple[int, dict]] = {}
    found = []
    known = read_provenances(results)
    for *key, run in table[[*KEY, "run"]].drop_duplicates().itertuples(index=False):
        dataset, suite, model, seed = key
        path = csv_path(results, dataset, suite, model, int(seed)).with_suffix(".json")
        rest = dict(known.get(tuple(key), {}))
        if rest.get("run") != run:
            raise Refusal(f"{path} changed while it was read. Run the command again.")
        own: dict[str, Any] = {name: rest.pop(name) for name in OWN if name in rest}
        if isinstance(own.get("cells"), dict):
            own["cells"] = len(own["cells"])
        if isinstance(rest.get("code"), dict):  # the page names digests, not all files
            rest["code"] = {k: v for k, v in rest["code"].items() if k != "files"}
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


def numbered(made: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, int]]:
    """Return the number of each run in the page, by what names it in a row."""
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for i, run in enumerate(made["runs"]):
        of = found.setdefault((run["dataset"], run["suite"], run["model"]), {})
        of[str(run["own"].get("run", ""))] = i
    return found


def numbers_of(
    place: Place, dataset: str, suite: str, model: str, runs: Iterable[str] | None = None
) -> list[int]:
    """Return the numbers in the page of runs by their keys; of all of a model for None."""
    own = place.get((dataset, suite, model), {})
    return sorted(own.values() if runs is None else (own[run] for run in runs if run in own))


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
