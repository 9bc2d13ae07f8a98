"""What is remembered of whole runs: the same numbers without opening cells, never old ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.leaderboard import as_csv, leaderboard
from harness.analysis.outcomes import StoredOutcomes
from harness.storage import remembered
from harness.storage.cells import CellStore
from harness.storage.files import PUBLISHED
from harness.storage.json_files import write_json
from harness.storage.results import read, read_provenances
from harness.suites.metric import Metric
from harness.suites.metrics import METRICS

Answer = Callable[..., Path]  # writes a run


@pytest.fixture
def results(answered: Answer, tmp_path: Path) -> Path:
    for model in ("a", "b"):
        for seed in range(2):
            answered(tmp_path / "results", model, seed, accuracy=0.8 + 0.1 * (model == "a"))
    return tmp_path / "results"


def board(results: Path, remember: bool = True) -> bytes:
    return as_csv(leaderboard(read(results), StoredOutcomes(results, remember=remember)))


def kept(results: Path) -> list[Path]:
    """Where what is remembered of each run lies, or would."""
    store = CellStore(results / "cells")
    runs = read_provenances(results).values()
    return [store.path(remembered.key_of(of["cells"])) for of in runs]


def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CellStore, "look", lambda self, key: pytest.fail("a cell was opened"))


def test_numbers_are_the_same_and_no_cell_is_opened(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = board(results, remember=False)
    assert not any(path.exists() for path in kept(results)), "only large tables remember"
    assert board(results) == without and all(path.is_file() for path in kept(results))
    closed(monkeypatch)
    assert board(results) == without


def test_it_is_used_only_while_all_cells_are_there(results: Path) -> None:
    board(results)
    for told in read_provenances(results).values():
        CellStore(results / "cells").path(told["cells"]["gaussian_noise 2"]).unlink()
    assert board(results) == board(results, remember=False)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None], ids=["empty", "no file", "another"])
def test_what_is_damaged_or_of_another_run_is_made_again(
    results: Path, content: bytes | None
) -> None:
    without, paths = board(results), kept(results)
    whole = [path.read_bytes() for path in paths]
    for path, other in zip(paths, whole[::-1], strict=True):
        path.write_bytes(other if content is None else content)
    assert board(results) == without
    assert [path.read_bytes() for path in paths] == whole


def test_other_code_or_other_cells_are_another_key(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = next(iter(read_provenances(results).values()))["cells"]
    key = remembered.key_of(cells)
    assert remembered.key_of({**cells, "clean 0": "0" * 64}) != key
    monkeypatch.setattr(remembered, "_code", lambda: "other")
    assert remembered.key_of(cells) != key


def test_other_means_are_added(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = read(results)
    for metric in ("brier", "nll"):
        leaderboard(frame[frame["metric"] == metric], StoredOutcomes(results, remember=True))
    closed(monkeypatch)
    part = frame[frame["metric"].isin(["brier", "nll"])]
    leaderboard(part, StoredOutcomes(results, remember=True))
    with pytest.raises(pytest.fail.Exception, match="a cell was opened"):
        board(results)


def test_published_results_are_only_read(results: Path) -> None:
    write_json(results / "cells" / PUBLISHED, {})
    assert board(results) == board(results, remember=False)
    assert not any(path.exists() for path in kept(results))


def test_means_have_names_by_their_cells_and_their_order() -> None:
    cells = [("fog", 1.0), ("fog", 2.0)]
    names = {remembered.name_of(c) for c in (cells, cells[::-1], cells[:1], [("fog", 1.5)])}
    assert len(names) == 4
    assert remembered.name_of([("fog", np.float64(1)), ("fog", 2.0)]) == remembered.name_of(cells)


def test_accuracy_alone_is_read_from_the_packed_hits(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = read(results)
    accuracy = frame[frame["metric"] == "accuracy"]
    packed = list(results.rglob("*.bits"))
    contents = [path.read_bytes() for path in packed]
    for path in packed:
        path.write_bytes(b"damaged")
    from_cells = leaderboard(accuracy, StoredOutcomes(results, remember=True))
    for path, content in zip(packed, contents, strict=True):
        path.write_bytes(content)
    closed(monkeypatch)
    of_hits = leaderboard(accuracy, StoredOutcomes(results, remember=True))
    assert as_csv(of_hits) == as_csv(from_cells)
    assert (from_cells["basis"] == "images").all()


def test_means_of_a_metric_of_a_user_are_not_remembered(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Metric("nll", "NLL", of_images=lambda logits, labels: logits[:, 0])
    monkeypatch.setitem(METRICS, "nll", own)
    board(results)
    assert not any(path.exists() for path in kept(results))
