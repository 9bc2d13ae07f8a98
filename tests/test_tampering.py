"""Changes of stored files, random and directed: refused, said, or of no consequence for a number.

A small results folder is made by the commands themselves; then one file of it at a time is changed,
and the commands that read it are run. What they print must be what they print of the sound folder,
to the byte, unless they refuse or say a sentence about it.
"""

import functools
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.analysis import boards
from harness.cli import app
from harness.report import html
from harness.study.schema import (
    FILE,
    StoredAnswer,
    StoredEffect,
    Study,
    hash_runs,
    write_study,
)

MODELS = """
from torch import nn

def first(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def second(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
"""
RUNS = ("clean/first/seed0.csv", "clean/first/seed1.csv", "robustness/second/seed0.csv")
EFFECT = StoredEffect(
    "first", "second", "clean", "accuracy", "clean", "", 0.4, 0.3, 0.5, 0.01, 2, 355, True
)
READING = ("table", "compare", "check", "report")
BOARD = ("table", "compare board", "check board", "report")


@dataclass(frozen=True)
class Kind:
    """A kind of stored file.

    Args:
        files: Where they lie in the results.
        readers: Commands that read them, by their names in `COMMANDS`.
        share: Of all changes, in percent.
        cells: Whether the cells are there, without which a table stands alone.
    """

    files: str
    readers: tuple[str, ...]
    share: int
    cells: bool = True


KINDS = {
    "table": Kind("digits/*/*/seed*.csv", READING, 14),
    "table without cells": Kind("digits/*/*/seed*.csv", READING, 14, cells=False),
    "run": Kind("digits/*/*/seed*.json", READING, 12),
    "run without cells": Kind("digits/*/*/seed*.json", READING, 8, cells=False),
    "cell": Kind("cells/*/*", READING, 16),
    "leaderboard": Kind("leaderboard.csv", BOARD, 6),
    "leaderboard without cells": Kind("leaderboard.csv", BOARD, 10, cells=False),
    "study": Kind("digits/study.json", ("study", "report"), 8),
    "training": Kind("checkpoints/*/*/*.json", ("report",), 5),
    "weights": Kind("checkpoints/*/*/*.safetensors", ("report",), 3),
    "figure": Kind("figures/*.png", ("report",), 4),
}
COMMANDS = {
    "table": "table --json --results results",
    "compare": "compare --models first,second --json --results results",
    "compare board": "compare results/leaderboard.csv --models first,second --json",
    "check": "check --baseline before --json --results results",
    "check board": "check --baseline results/leaderboard.csv --json --results before",
    "report": "report --results results",
    "study": "study --show --dataset digits --json --results results",
}
NOTE = re.compile('<p class="note">.*?</p>')  # a sentence on the page about its files


@dataclass(frozen=True)
class Said:
    """What a command printed: numbers on stdout or in a file, and sentences."""

    code: int
    numbers: str
    sentences: str


def ask(name: str) -> Said:
    """Run a command in the current folder."""
    boards._read_once.cache_clear()  # as in a process of its own
    page = Path("results/report/index.html")
    page.unlink(missing_ok=True)
    result = CliRunner().invoke(app, ["--quiet", *COMMANDS[name].split()])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if not page.is_file():
        return Said(result.exit_code, result.stdout, result.stderr)
    text = page.read_text()
    return Said(result.exit_code, text, result.stderr + "".join(NOTE.findall(text)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with results of two models and seeds, and `before`, the same once more."""
    folder = tmp_path_factory.mktemp("tampering")
    (folder / "mine.py").write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HARNESS_DATA", str(folder / "no data"))
        patch.setattr("sys.dont_write_bytecode", True)
        patch.setattr(html, "_environment", functools.cache(html._environment))  # takes its time
        run = "run --suite clean --suite robustness --corruption brightness --epochs 1"
        models = "--model mine.py:first --model mine.py:second --seed 0 --seed 1"
        for command in (f"{run} {models}", "table --write"):
            done = CliRunner().invoke(app, command.split(), catch_exceptions=False)
            assert done.exit_code == 0, done.output
        answer = StoredAnswer("1", "Is it?", "It is.", "yes", (EFFECT,), RUNS)
        hashes = hash_runs(Path("results/digits"), [answer])
        study = Study("digits, 2 seeds", "digits", "harness study", "c0", (answer,), hashes)
        write_study(Path("results/digits") / FILE, study)
        shutil.copytree("results", "before")
        yield folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the current one; it is left as it was found."""
    monkeypatch.chdir(folder)
    return folder


# Changes


def flip_bit(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def change_byte(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]


def change_digit(content: bytes, chance: random.Random) -> bytes:
    places = [match.start() for match in re.finditer(rb"\d", content)]
    at = chance.choice(places)
    return content[:at] + str(chance.randrange(10)).encode() + content[at + 1 :]


def change_number(content: bytes, chance: random.Random) -> bytes:
    """A plausible number in place of another: 0.62 becomes 0.9."""
    places = [match.span() for match in re.finditer(rb"\d+(\.\d+)?", content)]
    low, high = chance.choice(places)
    other = chance.choice([b"0", b"1", b"0.9", b"0.500000", content[low:high][::-1]])
    return content[:low] + other + content[high:]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def remove_block(content: bytes, chance: random.Random) -> bytes:
    low, high = sorted(chance.sample(range(len(content) + 1), 2))
    return content[:low] + content[high:]


def repeat_block(content: bytes, chance: random.Random) -> bytes:
    low, high = sorted(chance.sample(range(len(content) + 1), 2))
    return content[:high] + content[low:]


def blank_block(content: bytes, chance: random.Random) -> bytes:
    low, high = sorted(chance.sample(range(len(content) + 1), 2))
    return content[:low] + bytes(high - low) + content[high:]


def _with_lines(change: Callable[[list[bytes], int, int], None]) -> Callable:
    @functools.wraps(change)
    def changed(content: bytes, chance: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        if len(lines) < 3:
            return flip_bit(content, chance)
        change(lines, *chance.sample(range(1, len(lines)), 2))
        return b"".join(lines)

    return changed


@_with_lines
def remove_line(lines: list[bytes], at: int, other: int) -> None:
    del lines[at]


@_with_lines
def repeat_line(lines: list[bytes], at: int, other: int) -> None:
    lines.insert(other, lines[at])


@_with_lines
def swap_lines(lines: list[bytes], at: int, other: int) -> None:
    lines[at], lines[other] = lines[other], lines[at]


CHANGES = (
    flip_bit, change_byte, change_digit, change_number, truncate, remove_block, repeat_block,
    blank_block, remove_line, repeat_line, swap_lines,
)  # fmt: skip


def tamper(paths: list[Path], chance: random.Random) -> tuple[str, dict[Path, bytes]]:
    """A change, and what files then hold; it is never what they hold now."""
    while True:
        path, other = chance.choice(paths), chance.choice(paths)
        content, kind = path.read_bytes(), chance.randrange(len(CHANGES) + 2)
        if kind == len(CHANGES):
            name, made = "swap", {path: other.read_bytes(), other: content}
        elif kind == len(CHANGES) + 1:
            name, made = "copy", {path: other.read_bytes()}
        else:
            name, made = CHANGES[kind].__name__, {path: CHANGES[kind](content, chance)}
        if any(path.read_bytes() != content for path, content in made.items()):
            return f"{name} {path}", made


def judge(truth: Said, said: Said) -> str:
    """Whether a change was found, is harmless, or shows wrong numbers without a word."""
    if said.sentences != truth.sentences:
        return "detected"
    return "harmless" if said == truth else "SILENT"


@pytest.mark.parametrize("name", KINDS)
def test_no_change_of_a_file_shows_wrong_numbers_without_a_word(
    here: Path, name: str, pytestconfig: pytest.Config
) -> None:
    kind, found = KINDS[name], Counter[str]()
    if not kind.cells:
        for root in ("results", "before"):
            Path(root, "cells").rename(f"{root} cells")
    try:
        truth = {reader: ask(reader) for reader in kind.readers}
        paths = sorted(Path("results").glob(kind.files))
        silent = []
        for i in range(pytestconfig.getoption("--changes") * kind.share // 100):
            what, made = tamper(paths, random.Random(f"{name} {i}"))
            before = {path: path.read_bytes() for path in made}
            try:
                for path, content in made.items():
                    path.write_bytes(content)
                verdicts = {r: judge(truth[r], ask(r)) for r in kind.readers}
            finally:
                for path, content in before.items():
                    path.write_bytes(content)
            found[max(verdicts.values(), key=["harmless", "detected", "SILENT"].index)] += 1
            silent += [f"{i}: {what}: {r}" for r, v in verdicts.items() if v == "SILENT"]
        print(f"\n{name}: {dict(found)}")
        assert not silent, "\n".join(silent)
    finally:
        if not kind.cells:
            for root in ("results", "before"):
                Path(f"{root} cells").rename(Path(root, "cells"))
