"""Changes of stored files, random and directed: refused, said, or of no consequence for a number.

A small results folder is made by the commands themselves; then one file of it at a time is changed,
and the commands that read it are run. What they print must be what they print of the sound folder,
to the byte, unless they refuse or say a sentence about it.
"""

import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.analysis import boards
from harness.cli import app
from harness.report import html
from harness.storage import results
from harness.storage.published import publish
from harness.study.schema import write_study
from harness.study.stored import FILE, StoredAnswer, StoredEffect, Study, hash_runs
from harness.suites.base import Measurement

MODELS = """
from torch import nn

def first(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def second(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
"""
RUN = (
    "--suite clean --suite robustness --corruption brightness --epochs 1 --seed 0 --seed 1 "
    "--model mine.py:first --model mine.py:second"
)
RUNS = tuple(
    f"digits/{run}.csv"
    for run in ("clean/first/seed0", "clean/first/seed1", "robustness/second/seed0")
)
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
    "hits": Kind("digits/*/*/seed*.bits", READING, 2),
    "hits without cells": Kind("digits/*/*/seed*.bits", READING, 12, cells=False),
    "leaderboard": Kind("leaderboard.csv", BOARD, 6),
    "leaderboard without cells": Kind("leaderboard.csv", BOARD, 10, cells=False),
    "study": Kind("digits/study.json", ("study", "report"), 8),
    "training": Kind("checkpoints/*/*/*.json", ("report",), 5),
    "weights": Kind("checkpoints/*/*/*.safetensors", ("report", "train"), 3),
    "figure": Kind("figures/*.png", ("report",), 4),
    "published": Kind("../published/**/*.*", ("published", "compare published"), 2),
}
COMMANDS = {
    "table": "table --json --results results",
    "compare": "compare --models first,second --json --results results",
    "compare board": "compare results/leaderboard.csv --models first,second --json",
    "check": "check --baseline before --json --results results",
    "check board": "check --baseline results/leaderboard.csv --json --results before",
    "report": "report --results results",
    "published": "table --json --results published",
    "compare published": "compare published results --json --models first,first",
    "train": "train --model mine.py:first --model mine.py:second --seed 0 --seed 1 --epochs 1",
    "study": "study --show --dataset digits --json --results results",
}
FACTS = re.compile('(?<=id="facts">)(.*?)(?=</script>)')  # the numbers of the page, packed
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
        return Said(result.exit_code, sort_names(result.stdout), result.stderr)
    text = FACTS.sub(lambda found: sort_names(json.dumps(html.unpack(found[1]))), page.read_text())
    return Said(result.exit_code, text, result.stderr + "".join(NOTE.findall(text)))


def sort_names(text: str) -> str:
    """JSON whose objects have their names in order, which says nothing; other text as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


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
        for command in (f"run {RUN}", "table --write"):
            done = CliRunner().invoke(app, command.split(), catch_exceptions=False)
            assert done.exit_code == 0, done.output
        answer = StoredAnswer("1", "Is it?", "It is.", "yes", (EFFECT,), RUNS)
        hashes = hash_runs(Path("results"), [answer])
        study = Study("digits, 2 seeds", "digits", "harness study", "c0", (answer,), hashes)
        write_study(Path("results/digits") / FILE, study)
        shutil.copytree("results", "before")
        publish(Path("results"), Path("published"))
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
        content, kind = path.read_bytes(), chance.randrange(len(CHANGES) + 3)
        if kind == len(CHANGES):
            name, made = "swap", {path: other.read_bytes(), other: content}
        elif kind == len(CHANGES) + 1:
            name, made = "copy", {path: other.read_bytes()}
        elif kind == len(CHANGES) + 2:
            low, high = sorted(chance.sample(range(len(content) + 1), 2))
            block = other.read_bytes()[low:high]
            name, made = "graft", {path: content[:low] + block + content[high:]}
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
            chance = random.Random(f"{name} {i}")
            what, made = tamper(paths, chance)
            before = {path: path.read_bytes() for path in made}
            try:
                for path, content in made.items():
                    path.write_bytes(content)
                readers = chance.sample(kind.readers, min(2, len(kind.readers)))
                verdicts = {r: judge(truth[r], ask(r)) for r in readers}
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


@pytest.mark.parametrize("name", ["table", "run", "cell", "hits", "training", "weights"])
def test_running_again_mends_what_was_changed_or_refuses(
    mine: Path, name: str, pytestconfig: pytest.Config
) -> None:
    truth, paths = ask("table").numbers, sorted(mine.glob(KINDS[name].files))
    for i in range(pytestconfig.getoption("--changes") // 150):
        what, made = tamper(paths, random.Random(f"again {name} {i}"))
        before = {path: path.read_bytes() for path in made}
        for path, content in made.items():
            path.write_bytes(content)
        said = run("run", *RUN.split())
        if said.code:
            assert said.code == 2 and len(said.sentences) > 40, (what, said)
            for path, content in before.items():
                path.write_bytes(content)
        assert ask("table").numbers == truth, what


# Directed changes


@pytest.fixture
def mine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder as the current one, and its results."""
    shutil.copytree(folder, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    return Path("results")


def run(*arguments: str) -> Said:
    """Run a command and return what it says in one text."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def assert_refused(*sentences: str, readers: tuple[str, ...] = READING) -> None:
    """Let commands read the results: each refuses with one of the sentences."""
    for reader in readers:
        said = ask(reader)
        assert said.code == 2, (reader, said)
        assert any(re.search(sentence, said.sentences) for sentence in sentences), (reader, said)


def move(pairs: dict[Path, Path]) -> None:
    """Put each file's content at another's place, all at once."""
    contents = {target: source.read_bytes() for source, target in pairs.items()}
    for target, content in contents.items():
        target.write_bytes(content)


def test_a_cell_under_another_s_name_is_left_out_and_measured_again(mine: Path) -> None:
    truth = ask("table")
    cells = sorted((mine / "cells").glob("*/*"))
    move({cells[0]: cells[1]})
    for reader in READING:
        assert re.search(
            "is another cell than its name says|not that of its cells", ask(reader).sentences
        )
    run("run", *RUN.split())
    assert ask("table") == truth


@pytest.mark.parametrize("cells", [True, False])
def test_a_json_of_another_run_does_not_vouch(mine: Path, cells: bool) -> None:
    if not cells:
        shutil.rmtree(mine / "cells")
    first = mine / "digits/clean/first"
    move({first / "seed1.json": first / "seed0.json"})
    assert_refused("seed0.json is of another run than the CSV beside it")


def test_two_runs_that_changed_places_are_refused(mine: Path) -> None:
    a, b = mine / "digits/clean/first/seed0", mine / "digits/clean/second/seed0"
    pairs = {a.with_suffix(s): b.with_suffix(s) for s in (".csv", ".json")}
    move(pairs | {target: source for source, target in pairs.items()})
    assert_refused("holds second on digits, clean, seed 0: it was moved or edited")


def test_a_run_under_another_seed_is_refused(mine: Path) -> None:
    old = mine / "digits/clean/first/seed1"
    for suffix in (".csv", ".json"):
        old.with_suffix(suffix).rename(old.with_name(f"seed7{suffix}"))
    assert_refused("holds first on digits, clean, seed 1: it was moved or edited")


def test_a_digit_in_a_table_without_cells_is_found(mine: Path) -> None:
    shutil.rmtree(mine / "cells")
    path = mine / "digits/robustness/first/seed0.csv"
    lines = path.read_text().splitlines(keepends=True)
    for i in (1, len(lines) // 2, len(lines) - 1):
        value = lines[i].split(",")[8]
        other = f"{float(value) + 0.000001:.6f}"
        path.write_text("".join([*lines[:i], lines[i].replace(value, other, 1), *lines[i + 1 :]]))
        assert_refused("is not the table that its JSON vouches for")


def test_hits_of_another_run_are_refused_and_mended(mine: Path) -> None:
    truth = ask("table")
    first, second = (mine / f"digits/robustness/first/seed{seed}.bits" for seed in (0, 1))
    for cells in (True, False):
        move({first: second, second: first})
        if not cells:
            (mine / "cells").rename(mine / "cells apart")
            readers = ("table", "compare", "check", "report")
            assert_refused("seed[01].bits is not what its JSON vouches for", readers=readers)
            (mine / "cells apart").rename(mine / "cells")
        run("run", *RUN.split())
        assert ask("table") == truth
        assert first.read_bytes() != second.read_bytes()


def test_hits_that_are_gone_are_said(mine: Path) -> None:
    shutil.rmtree(mine / "cells")
    (mine / "digits/robustness/first/seed0.bits").unlink()
    for reader in READING:
        assert "seed0.bits is not there, though its JSON" in " ".join(ask(reader).sentences.split())


def test_a_run_stopped_between_its_two_files_shows_nothing_and_is_mended(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = ask("table")

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = mine / "digits/clean/first/seed0.csv"
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))  # what is there is older
    with monkeypatch.context() as patch:
        patch.setattr(results, "write_json", stop)
        assert run("run", *RUN.split()).code == 130
    path.with_suffix(".json").unlink()
    assert_refused("There is no file .*seed0.json")
    run("run", *RUN.split())
    assert ask("table").numbers == truth.numbers


def test_a_table_that_lost_its_half_is_said(mine: Path) -> None:
    (mine / "digits/clean/first/seed0.csv").unlink()
    assert_refused("seed0.csv")


def measured_again(path: Path, factor: float = 0.5) -> Callable[[], object]:
    """What writes a run as if it had been measured again with another outcome."""
    rows, beside = results.read_run(path)
    key = {name: beside.pop(name) for name in results.KEY} | {"run": f"{factor:.10f}"}
    del beside["csv"], beside["run"]
    names = ("condition", "level", "metric", "variant", "value", "n")
    fields = zip(*(rows[name] for name in names), strict=True)
    again = [Measurement(c, level, m, v, value * factor, n) for c, level, m, v, value, n in fields]
    return lambda: results.write(path, key, again, beside)


def test_a_leaderboard_older_than_its_rows_is_not_shown(mine: Path) -> None:
    shutil.rmtree(mine / "cells")
    truth = {reader: ask(reader) for reader in ("table", "report")}
    for path in results.run_files(mine):
        measured_again(path)()
    now = {reader: ask(reader) for reader in truth}
    (mine / "leaderboard.csv").unlink()
    assert now["table"] == ask("table") != truth["table"]
    assert now["report"].numbers == ask("report").numbers != truth["report"].numbers


def test_answers_older_than_their_runs_are_said_to_be(mine: Path) -> None:
    measured_again(mine / "digits/clean/first/seed0.csv")()
    for reader in ("study", "report"):
        assert "are older than their results: 1 of 3 runs" in ask(reader).sentences


def test_a_figure_of_other_rows_is_left_out(mine: Path) -> None:
    assert "digits-clean.png" in ask("report").numbers
    measured_again(mine / "digits/clean/first/seed0.csv")()
    assert "drawn from other results" in ask("report").sentences


@pytest.mark.parametrize(
    "source, flag", [("digits/first/seed1", "seed"), ("digits/second/seed0", "model")]
)
def test_weights_at_another_s_place_are_refused(mine: Path, source: str, flag: str) -> None:
    place = mine / "checkpoints/digits/first/seed0.safetensors"
    move({mine / "checkpoints" / f"{source}.safetensors": place})
    assert_refused(f"were trained with {flag}", readers=("train",))
    assert_refused("is not the training of seed0.safetensors beside it", readers=("report",))
    move({mine / "checkpoints" / f"{source}.json": place.with_suffix(".json")})
    assert_refused("seed0.json is the training of .*: it was moved", readers=("report",))


def test_two_processes_that_write_one_run_leave_one_that_vouches(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = mine / "digits/clean/first/seed0.csv", results.write_json
    truth, one, other = ask("table"), measured_again(path, 0.5), measured_again(path, 0.75)

    def meanwhile(target: Path, content: dict[str, Any]) -> None:
        monkeypatch.setattr(results, "write_json", write)
        other()
        write(target, content)

    monkeypatch.setattr(results, "write_json", meanwhile)
    one()  # its table, then both files of the other, then its JSON
    assert_refused("seed0.json is of another run than the CSV beside it")
    run("run", *RUN.split())
    assert ask("table").numbers == truth.numbers


def test_a_copy_of_results_inside_results_counts_nothing_twice(mine: Path) -> None:
    truth = {reader: ask(reader) for reader in READING}
    for place in (mine, mine / "digits", mine / "digits" / "clean"):
        shutil.copytree("before", place / "results", ignore=shutil.ignore_patterns("figures"))
    assert {reader: ask(reader) for reader in READING} == truth


@pytest.mark.parametrize("name", ["First", "third", "first copy"])
def test_a_copy_of_a_run_under_another_name_is_refused(mine: Path, name: str) -> None:
    shutil.copytree(mine / "digits/clean/first", mine / "digits/clean" / name)
    assert_refused("holds first on digits, clean, seed [01]: it was moved or edited")


def test_the_times_of_files_change_no_number(mine: Path) -> None:
    truth = {reader: ask(reader) for reader in READING}
    for i, path in enumerate(sorted(mine.rglob("*"))):
        os.utime(path, (i, i) if i % 2 else (4e9, 4e9))
    assert {reader: ask(reader) for reader in READING} == truth


@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "3", "COLUMNS": "40"},
    ],
)
def test_language_time_zone_and_width_change_no_number(
    mine: Path, settings: dict[str, str]
) -> None:
    for reader in ("table", "compare"):
        command = [sys.executable, "-m", "harness", *COMMANDS[reader].split()]
        printed = subprocess.run(
            command, capture_output=True, check=True, env={**os.environ, **settings}
        )
        assert sort_names(printed.stdout.decode()) == ask(reader).numbers


def test_a_folder_that_cannot_be_read_is_said(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listdir, closed = os.listdir, mine / "digits/clean/first"

    def listed(path: Any = ".") -> list[str]:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", listed)  # as for all but root
    assert_refused("first cannot be read: Permission denied")


def test_a_link_to_another_run_is_no_run(mine: Path) -> None:
    (mine / "digits/clean/third").symlink_to("first")
    assert_refused("holds first on digits, clean, seed 0: it was moved or edited")


def test_the_tests_that_the_list_names_are_there() -> None:
    folder = Path(__file__).parent
    text = (folder / "WRONG_NUMBERS.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.py)::(\w+)`", text)
    assert len(named) > 50
    for file, test in named:
        assert f"def {test}(" in (folder / file).read_text(encoding="utf-8"), (file, test)
