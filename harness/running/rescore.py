"""The CSVs again, from stored cells: no model, no data, no device.

A metric that was added, or a table that was lost or edited, needs only what was observed: the JSON
beside each CSV names its cells, and the suite measures them. A suite of another version asks
another question, and is not answered from old cells.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.refusal import Refusal
from harness.running.evaluate import measured
from harness.storage import results as tables
from harness.storage.cells import CellStore
from harness.storage.packed_outcomes import Packing
from harness.storage.provenance import command_line, commit
from harness.suites.base import Cell, Measurement, Suite
from harness.suites.catalog import SUITES

NAMES = ("model", "suite", "dataset", "seed", "run")


def rescore(
    results: Path,
    suites: Sequence[str],
    datasets: Sequence[str],
    models: Sequence[str],
) -> Iterator[str]:
    """Make the CSVs of these suites, data sets and models again; of all for an empty list.

    Yields:
        A line for each run whose CSV changed or could not be made, and one for all others.

    Raises:
        Refusal: There are no runs.
        Refusal: A JSON is damaged.
    """
    store, same, found = CellStore(tables.cells_root(results)), 0, False
    head, dirty = commit()
    made = {"command": command_line(), "commit": head, "dirty": dirty}
    for path in sorted(results.glob("*/*/*/seed*.json")):
        if path.is_relative_to(results / "checkpoints"):
            continue  # of a training
        told = tables.read_provenance(path)
        wanted = (("suite", suites), ("dataset", datasets), ("model", models))
        if any(names and told.get(name) not in names for name, names in wanted):
            continue
        found = True
        problem = _problem(told)
        if problem is None:
            made_again = _measured(SUITES[told["suite"]](), store, told["cells"])
            problem = made_again if isinstance(made_again, str) else None
        if problem is not None:
            yield f"{path.with_suffix('.csv')} stays as it is: {problem}."
            continue
        assert not isinstance(made_again, str)
        beside = {k: v for k, v in told.items() if k not in NAMES} | {"rescored": made}
        key = {name: told[name] for name in NAMES}
        if tables.write(path.with_suffix(".csv"), key, made_again[0], beside, made_again[1]):
            yield f"{path.with_suffix('.csv')} is made again."
        else:
            same += 1
    if not found:
        raise Refusal(
            f"There are no runs in {results}. Run `harness run --suite robustness --model pde_aug`."
        )
    yield f"{same} tables are what their cells say."


def _problem(told: dict) -> str | None:
    """Why a run cannot be measured again from its JSON, None if it can."""
    if any(name not in told for name in (*NAMES, "cells", "version")):
        return "its JSON is not what `harness run` writes"
    if told["suite"] not in SUITES:
        return f"there is no suite called `{told['suite']}` here"
    suite = SUITES[told["suite"]]()
    if told["version"] != suite.version:
        return (
            f"it has version {told['version']} of its suite, which is now {suite.version}; run it "
            "again"
        )
    added = {m["name"] for m in told.get("metrics", ())} - {m.name for m in suite.metrics}
    if added:
        return f"it has the metric `{min(added)}` of a file; run it again with `--metric`"
    return None


def _measured(
    suite: Suite, store: CellStore, keys: dict[str, str]
) -> tuple[list[Measurement], bytes] | str:
    """What the suite measures of these cells and their packed hits, or why it cannot."""
    found, hits = list[Measurement](), Packing()
    for i, (name, key) in enumerate(keys.items()):
        stored = store.look(key)
        if stored is None:
            return f"its cell `{name}` is not here"
        arrays, description = stored
        cell = Cell(
            str(description["condition"]),
            float(description["level"]),
            constants=description["constants"],
        )
        try:
            rows = measured(suite, cell, arrays)
            hits.add(i, description, arrays, rows)
        except (ValueError, LookupError, TypeError) as error:  # of arrays that nobody observed
            return f"its cell `{name}` cannot be measured: {error}"
        found += rows
    return found, hits.content()
