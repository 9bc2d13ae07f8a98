"""Names, keys, cells and paths that command a terminal or turn the writing: printed inert."""

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from typer.testing import CliRunner

from harness.cli import app
from harness.console import Console
from harness.encoding import Inert, encodable, inert, inert_streams, inert_values
from harness.present.machine import dumps
from harness.progress import Progress
from harness.report import html

CLEAR, TITLE, C1 = "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x9b31m"
TURNED, HIDDEN, RETURN = (
    "\u202egnp.exe\u2066\u2069",
    "\u200b\u200d\ufeff\u00ad\U000e0041",
    "\rOK\x08",
)
HOSTILE = f"a{CLEAR}{TITLE}{C1}{TURNED}{HIDDEN}{RETURN}\x00\x7f\x85\u2028\u2029z"
IN_FILES = HOSTILE.replace("\x00", "")  # no file name has it
SPECIAL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def commands_in(text: str) -> list[str]:
    """Characters that are no plain text."""
    return [ascii(c) for c in text if unicodedata.category(c) in SPECIAL and c not in "\n\t"]


def test_hostile_text_is_shown_by_its_codes() -> None:
    shown = inert(HOSTILE)
    assert commands_in(HOSTILE) and not commands_in(shown)
    assert shown.startswith(r"a\x1b[2J\x1b[H\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\u2069\u200b")
    assert inert("a\nb\tc\u00a0d") == "a\nb\tc\u00a0d" and inert("a\nb", keep="") == r"a\nb"
    assert encodable("\u00a0", "ascii") == " "
    plain = "Zürich, 東京, naïve – 5 × 3 ≤ 20, 🙂, \u05d0\u05d1 \u0627\u0644"
    assert inert(plain) == plain


def test_every_character_is_text_or_a_code() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in SPECIAL and char not in "\n\t":
            assert inert(char).isascii() and inert(char).isprintable(), hex(code)
        else:
            assert inert(char) == char, hex(code)


def test_whoever_prints_prints_inert_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with inert_streams():
        assert isinstance(sys.stdout, Inert)
        print(HOSTILE)
        sys.stderr.writelines([HOSTILE, "\n"])
        handler = logging.StreamHandler()
        handler.emit(logging.makeLogRecord({"msg": "%s", "args": (HOSTILE,)}))
        Console(stderr=True).print(HOSTILE, markup=False, highlight=False, soft_wrap=True)
        with contextlib.suppress(ValueError):
            try:
                raise ValueError(HOSTILE)
            finally:
                sys.excepthook(*sys.exc_info())
        with inert_streams():
            print(HOSTILE, file=sys.stderr)
        assert isinstance(sys.stdout, Inert), "what is inert stays"
    assert sys.stdout is out and sys.stderr is err
    for stream, count in ((out, 1), (err, 5)):
        assert not commands_in(stream.getvalue())
        assert stream.getvalue().count(r"\x1b[2J") >= count


def test_progress_on_a_terminal_moves_the_cursor_and_names_do_not() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=200)
    with Progress(console).task(f"name {HOSTILE}", 2) as task:
        task.to(1, HOSTILE)
    Progress(console).say(HOSTILE)
    written = file.getvalue()
    assert "\x1b[?25l" in written, "rich hides the cursor itself"
    rest = re.sub(r"\x1b\[(\?25[lh]|\d*[AK]|2K|\d+(;\d+)*m|0m)|\r", "", written)
    assert not commands_in(rest) and r"\x1b[2J" in rest


def test_json_stays_json_and_gives_the_name_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        text = dumps([{HOSTILE: HOSTILE, "ü": "ü"}])
        assert not commands_in(text) and json.loads(text) == [{HOSTILE: HOSTILE, "ü": "ü"}]


def test_the_report_shows_codes_in_its_text_and_in_its_numbers() -> None:
    text = html._environment().from_string("{{ a }} {{ b.c }}").render(a=HOSTILE, b={"c": HOSTILE})
    assert not commands_in(text) and r"\x1b[2J" in text and r"\u202e" in text
    facts = inert_values({HOSTILE: [HOSTILE, 1.5, None, ("ü", True)]})
    assert facts == {inert(HOSTILE): [inert(HOSTILE), 1.5, None, ["ü", True]]}
    source = Path(html.__file__).read_text(encoding="utf-8")
    assert "numbers = inert_values(numbers)" in source


def test_rich_is_used_through_our_console_alone() -> None:
    package = Path(__file__).resolve().parent.parent / "harness"
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "typer.echo" not in text and "click.echo" not in text, path
        if path.name not in ("console.py", "terminal.py"):
            assert not re.search(r"from rich.console import .*\bConsole\b", text), path


@pytest.fixture(scope="module")
def world(told_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hostile files of every kind, beside results of two models."""
    here = tmp_path_factory.mktemp("world")
    told_folder(here / "results", ["a", "b"])
    name = IN_FILES.replace("/", "")
    for text, kind in (
        (f"dataset,suite,model,{HOSTILE}\nd,s,{HOSTILE},1\n", "csv"),
        (f'{{"{name}": '.replace("\x1b", r"\u001b"), "json"),
        (f'"{name}" = 1'.replace("\x1b", r"\u001b"), "toml"),
        (f"raise ValueError({HOSTILE!r})", "py"),
    ):
        (here / f"{name}.{kind}").write_text(text, encoding="utf-8")
    (here / "user.py").write_text(f"def model(num_classes): raise ValueError({HOSTILE!r})\n")
    array = {HOSTILE.replace("\x00", ""): np.zeros(3, np.float32)}
    safetensors.numpy.save_file(array, here / "hostile.safetensors")
    for k in (name, "dog"):
        (here / "pictures" / k).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (40, 40), "red").save(here / "pictures" / k / f"{i}.png")
    (here / "pictures" / name / f"{name}.png").write_bytes(b"")
    return here


def commands(here: Path) -> list[list[str]]:
    """Every command, with hostile names, paths and content wherever it takes some."""
    name = IN_FILES.replace("/", "")
    run = ["run", "--suite", "clean"]
    files = [f"{name}.{kind}" for kind in ("csv", "json", "toml", "py")]
    return [
        [name],
        [f"--{name}"],
        *([*run, "--model", m] for m in (name, f"timm/{name}", f"{name}.py:f", "user.py:model")),
        [*run, "--model", f'resnet18(width="{name}")'],
        [*run, "--model", "resnet18", "--dataset", name],
        [*run, "--model", "resnet18", "--dataset", "imagefolder:pictures"],
        [*run, "--model", "resnet18", "--dataset", f"imagefolder:{name}"],
        [*run, "--model", "resnet18", "--dataset", f"{name}=pictures"],
        [*run, "--model", "resnet18", "--weights", "hostile.safetensors"],
        *([*run, "--model", "resnet18", "--weights", file] for file in files),
        ["run", "--suite", "robustness", "--model", "resnet18", "--corruption", name],
        [*run, "--model", "resnet18", "--seed", name],
        [*run, "--model", "resnet18", "--results", f"{name}.csv"],
        ["run", "--suite", name, "--model", "resnet18"],
        ["train", "--model", name],
        ["data", name],
        ["data", "cifar10", "--data", f"{name}.csv"],
        *([command, *more, "--results", name] for command, *more in READING),
        *(["table", "--json", "--results", place] for place in ("results", name)),
        *(["compare", file, "--models", "a,b"] for file in files),
        ["compare", "--models", f"a,{name}", "--results", "results"],
        ["check", "--baseline", f"{name}.csv", "--results", "results"],
        *(["study", file, "--results", "results"] for file in files),
        ["plot", "--results", "results", "--metric", name],
        ["cite", name],
        ["list", "models", "--family", name],
        ["report", "--results", f"{name}.csv"],
        ["publish", f"{name}.csv", "--results", "results"],
        ["attention", name],
    ]


READING = (["table"], ["plot"], ["compare", "--models", "a,b"], ["report"], ["study", "--show"])


def test_no_command_prints_what_commands_a_terminal(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("HARNESS_DATA", str(world / "no data"))
    said = 0
    for command in commands(world):
        done = CliRunner().invoke(app, ["--quiet", *command])
        for text in (done.stdout, done.stderr):
            assert not commands_in(text), (command, text)
        assert done.exit_code in (0, 1, 2), (command, done.exception)
        if "--json" in command and done.exit_code == 0:
            json.loads(done.stdout)
        said += r"\x1b" in done.output
    assert said > 20, "most of them name what is hostile"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_program_itself_prints_nothing_else(world: Path, encoding: str) -> None:
    code = "import sys; from harness.__main__ import main; main()"
    name = IN_FILES.replace("/", "")
    for command in (["cite", name], [f"--{name}"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            cwd=world,
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2
        assert not commands_in(done.stderr.decode(encoding, "surrogateescape")), done.stderr
        assert rb"\x1b[2J" in done.stderr


def test_a_bug_prints_its_traceback_inert(world: Path) -> None:
    code = f"""
import sys
import harness.cli
module = sys.modules["harness.cli.app"]
def broken(*a, **k): raise RuntimeError({HOSTILE!r})
module.app = broken
module.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=world)
    assert done.returncode == 70 and b"RuntimeError: a\\x1b[2J" in done.stderr
    assert not commands_in(done.stderr.decode())
