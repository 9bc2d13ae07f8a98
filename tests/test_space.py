"""`harness clean` removes what nothing refers to and nothing else; `harness du` says how much."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.refusal import Refusal
from harness.storage import arrays, remembered, space
from harness.storage.cells import CellStore
from harness.storage.json_files import write_json
from harness.storage.results import read, read_provenances

Answer = Callable[..., Path]  # writes a run
LONG_AGO = time.time() - 2 * space.RECENT_S
DESCRIBED = {"model": "m", "seed": 0, "recipe": {"epochs": 2}}


def harness(*arguments: str, folder: Path) -> str:
    result = CliRunner().invoke(app, [*arguments, "--results", str(folder)])
    assert result.exit_code == 0, result.output
    return result.stdout


def old(path: Path) -> Path:
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def put(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return old(path)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """A file that a living process has locked, as runs and writers do."""
    with put(path).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def weights(path: Path, described: dict | None = None, value: float = 0.0) -> str:
    """Write weights; return the digest that runs have of them."""
    content = {"w": np.full(3, value, np.float32)}
    arrays.write_arrays(path, content, DESCRIBED if described is None else described)
    return arrays.digest(content)


@pytest.fixture
def results(answered: Answer, tmp_path: Path) -> Path:
    """Runs with all their cells, which are old."""
    folder = tmp_path / "results"
    answered(folder, "m")
    answered(folder / "quick", "m", limit=100, n=100)
    answered(folder / "untrained", "m", 1)
    for path in folder.rglob("*"):
        old(path)
    return folder


def test_what_runs_refer_to_stays(results: Path) -> None:
    before = files(results)
    assert space.clean(space.survey(results)) == [] and files(results) == before


def test_each_kind_of_leftovers_is_removed_and_its_size_said(results: Path) -> None:
    kept, checkpoints = files(results), results / "checkpoints/d/m"
    weights(checkpoints / "seed0.safetensors")
    weights(checkpoints / "seed1.safetensors", DESCRIBED | {"seed": 1})
    weights(checkpoints / "seed1.partial", {"identity": DESCRIBED | {"seed": 2}, "epoch": 1})
    weights(checkpoints / "seed3.partial", {"identity": DESCRIBED | {"seed": 3}, "epoch": 1})
    kept |= {f"checkpoints/d/m/{n}" for n in ("seed0.safetensors", "seed1.safetensors")}
    kept |= {f"checkpoints/d/m/{n}" for n in ("seed1.partial", "seed3.partial")}
    # What can go, by the reason and the bytes.
    weights(checkpoints / "seed0.partial", {"identity": DESCRIBED, "epoch": 2})
    weights(checkpoints / "old-seed0-12345678.safetensors", value=1)
    put(checkpoints / "old-seed0-12345678.json")
    for path, size in (
        (results / "cells/ab" / ("ab" * 32), 1000),
        (results / "untrained/cells/ab" / ("ab" * 32), 200),
        (results / "cells/ab" / ("cd" * 32 + ".damaged"), 30),
        (results / "cells/ab" / f".{'ab' * 32}.12345678.part", 4),
        (results / "d/robustness/m/.seed0.csv.myhost.123.0123abcd", 5),
        (results / "d/robustness/m/.seed0.lock", 0),
    ):
        put(path, bytes(size))
    (results / "cells/ee/deep").mkdir(parents=True)
    for path in (results / "cells/ee/deep", results / "cells/ee"):
        old(path)
    before = files(results)
    told = json.loads(harness("clean", "--dry-run", "--json", folder=results))
    assert files(results) == before and (results / "cells/ee/deep").is_dir()
    table = harness("clean", folder=results)
    assert files(results) == kept and not (results / "cells/ee").exists()
    counts = {row["what"]: (row["count"], row["size"]) for row in told}
    sizes = {name: counts[name] for name in (space.UNUSED, space.DAMAGED, space.UNFINISHED)}
    assert sizes == {space.UNUSED: (2, 1200), space.DAMAGED: (1, 30), space.UNFINISHED: (3, 9)}
    assert counts[space.DONE][0] == 1 and counts[space.OLD][0] == 2
    assert counts["all"][0] == sum(n for what, (n, _) in counts.items() if what != "all")
    assert "1.2 kB" in table and "are removed." in table
    assert json.loads(harness("clean", "--json", folder=results)) == []


def test_numbers_stay(results: Path) -> None:
    put(results / "cells/ab" / ("ab" * 32))
    before = harness("table", "--json", folder=results)
    assert len(space.clean(space.survey(results))) >= 1
    assert harness("table", "--json", folder=results) == before


def test_recent_cells_stay_also_those_that_a_run_takes_meanwhile(results: Path) -> None:
    cells = next(iter(read_provenances(results).values()))["cells"]
    for path in results.glob("d/robustness/m/seed0.*"):
        path.unlink()  # a run that was interrupted before it had a JSON
    found = space.survey(results)
    assert {item.path.name for item in found.removable if item.size} >= set(cells.values())
    for key in cells.values():
        assert CellStore(results / "cells").read(key) is not None
    space.clean(found)
    assert all(key in CellStore(results / "cells") for key in cells.values())
    assert not {item.path.name for item in space.survey(results).removable} & set(cells.values())


def test_cells_stay_while_something_runs(results: Path) -> None:
    cell = put(results / "cells/ab" / ("ab" * 32))
    with held(results / "d/robustness/other/.seed0.lock"):
        found = space.survey(results)
        assert not found.removable and "Something is being measured" in found.notes[0]
        space.clean(found)
    assert cell.exists() and space.survey(results).removable


def test_what_a_living_process_writes_stays(results: Path) -> None:
    partial = results / "checkpoints/d/m/seed0.partial"
    weights(partial.with_suffix(".safetensors"))
    weights(partial, {"identity": DESCRIBED, "epoch": 2})
    part = results / "d/robustness/m/.seed0.csv.12345678.part"
    found = space.survey(results)
    assert [item.path for item in found.removable] == [partial]
    with held(part), held(partial.with_name(".seed0.lock")):
        assert not space.survey(results).removable
        assert space.clean(found) == [] and partial.exists()
    assert {item.path for item in space.survey(results).removable} >= {partial, part}


def test_a_damaged_json_keeps_all_cells(results: Path) -> None:
    cell = put(results / "cells/ab" / ("ab" * 32))
    path = results / "d/robustness/m/seed0.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    found = space.survey(results)
    assert not found.removable and "seed0.json is not what was written" in found.notes[0]
    assert "Cells stay" in harness("clean", folder=results) and cell.exists()
    assert "Cells stay" in harness("du", folder=results)


def test_weights_that_a_run_is_of_stay(results: Path) -> None:
    path = results / "checkpoints/d/m/old-seed0-12345678.safetensors"
    digest = weights(path)
    assert space.survey(results).removable[0].why == space.OLD
    beside = results / "d/robustness/m/seed0.json"
    content = json.loads(beside.read_text())
    write_json(beside, {k: v for k, v in content.items() if k != "sha256"} | {"weights": digest})
    assert not space.survey(results).removable


def test_published_results_and_links_are_left_alone(results: Path, tmp_path: Path) -> None:
    put(results / "published/cells/ab" / ("ab" * 32))
    put(results / "published/d/.x.12345678.part")
    write_json(results / "published/published.json", {"files": {}})
    elsewhere = put(tmp_path / "elsewhere/ab" / ("ab" * 32))
    (results / "untrained/cells").rename(tmp_path / "kept")
    (results / "untrained/cells").symlink_to(tmp_path / "elsewhere")
    before = files(results)
    assert not space.survey(results).removable
    with pytest.raises(Refusal, match="lies in published results, .* which are only read"):
        space.clean(space.Survey([space.Item(results / "published/x", "", 0, why=space.UNUSED)]))
    assert files(results) == before and elsewhere.exists()


def test_what_is_remembered_goes_with_its_run(results: Path) -> None:
    from harness.analysis.leaderboard import leaderboard
    from harness.analysis.outcomes import StoredOutcomes

    leaderboard(read(results), StoredOutcomes(results, remember=True))
    cells = next(iter(read_provenances(results).values()))["cells"]
    path = old(CellStore(results / "cells").path(remembered.key_of(cells)))
    assert path.is_file() and not space.survey(results).removable
    for file in results.glob("d/robustness/m/seed0.*"):
        file.unlink()
    assert path in [item.path for item in space.survey(results).removable]


def test_sizes_are_by_kind_and_by_model(results: Path) -> None:
    put(results / "cells/ab" / ("ab" * 32), bytes(1234))
    put(results / "figures/d-robustness.png", bytes(77))
    rows = json.loads(harness("du", "--json", folder=results))
    kinds = {row["kind"]: row for row in rows if row["table"] == "kinds"}
    assert kinds["figures"]["size"] == 77 and kinds["cells"]["free"] == 1234
    whole = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    assert kinds["all"]["size"] == whole == sum(kinds[k]["size"] for k in kinds if k != "all")
    models = [row for row in rows if row["table"] == "models"]
    assert [(row["dataset"], row["model"]) for row in models] == [("d", "m")]
    assert models[0]["size"] == whole - 77 - 1234
    assert "can be freed" in harness("du", folder=results)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for command in ("clean", "du"):
        result = CliRunner().invoke(app, [command, "--results", str(tmp_path / "none")])
        assert result.exit_code == 2 and result.stderr.startswith("There is no folder")
