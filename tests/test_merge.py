"""Results folders put together, and handed on as one file."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.refusal import Refusal
from harness.running.networks import set_aside
from harness.storage import checkpoints, files, merging, packing
from harness.storage.arrays import read_arrays, write_arrays
from harness.storage.json_files import read_json, write_json
from harness.storage.results import read

Answer = Callable[..., Path]  # writes a run


def harness(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def everything(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def train(results: Path, model: str, seed: int, value: float = 0.0) -> Path:
    """What a training leaves: weights and a history."""
    path = checkpoints.weights_path(results / "checkpoints", "d", model, seed)
    told = {"model": model, "dataset": "d", "seed": seed}
    checkpoints.write(path, {"w": torch.full((3,), value)}, told)
    history = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
    write_json(path.with_suffix(".json"), told | {"history": history, "wall_s": 1.5})
    return path


@pytest.fixture
def folders(tmp_path: Path, answered: Answer) -> list[Path]:
    """Three folders of five runs: one is in two of them, one of a subset, one of untrained."""
    a, b, c = (tmp_path / name for name in "abc")
    answered(a, "net", 0, n=30)
    answered(b, "net", 1, n=30)
    for folder in (a, b):
        answered(folder, "other", 0, n=30)
    answered(c / "quick", "net", 0, n=10, limit=10)
    answered(c / "untrained", "net", 0, n=30)
    for folder in (a, c):
        train(folder, "net", 0)
    train(b, "net", 1)
    return [a, b, c]


def test_a_union_is_the_same_in_any_order(folders: list[Path], tmp_path: Path) -> None:
    a, b, c = folders
    merged = harness("merge", a, b, c, "--to", tmp_path / "abc")
    assert merged.exit_code == 0, merged.stderr
    assert "80 cells, 2 weights, 5 runs, 2 histories added; 0 were there." in merged.stdout
    assert harness("merge", c, b, a, "-o", tmp_path / "cba").exit_code == 0
    assert everything(tmp_path / "abc") == everything(tmp_path / "cba")
    names = {name for folder in folders for name in everything(folder)}
    assert set(everything(tmp_path / "abc")) == names | {"leaderboard.csv"}
    assert len(read(tmp_path / "abc")["run"].unique()) == 3
    before = everything(tmp_path / "abc")
    again = harness("merge", a, tmp_path / "abc", "--to", tmp_path / "abc")
    assert "nothing added; 89 were there." in again.stdout
    assert everything(tmp_path / "abc") == before


def test_a_merge_that_is_stopped_goes_on(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merging.merge(folders, tmp_path / "whole")
    expected, real = everything(tmp_path / "whole"), files.write_bytes
    for left in (0, 1, 40, 85, len(expected) - 3, len(expected) - 2):
        count, to = [left], tmp_path / f"stopped{left}"

        def write(path: Path, content: bytes, count: list[int] = count) -> None:
            if not count[0]:
                raise KeyboardInterrupt
            count[0] -= 1
            real(path, content)

        monkeypatch.setattr(merging, "write_bytes", write)
        with pytest.raises(KeyboardInterrupt):
            merging.merge(folders, to)
        assert everything(to).items() <= expected.items() and len(everything(to)) == left
        monkeypatch.setattr(merging, "write_bytes", real)
        merging.merge(folders, to)
        assert everything(to) == expected


def change_cell(folder: Path) -> None:
    path = min(path for path in (folder / "cells").rglob("*") if path.is_file())
    arrays, described = read_arrays(path)
    write_arrays(path, arrays | {"logits": arrays["logits"] + np.float32(1)}, described)


def change_run(folder: Path) -> None:
    path = folder / "d/robustness/other/seed0.csv"
    path.write_text(path.read_text().replace("0.9", "0.8", 1))
    told = read_json(path.with_suffix(".json"), "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(path.with_suffix(".json"), told | {"csv": digest})


def change_history(folder: Path) -> None:
    path = folder / "checkpoints/d/net/seed0.json"
    write_json(path, read_json(path, "") | {"history": []})


@pytest.mark.parametrize(
    "change, fact",
    [
        (change_cell, "hold different arrays under one key"),
        (lambda folder: train(folder, "net", 0, 1.0), "are different weights of one training"),
        (change_run, "are different numbers of one run"),
        (change_history, "are of different trainings"),
    ],
    ids=["cell", "weights", "run", "history"],
)
def test_what_contradicts_is_refused_and_both_are_named(
    change: Callable[[Path], object], fact: str, tmp_path: Path, answered: Answer
) -> None:
    for name in "ab":
        answered(tmp_path / name, "other", 0, n=30)
        train(tmp_path / name, "net", 0)
    change(tmp_path / "b")
    for sources in (("a", "b"), ("b", "a")):
        refused = harness("merge", *(tmp_path / name for name in sources), "--to", tmp_path / "m")
        assert refused.exit_code == 2 and fact in refused.stderr
        assert all(f"{tmp_path / name}/" in refused.stderr for name in "ab")
        assert "Nothing was written." in refused.stderr and not (tmp_path / "m").exists()
    merging.merge([tmp_path / "a"], tmp_path / "m")
    before = everything(tmp_path / "m")
    with pytest.raises(Refusal, match=fact):
        merging.merge([tmp_path / "b"], tmp_path / "m")
    assert everything(tmp_path / "m") == before


def test_runs_on_other_images_are_refused(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path / "a", "net", 0, n=30)
    answered(tmp_path / "b", "other", 0, n=30, data="others")
    with pytest.raises(Refusal, match="are of different test images, though both say `d`"):
        merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_is_damaged_is_refused_or_left_out(tmp_path: Path, answered: Answer) -> None:
    run = answered(tmp_path / "a", "net", 0, n=30)
    cell = min(path for path in (tmp_path / "a/cells").rglob("*") if path.is_file())
    cell.write_bytes(cell.read_bytes()[:-1])
    merged = harness("merge", tmp_path / "a", "--to", tmp_path / "m")
    assert merged.exit_code == 0 and f"{cell}" in merged.stderr and "left out" in merged.stderr
    assert not (tmp_path / "m" / cell.relative_to(tmp_path / "a")).exists()
    (tmp_path / "m" / run.relative_to(tmp_path / "a")).with_suffix(".json").unlink()
    merging.merge([tmp_path / "a"], tmp_path / "m")  # half a run of the target is written again
    assert len(read(tmp_path / "m")) == len(read(tmp_path / "a"))
    run.write_text("")
    with pytest.raises(Refusal, match="seed0.csv is damaged"):
        merging.merge([tmp_path / "a"], tmp_path / "n")
    assert not (tmp_path / "n").exists()
    with pytest.raises(Refusal, match="There is no results folder .*none"):
        merging.merge([tmp_path / "none"], tmp_path / "n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="empty holds no results"):
        merging.merge([tmp_path / "empty"], tmp_path / "n")


def test_a_pack_has_the_same_bytes_and_merges_as_its_folder(
    folders: list[Path], tmp_path: Path
) -> None:
    merging.merge(folders, tmp_path / "all")
    (tmp_path / "all/d/study.json").write_text("{}")
    for name in ("one.tar.xz", "two.tar.xz"):
        assert harness("pack", tmp_path / "all", "--to", tmp_path / name).exit_code == 0
        for path in (tmp_path / "all").rglob("*.csv"):
            path.touch()
            path.chmod(0o600)
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()
    assert harness("pack", tmp_path / "all", "-o", tmp_path / "folder").exit_code == 0
    assert harness("pack", tmp_path / "all", "-o", tmp_path / "folder").exit_code == 0
    merged = harness("merge", tmp_path / "one.tar.xz", "--to", tmp_path / "m")
    assert "5 runs, 2 histories, 1 answers added; 0 were there." in merged.stdout, merged.stderr
    packed, there = everything(tmp_path / "folder"), everything(tmp_path / "m")
    assert packed == {name: there[name] for name in packed} and set(there) - set(packed) <= {
        "leaderboard.csv"
    }
    assert not any(name.startswith("cells") or name.endswith("tensors") for name in packed)
    both = merging.merge([tmp_path / "one.tar.xz", tmp_path / "all"], tmp_path / "both")
    assert both.new["cells"] == 80 and both.new["weights"] == 2
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    "to, fact", [("there", "holds something else"), ("p.zip", "is no .tar.xz"), ("file", "a file")]
)
def test_a_pack_is_written_to_a_place_of_its_own(
    to: str, fact: str, tmp_path: Path, answered: Answer
) -> None:
    answered(tmp_path / "a", "net", 0, n=30)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/other.txt").touch()
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match=fact):
        packing.pack(tmp_path / "a", tmp_path / to)
    with pytest.raises(Refusal, match="There are no runs in"):
        packing.pack(tmp_path / "there", tmp_path / "p.tar.xz")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


GOOD = "d/clean/net/seed0.json"
HOSTILE = {
    "above": [member("../d/clean/net/seed0.json")],
    "absolute": [member("/tmp/d/clean/net/seed0.json")],
    "link": [member(GOOD, tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [member(GOOD), member("d/clean/net/seed1.json", tarfile.LNKTYPE, GOOD)],
    "device": [member(GOOD, tarfile.CHRTYPE)],
    "folder": [member("d", tarfile.DIRTYPE)],
    "cell": [member(f"cells/ab/{'ab' * 32}")],
    "weights": [member("checkpoints/d/net/seed0.safetensors")],
    "hidden": [member("d/clean/net/.seed0.csv.part")],
    "twice": [member(GOOD), member(GOOD)],
    "dots": [member("d/clean/../seed0.json")],
}


@pytest.mark.parametrize("name", [*HOSTILE, "text", "cut off"])
def test_a_hostile_pack_is_one_sentence_and_nothing_is_taken(name: str, tmp_path: Path) -> None:
    path, content = tmp_path / "p.tar.xz", io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        for one in HOSTILE.get(name, [member(GOOD)]):
            tar.addfile(one)
    raw = content.getvalue()
    path.write_bytes({"text": b"no archive", "cut off": raw[:-20]}.get(name, raw))
    refused = harness("merge", path, "--to", tmp_path / "in/m")
    assert refused.exit_code == 2 and "p.tar.xz is no pack of results: " in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [path]


def test_a_pack_of_half_a_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.addfile(member(GOOD))
    with pytest.raises(Refusal, match="^.*/p.tar.xz/d/clean/net/seed0.csv is not there, though"):
        merging.merge([path], tmp_path / "m")


def test_weights_elsewhere_keep_their_history_in_the_results(tmp_path: Path) -> None:
    mine = ("--model", "resnet18", "--width", "8", "--epochs", "1")
    there = ("--results", tmp_path / "r", "--checkpoints", tmp_path / "w")
    assert harness("train", *mine, *there).exit_code == 0
    assert list(everything(tmp_path / "w")) == ["digits/resnet18/seed0.safetensors"]
    assert list(everything(tmp_path / "r")) == ["checkpoints/digits/resnet18/seed0.json"]
    again = harness("run", "--suite", "clean", "--limit", "20", *mine, *there)
    assert again.exit_code == 0 and "training" not in again.stderr
    told = json.loads((tmp_path / "r/checkpoints/digits/resnet18/seed0.json").read_text())
    assert told["seed"] == 0
    (old,) = set_aside(
        tmp_path / "w/digits/resnet18/seed0.safetensors",
        tmp_path / "r/checkpoints/digits/resnet18/seed0.json",
    )
    (history,) = (tmp_path / "r/checkpoints/digits/resnet18").iterdir()
    assert history.stem == old.stem
    assert harness("clean", "--results", tmp_path / "r").exit_code == 0
    assert old.exists()
    bad = harness("train", *mine, "--checkpoints", "/proc/none", "--results", tmp_path / "r")
    assert bad.exit_code == 2 and "another folder with `--checkpoints`" in bad.stderr
