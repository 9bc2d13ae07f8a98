"""Tables and JSON that were cut off, edited or made to harm: refused with file, line and cure."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.analysis.boards import read as read_board
from harness.analysis.boards import write as write_board
from harness.cli import app
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.arrays import write_arrays
from harness.storage.cells import CellStore
from harness.storage.files import safe
from harness.storage.json_files import read_json, write_json
from harness.storage.results import read, read_provenance
from harness.storage.rows import read_rows
from harness.storage.spelling import problem_of_name

HEAD = "model,suite,dataset,seed,condition,level,metric,value,n,run"
ROW = "m,s,d,0,clean,0,accuracy,0.9,100,r"

Answer = Callable[..., Path]  # writes a run
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """A function that writes the lines of a run's CSV where it belongs."""

    def write(
        *lines: str, end: str = "\n", place: str = "d/s/m/seed0.csv", model: str = "m"
    ) -> Path:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + end, newline="")
        dataset, suite = path.parts[-4:-2]
        key = {"dataset": dataset, "suite": suite, "model": model, "seed": 0, "run": "r"}
        made = {"cells": {}, "limit": 0, "version": 1, "data": "images"}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        write_json(path.with_suffix(".json"), key | made | {"csv": digest})
        return path

    return write


def test_a_sound_table_is_read(put: Put, tmp_path: Path) -> None:
    put(HEAD, ROW, "m,s,d,0,clean,0,nll,nan,100,r", "m,s,d,0,growth,1,log10_growth,inf,100,r")
    frame = read(tmp_path)
    assert frame["value"].tolist()[0] == 0.9 and frame["value"].isna().tolist()[1]
    assert (frame["seed"].tolist(), frame["level"].tolist()) == ([0] * 3, [0, 0, 1])


@pytest.mark.parametrize(
    "line, message",
    [
        (ROW.replace("0.9", "high"), "line 3: `value` must be a number; got 'high'"),
        (ROW.replace("0.9", "1_0"), "line 3: `value` must be a number; got '1_0'"),
        (
            ROW.replace("0.9", "90.1"),
            r"line 3: `accuracy` must lie in \[0, 1\]; got 90.1. Rates are",
        ),
        (ROW.replace("0.9", "-0.1"), r"line 3: `accuracy` must lie in \[0, 1\]; got -0.1"),
        (ROW.replace(",100,", ",0,"), "line 3: `n` must be a whole number >= 1; got '0'"),
        (ROW.replace(",100,", ",1e2,"), "line 3: `n` must be a whole number >= 1; got '1e2'"),
        (ROW.replace(",100,", ",\u0661\u0660\u0660,"), "line 3: `n` must be a whole number >= 1"),
        (ROW.replace("d,0,", "d,-1,"), "line 3: `seed` must be a whole number >= 0; got '-1'"),
        (ROW.replace("clean,0,", "clean,inf,"), "line 3: `level` must be a number; got 'inf'"),
        (ROW.replace("clean,0,", "clean,,"), "line 3: `level` must be a number; got ''"),
        (
            ROW.replace("clean", "=HYPERLINK(1)"),
            "line 3: `condition` starts like a spreadshe",
        ),
        (ROW.replace("clean", "@SUM(A1)"), "line 3: `condition` starts like a spreadsheet formula"),
        (ROW.replace("clean", "\x1b[2Jx"), r"line 3: `condition` has characters .*: '\\x1b"),
        (ROW.replace("clean", "a\u202eb"), r"line 3: `condition` has characters .*u202e"),
        (ROW.replace("clean", "x" * 999), "line 3: `condition` has 999 characters, more than 200"),
        (ROW.replace("clean", ""), "line 3: `condition` is empty"),
        (ROW.replace("clean", " clean"), "line 3: `condition` has spaces around it"),
        ("m,s,d,0,clean,0,accuracy", "line 3 has 7 fields, the header 10"),
        (ROW + ",more", "line 3 has 11 fields, the header 10"),
        ('"' + ROW, "line 3: unexpected end of data"),
        ("m,s,d,0,clean,0.0,accuracy,0.8,100,r", "lines 2 and 3 are of the same model, suite, dat"),
        (ROW.replace("clean", "x").replace(",r", ",q"), "holds several of `run`"),
        (ROW.replace("m,", "../../m,"), "holds several of `model`"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(
    put: Put, tmp_path: Path, line: str, message: str
) -> None:
    put(HEAD, ROW, line)
    with pytest.raises(Refusal, match=rf"seed0.csv.*{message}") as error:
        read(tmp_path)
    assert "Run it again, or make it again from stored cells" in str(error.value)


@pytest.mark.parametrize(
    "lines, end, message",
    [
        ((HEAD, ROW), "", "line 2 is cut off"),
        ((HEAD, ROW, ROW.replace("clean", "x")[:-9]), "", "line 3 has 8 fields"),
        (("",), "", "it is empty"),
        ((HEAD.replace("value", "model"), ROW), "\n", "has the column 'model' twice"),
        ((HEAD.replace("value", "worth"), ROW), "\n", "lacks the column `value`"),
        (("<html><body>Not Found</body></html>",), "\n", "lacks the column `model`"),
        ((HEAD, ROW.replace("s,d", "s,other")), "\n", "holds m on other, s, seed 0: it was moved"),
        ((HEAD, ROW.replace("d,0,", "d,7,")), "\n", "holds m on d, s, seed 7: it was moved or e"),
        ((HEAD, ROW.replace("m,s,", "../x,s,")), "\n", "holds ../x on d, s, seed 0"),
    ],
)
def test_a_bad_file_is_refused(
    put: Put, tmp_path: Path, lines: tuple[str, ...], end: str, message: str
) -> None:
    put(*lines, end=end)
    with pytest.raises(Refusal, match=rf"seed0.csv .*{message}.*Run it again, or make it again"):
        read(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, put: Put) -> None:
    path = put(HEAD, ROW)
    path.write_bytes(path.read_bytes() + b"\xff\xfe\x00\n")
    with pytest.raises(Refusal, match="seed0.csv is damaged: line 3 is not UTF-8"):
        read(tmp_path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(Refusal, match="seed0.csv is damaged: line 1 is not UTF-8"):
        read(tmp_path)


def test_cutting_a_file_anywhere_never_gives_other_numbers(
    tmp_path: Path, answered: Answer
) -> None:
    path = answered(tmp_path, "m", kinds=("fog",))
    whole, sound = path.read_bytes(), read(tmp_path)
    for cut in random.Random(0).sample(range(1, len(whole)), 60):
        path.write_bytes(whole[:cut])
        try:
            found = read(tmp_path)
        except Refusal:
            continue
        raise AssertionError(f"cut at {cut}, and read as {len(found)} of {len(sound)} rows")
    ends = [i + 1 for i, byte in enumerate(whole[:-1]) if byte == 10]
    for cut in random.Random(0).sample(ends, 10):  # whole lines
        path.write_bytes(whole[:cut])
        with pytest.raises(
            Refusal, match="is not the table that its JSON vouches for: it was edited"
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    "edit, message",
    [
        ({"cells": []}, "is not what `harness run` writes"),
        ({"cells": {"clean 0": "../../secret"}}, "'clean 0' has no cell's key"),
        ({"cells": {"clean 0": 3}}, "'clean 0' has no cell's key"),
        ({"limit": "no"}, "is not what `harness run` writes"),
        ({"model": "=cmd()"}, "is not what `harness run` writes"),
        ({"dataset": "\u001b[2J"}, "is not what `harness run` writes"),
        ({"wall_s": float("inf")}, "it says Infinity, which is no finite number"),
        ({"behavior": True}, "`behavior` is no list"),
        ({"metrics": True}, "`metrics` is no list"),
        ({"training": [3]}, "`training` is no dict"),
        ({"metrics": [{"name": "x"}]}, "one of `metrics` has no title"),
    ],
)
def test_json_that_is_not_ours_is_refused(put: Put, edit: dict[str, Any], message: str) -> None:
    path = put(HEAD, ROW).with_suffix(".json")
    assert read_provenance(path)["run"] == "r"
    write_json(path, read_json(path, "") | edit)
    with pytest.raises(Refusal, match=rf"seed0.json is damaged: .*{message}"):
        read_provenance(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is damaged: Expecting"),
        ("[]", "is damaged: it is no JSON object"),
        ("[" * 50_000, "is damaged: "),
        ("{}", "has no checksum: an older version wrote it"),
        ('{"seed": 1, "sha256": "0"}', "does not match its checksum"),
    ],
)
def test_json_that_vouches_for_nothing_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(Refusal, match=rf"some.json .*{message}.* Draw it again."):
        read_json(path, "Draw it again.")


def test_json_comes_back_and_its_layout_does_not_matter(tmp_path: Path) -> None:
    path, content = tmp_path / "some.json", {"b": [1, 2.5, None], "a": {"x": "Übung"}}
    write_json(path, content | {"t": (1, 2)})
    assert read_json(path, "") == content | {"t": [1, 2]}
    path.write_text(json.dumps(json.loads(path.read_text()), indent=None))
    assert read_json(path, "") == content | {"t": [1, 2]}


def test_a_key_that_is_a_path_reads_and_moves_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    store = CellStore(tmp_path / "cells")
    for key in ("../secret", "..//../secret", str(secret)):
        with pytest.raises(ValueError, match="is no cell's key. Run it again"):
            store.read(key)
    assert secret.read_text() == "x" and list(tmp_path.iterdir()) == [secret]


def test_looking_at_a_cell_changes_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = CellStore(tmp_path), "ab" * 32
    store.path(key).parent.mkdir(parents=True)
    store.path(key).write_text("no cell")
    assert store.look(key) is None and store.path(key).read_text() == "no cell"
    write_arrays(store.path(key), {}, {"weights": "another"})
    assert store.look(key) is None and "is another cell than its name says" in caplog.text
    assert store.look("cd" * 32) is None


def test_names_are_shown_as_they_are(put: Put, tmp_path: Path) -> None:
    name = "<b>[red]x[/foo]"
    put(HEAD, ROW.replace("m,", f"{name},"), place=f"d/s/{safe(name)}/seed0.csv", model=name)
    result = CliRunner().invoke(app, ["table", "--results", str(tmp_path)])
    assert result.exit_code == 0 and name in result.stdout


def test_what_is_no_name_is_read_provenance() -> None:
    assert problem_of_name("timm/hf-hub:owner/name.v1(depth=3, act='relu')") is None
    assert problem_of_name("Übung 1") is None
    assert "formula" in str(problem_of_name("+1"))


def test_a_damaged_leaderboard_is_refused(tmp_path: Path, answered: Answer) -> None:
    answered(tmp_path, "m", kinds=("fog",))
    write_board(tmp_path, Progress(Console(stderr=True)))
    path = tmp_path / "leaderboard.csv"
    lines = path.read_text().splitlines()
    for bad, message in (
        ([*lines[:1], lines[1].replace("clean", "-1+1"), *lines[2:]], "line 2: it is not what was"),
        ([*lines[:1], lines[1].replace(",200,", ",201,"), *lines[2:]], "line 2: it is not what wa"),
        ([*lines, lines[-1]], "it is not what was written, or its neighbors are not"),
        (lines[:-1], "it is not what was written, or its neighbors are not"),
        ([*lines[:1], *lines[2:]], "line 2: it is not what was written"),
        ([line.rpartition(",")[0] for line in lines], "an older version wrote it"),
    ):
        path.write_text("\n".join(bad) + "\n")
        with pytest.raises(Refusal, match=f"{message}.*Make it again with `harness table --wr"):
            read_board(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="There is no file .*none.csv. Check the path"):
        read_rows(tmp_path / "none.csv")
