"""Terminals of 40 and 80 columns, streams of few characters: nothing breaks off, nothing is cut."""

import codecs
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.encoding import HANDLER, encodable
from harness.present.board import sheet_of
from harness.present.machine import to_json

NAMES = ["resnet18", "depthwise_conv_layer", "a_net_of_somebody_with_a_long_name"]
CODE = "from harness.cli import main; main()"


@pytest.fixture(scope="module")
def folder(told_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and a baseline, one of the models no function of single images."""
    here = tmp_path_factory.mktemp("terminals")
    for name in ("results", "before"):
        made = {"behavior": ["depends on its batch of 7 images"]}
        told_folder(here / name, NAMES[:1], board=False, made=made)
        told_folder(here / name, NAMES[1:], board=False)
    return here


def in_terminal(folder: Path, width: int, *arguments: str) -> str:
    """What a command prints on a terminal of a width."""
    pty = pytest.importorskip("pty", reason="this system has no pseudoterminals")
    import fcntl
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        environment["TERM"] = "dumb" if width == 40 else "xterm"
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-c", CODE, *arguments], environment)
    content = b""
    try:
        while part := os.read(terminal, 1 << 16):
            content += part
    except OSError:  # the end, on Linux
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, content
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", content.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "arguments",
    [
        ("table",),
        ("compare", "--models", f"{NAMES[1]},{NAMES[2]}"),
        ("check", "--baseline", "before"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_names_values_and_notes_are_whole(
    folder: Path, width: int, arguments: tuple[str, ...]
) -> None:
    said = in_terminal(folder, width, *arguments)
    assert "\u2026" not in said, said
    rows = [line for line in said.splitlines() if re.search(r"\d\.\d", line)]
    assert rows
    close = re.sub(r"\s", "", said)
    for name in NAMES[1:] if arguments[0] == "compare" else NAMES:
        assert name in close or re.search(r".*?".join(re.split("(?<=_)", name)), said, re.DOTALL)
    if arguments[0] == "table":
        assert "dependsonitsbatchof7images." in close
        assert any("75.1" in line for line in rows), "the mean of the first model"
        assert max(map(len, said.splitlines())) <= width


@pytest.mark.parametrize("command", [(), ("run",), ("compare",), ("show", "attention")])
def test_help_on_a_narrow_terminal_keeps_the_names_of_options(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = in_terminal(tmp_path, 40, *command, "--help")
    assert "\u2026" not in said and "\\[" not in said
    wide = in_terminal(tmp_path, 100, *command, "--help")
    assert set(re.findall(r"--[a-z-]+", wide)) <= set(re.findall(r"--[a-z-]+", said))


def piped(folder: Path, encoding: str, *arguments: str, **extra: str) -> tuple[str, str]:
    """What a command prints where both streams have an encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding} | extra
    environment.pop("PYTHONUTF8", None)
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_no_table_breaks_off_in_a_narrow_encoding(folder: Path, encoding: str) -> None:
    out, err = piped(folder, encoding, "table")
    mark = encodable("\u2020", encoding)
    assert f"{NAMES[0]} {mark}" in out and f"{mark} {NAMES[0]}: depends on its batch" in out
    assert err == "" and out.count("\n") > 20
    assert "Evaluate image classifiers" in piped(folder, encoding, "--help")[0]


def test_names_and_paths_that_a_stream_cannot_encode_have_their_codes(
    told_folder: Callable[..., Path], tmp_path: Path
) -> None:
    results = told_folder(tmp_path / "r\u00e9sultats", ["\u6a21\u578b", "m\u00fcller"])
    out, err = piped(tmp_path, "ascii", "table", "--results", str(results))
    assert "\\u6a21\\u578b" in out and "m\\xfcller" in out and "Traceback" not in err
    out, _ = piped(tmp_path, "ascii", "table", "--results", str(results), "--json")
    assert {"\u6a21\u578b", "m\u00fcller"} <= {row.get("model") for row in json.loads(out)}
    command = [sys.executable, "-c", CODE, "table", "--results", str(tmp_path / "\u6a21")]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 2 and b"There are no results in" in done.stderr
    assert b"\\u6a21" in done.stderr


def test_colors_are_for_terminals_that_have_them(folder: Path) -> None:
    for extra in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
        out, _ = piped(folder, "utf-8", "table", **extra)
        assert "\x1b" not in out


@pytest.mark.parametrize(
    "text, plain",
    [
        ("1\u20132", "1-2"),
        ("coin \u2020", "coin +"),
        ("\u221e", "inf"),
        ("8\u00d78", "8x8"),
        ("\u2212\u221e", "-inf"),
        ("\u201cso\u201d", '"so"'),
        ("\u2603", "\\u2603"),
        ("\U0001f600", "\\U0001f600"),
        ("caf\u00e9", "caf\\xe9"),
    ],
)
def test_signs_have_plain_substitutes(text: str, plain: str) -> None:
    assert text.encode("ascii", HANDLER).decode() == encodable(text, "ascii") == plain
    assert encodable(text, "utf-8") == text


def test_what_cannot_be_decoded_is_still_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        codecs.decode(b"\xff", "utf-8", HANDLER)


def test_json_is_the_same_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    import pandas as pd

    sheet = sheet_of(pd.DataFrame({"model": ["\u6a21 \U0001f600"]}))
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        text = to_json(sheet)
        assert json.loads(text.encode(encoding)) == [{"model": "\u6a21 \U0001f600"}]
