import json
import re
from pathlib import Path

import pandas as pd
import pytest

from harness.refusal import Refusal
from harness.storage.results import COLUMNS, csv_path, order_models, read, run_key, write
from harness.suites.base import Measurement

KEY = {"model": "m", "suite": "s", "dataset": "d", "seed": 0, "run": "abc"}
ROWS = [
    Measurement("clean", 0, "accuracy", "", 2 / 3, 3),
    Measurement("linf_pgd", 8 / 255, "accuracy", "", 1 / 3, 3),
]


def test_eleven_columns_come_back(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    assert write(path, KEY, ROWS, {"command": "harness run"})
    frame = read(tmp_path)
    assert tuple(frame.columns) == COLUMNS and len(COLUMNS) == 11
    assert frame["value"].tolist() == [0.666667, 0.333333]
    assert frame["level"].tolist() == [0, 0.0313725]
    assert path == tmp_path / "d" / "s" / "m" / "seed0.csv"
    assert json.loads(path.with_suffix(".json").read_text()) == KEY | {
        "rows": 2,
        "command": "harness run",
    }


def test_equal_rows_leave_the_files_untouched(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    write(path, KEY, ROWS, {"wall_s": 1})
    assert not write(path, KEY, ROWS, {"wall_s": 2})
    assert json.loads(path.with_suffix(".json").read_text())["wall_s"] == 1
    assert write(path, KEY | {"run": "def"}, ROWS, {"wall_s": 2})
    path.with_suffix(".json").unlink()
    assert write(path, KEY | {"run": "def"}, ROWS, {"wall_s": 3})


def test_a_models_name_becomes_one_folder(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "imagefolder:/my/pictures", "s", "timm/hf-hub:a/b", 1)
    dataset, suite, model, file = path.relative_to(tmp_path).parts
    assert re.fullmatch("imagefolder-my-pictures-[0-9a-f]{8}", dataset)
    assert re.fullmatch("timm-hf-hub-a-b-[0-9a-f]{8}", model) and (suite, file) == (
        "s",
        "seed1.csv",
    )


def test_caches_and_quick_runs_are_no_results(tmp_path: Path) -> None:
    write(csv_path(tmp_path / "quick", "d", "s", "m", 0), KEY, ROWS, {})
    assert read(tmp_path).empty and len(read(tmp_path / "quick")) == 2


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "s", "m", 0)
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(Refusal, match="seed0.csv is damaged: .* Remove it and run it again"):
        read(tmp_path)
    pd.DataFrame({"model": ["m"]}).to_csv(path)
    with pytest.raises(Refusal, match="lacks the column `suite`. Remove it and run it again"):
        read(tmp_path)


def test_models_are_put_in_order_and_their_rows_kept_in_it() -> None:
    frame = pd.DataFrame({"model": ["b", "mine", "a", "b"], "value": [1, 2, 3, 4]})
    assert order_models(frame, ["a", "b"])["value"].tolist() == [3, 1, 4, 2]


def test_a_run_is_named_by_its_cells_and_their_measurement() -> None:
    names = {run_key({"a": "1"}, 1), run_key({"a": "2"}, 1), run_key({"a": "1"}, 2)}
    assert len(names) == 3 and run_key({"a": "1"}, 1) in names
