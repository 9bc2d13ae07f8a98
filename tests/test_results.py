import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from harness.refusal import Refusal
from harness.storage.json_files import read_json, write_json
from harness.storage.results import (
    COLUMNS,
    csv_path,
    order_models,
    own_or_published,
    read,
    read_provenances,
    run_key,
    write,
)
from harness.suites.base import Measurement

KEY = {"model": "m", "suite": "s", "dataset": "d", "seed": 0, "run": "abc"}
MADE = {"cells": {}, "limit": 0, "version": 1, "data": "images"}
ROWS = [
    Measurement("clean", 0, "accuracy", "", 2 / 3, 3),
    Measurement("linf_pgd", 8 / 255, "accuracy", "", 1 / 3, 3),
]


def test_eleven_columns_come_back(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    assert write(path, KEY, ROWS, MADE | {"command": "harness run"})
    frame = read(tmp_path)
    assert tuple(frame.columns) == COLUMNS and len(COLUMNS) == 11
    assert frame["value"].tolist() == [0.666667, 0.333333]
    assert frame["level"].tolist() == [0, 0.0313725]
    assert path == tmp_path / "d" / "s" / "m" / "seed0.csv"
    assert read_json(path.with_suffix(".json"), "") == KEY | MADE | {
        "command": "harness run",
        "csv": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_equal_rows_leave_the_files_untouched(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    write(path, KEY, ROWS, MADE | {"wall_s": 1})
    assert not write(path, KEY, ROWS, MADE | {"wall_s": 2})
    assert json.loads(path.with_suffix(".json").read_text())["wall_s"] == 1
    assert write(path, KEY | {"run": "def"}, ROWS, MADE | {"wall_s": 2})
    path.with_suffix(".json").unlink()
    assert write(path, KEY | {"run": "def"}, ROWS, MADE | {"wall_s": 3})


def test_a_models_name_becomes_one_folder(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "imagefolder:/my/pictures", "s", "timm/hf-hub:a/b", 1)
    dataset, suite, model, file = path.relative_to(tmp_path).parts
    assert re.fullmatch("imagefolder-my-pictures-[0-9a-f]{8}", dataset)
    assert re.fullmatch("timm-hf-hub-a-b-[0-9a-f]{8}", model) and (suite, file) == (
        "s",
        "seed1.csv",
    )


def test_caches_and_quick_runs_are_no_results(tmp_path: Path) -> None:
    write(csv_path(tmp_path / "quick", "d", "s", "m", 0), KEY, ROWS, MADE)
    assert read(tmp_path).empty and len(read(tmp_path / "quick")) == 2


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(Refusal, match="seed0.csv is damaged: .* Run it again, or make it"):
        read(tmp_path)
    pd.DataFrame({"model": ["m"]}).to_csv(path)
    with pytest.raises(Refusal, match="lacks the column `suite`. Run it again, or make it"):
        read(tmp_path)


def test_models_are_put_in_order_and_their_rows_kept_in_it() -> None:
    frame = pd.DataFrame({"model": ["b", "mine", "a", "b"], "value": [1, 2, 3, 4]})
    assert order_models(frame, ["a", "b"])["value"].tolist() == [3, 1, 4, 2]


def test_a_run_is_named_by_its_cells_and_their_measurement() -> None:
    names = {run_key({"a": "1"}, 1), run_key({"a": "2"}, 1), run_key({"a": "1"}, 2)}
    assert len(names) == 3 and run_key({"a": "1"}, 1) in names


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The CSVs of two seeds."""
    paths = []
    for seed, value in ((0, 0.5), (1, 0.75)):
        rows = [Measurement("clean", 0, "accuracy", "", value, 4)]
        path = csv_path(tmp_path, "d", "s", "m", seed)
        write(path, KEY | {"seed": seed, "run": f"run{seed}"}, rows, MADE)
        paths.append(path)
    return paths[0], paths[1]


def test_a_json_of_a_neighbor_is_refused(tmp_path: Path, two: tuple[Path, Path]) -> None:
    two[0].with_suffix(".json").write_bytes(two[1].with_suffix(".json").read_bytes())
    with pytest.raises(Refusal, match="seed0.json is of another run than the CSV beside it"):
        read(tmp_path)


def test_a_table_that_was_edited_is_refused(tmp_path: Path, two: tuple[Path, Path]) -> None:
    two[1].write_bytes(two[1].read_bytes().replace(b"0.75", b"0.95"))
    with pytest.raises(Refusal, match="seed1.csv is not the table that its JSON vouches for"):
        read(tmp_path)


def test_a_run_that_was_stopped_between_its_files_is_refused(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    old = two[0].with_suffix(".json").read_bytes()
    rows = [Measurement("clean", 0, "accuracy", "", 0.25, 4)]
    write(two[0], KEY | {"run": "run0"}, rows, MADE)
    two[0].with_suffix(".json").write_bytes(old)
    with pytest.raises(Refusal, match="or a run was stopped between writing the two"):
        read(tmp_path)
    assert write(two[0], KEY | {"run": "run0"}, rows, MADE), "the same run makes it whole"
    assert 0.25 in read(tmp_path)["value"].tolist()


def test_a_table_without_its_json_is_refused(tmp_path: Path, two: tuple[Path, Path]) -> None:
    two[0].with_suffix(".json").unlink()
    with pytest.raises(Refusal, match="There is no file .*seed0.json. Run it again, or"):
        read(tmp_path)


def test_runs_on_other_images_of_one_name_are_refused(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    path = csv_path(tmp_path, "d[image seed 1]", "s", "other", 0)
    key = KEY | {"dataset": "d[image seed 1]", "model": "other"}
    write(path, key, ROWS, MADE)
    assert len(read(tmp_path)) == 4, "the same images, drawn upon otherwise"
    write(path, key | {"run": "else"}, ROWS, MADE | {"data": "other images"})
    with pytest.raises(Refusal, match="are of different test images, though both say `d`"):
        read(tmp_path)


def test_what_made_each_run_is_found_by_its_name(tmp_path: Path, two: tuple[Path, Path]) -> None:
    found = read_provenances(tmp_path)
    assert list(found) == [("d", "s", "m", 0), ("d", "s", "m", 1)]
    assert found["d", "s", "m", 1]["run"] == "run1"
    content = read_json(two[1].with_suffix(".json"), "") | {"limit": 3}
    write_json(two[1].with_suffix(".json"), content)
    assert list(read_provenances(tmp_path, whole=True)) == [("d", "s", "m", 0)]
    assert set(read(tmp_path, whole=True)["seed"]) == {0}


def test_published_results_stand_in_where_there_are_none_of_ones_own(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    home = tmp_path / "elsewhere"
    (home / "published").mkdir(parents=True)
    assert own_or_published(home) == home / "published"
    write(csv_path(home, "d", "s", "m", 0), KEY, ROWS, MADE)
    assert own_or_published(home) == home and own_or_published(tmp_path) == tmp_path
