import json
import math
from pathlib import Path

import pytest

from harness.refusal import Refusal
from harness.storage.histories import COLUMNS, read_histories

EPOCHS = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.5, "accuracy": 0.5}]


def write(results: Path, model: str, seed: int, history: object) -> Path:
    path = results / "checkpoints" / "d" / model / f"seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    key = {"dataset": "d", "model": model, "seed": seed}
    path.write_text(json.dumps(key | {"history": history, "wall_s": 1.5}))
    return path


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
    with pytest.raises(Refusal, match="seed0.json is damaged: it describes no training. Remove it"):
        read_histories(tmp_path)


def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "=1+1", 0, EPOCHS)
    with pytest.raises(Refusal, match="seed0.json is damaged"):
        read_histories(tmp_path)
