import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.refusal import Refusal
from harness.storage.arrays import write_arrays
from harness.storage.histories import COLUMNS, read_histories
from harness.storage.json_files import write_json

EPOCHS = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.5, "accuracy": 0.5}]


def write(results: Path, model: str, seed: int, history: object) -> Path:
    path = results / "checkpoints" / "d" / model / f"seed{seed}.json"
    write_json(path, describe(model, seed) | {"history": history, "wall_s": 1.5})
    return path


def describe(model: str, seed: int) -> dict[str, Any]:
    return {"dataset": "d", "model": model, "seed": seed, "data": "0f", "recipe": {"epochs": 2}}


def test_every_epoch_of_every_training_is_a_row(tmp_path: Path) -> None:
    write(tmp_path, "b", 0, EPOCHS)
    write(tmp_path, "a", 1, [EPOCHS[0] | {"held_out": 0.125}])
    frame = read_histories(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert rows[0] == ("d", "a", 1, 1, 2.0, 0.25, 0.125)
    assert rows[2][:6] == ("d", "b", 0, 2, 1.5, 0.5) and math.isnan(rows[2][6])


def test_without_weights_there_is_no_history(tmp_path: Path) -> None:
    frame = read_histories(tmp_path)
    assert frame.empty and tuple(frame.columns) == COLUMNS


@pytest.mark.parametrize(
    "history",
    [None, {}, ["x"], [{"epoch": 1}], [EPOCHS[0] | {"loss": "low"}], [EPOCHS[0] | {"epoch": True}]],
)
def test_what_describes_no_training_is_named(tmp_path: Path, history: object) -> None:
    write(tmp_path, "a", 0, history)
    with pytest.raises(Refusal, match="seed0.json describes no training. Rename it"):
        read_histories(tmp_path)


@pytest.mark.parametrize("name", ["=1+1", "", None, 1, ["m"]])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: Any) -> None:
    content = describe(name, 0) | {"history": EPOCHS}
    write_json(tmp_path / "checkpoints" / "d" / "m" / "seed0.json", content)
    with pytest.raises(Refusal, match="seed0.json describes no training. Rename it"):
        read_histories(tmp_path)


def test_an_edited_history_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 0, EPOCHS)
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(Refusal, match="seed0.json is not what was written: .* Rename it"):
        read_histories(tmp_path)
    path.write_text(json.dumps({"model": "a", "history": EPOCHS}))
    with pytest.raises(Refusal, match="seed0.json has no checksum: an older version wrote it"):
        read_histories(tmp_path)


def test_a_history_at_another_training_s_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 0, EPOCHS)
    path.rename(path.with_name("seed1.json"))
    with pytest.raises(Refusal, match="seed1.json is the training of a on d, seed 0: it was moved"):
        read_histories(tmp_path)


@pytest.mark.parametrize(
    "field, value", [("seed", 1), ("data", "ff"), ("recipe", {"epochs": 3}), ("model", "b")]
)
def test_a_history_of_other_weights_than_those_beside_it_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    weights = write(tmp_path, "a", 0, EPOCHS).with_suffix(".safetensors")
    arrays = {"w": np.zeros(2)}
    write_arrays(weights, arrays, describe("a", 0))
    assert len(read_histories(tmp_path)) == 2
    write_arrays(weights, arrays, describe("a", 0) | {field: value})
    with pytest.raises(
        Refusal, match=rf"not the training of seed0.safetensors .*`{field}` differs"
    ):
        read_histories(tmp_path)
    weights.write_bytes(b"damaged")
    with pytest.raises(Refusal, match="is damaged: .* may be of other weights. Rename it"):
        read_histories(tmp_path)


@pytest.mark.parametrize("change", [{"loss": 1e300}, {"loss": float("inf")}, {"epoch": -1}])
def test_numbers_that_no_training_gives_are_refused(tmp_path: Path, change: dict) -> None:
    write(tmp_path, "a", 0, [EPOCHS[0] | change])  # with a checksum that is right
    says = "seed0.json (describes no training|is damaged: it says Infinity)"
    with pytest.raises(Refusal, match=says):
        read_histories(tmp_path)
