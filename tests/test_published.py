"""What the repository ships is read, never written, and never taken for somebody's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.refusal import Refusal
from harness.storage.files import PART, PUBLISHED, write_bytes
from harness.storage.published import publish, verify
from harness.storage.results import read

ROOT = Path(__file__).resolve().parent.parent
Told = Callable[..., Path]


@pytest.fixture
def published(tmp_path: Path, told_folder: Told) -> Path:
    """Published results of two models, made from those in `work`."""
    told_folder(tmp_path / "work", ["a", "b"])
    folder = tmp_path / "results" / "published"
    publish(tmp_path / "work", folder)
    return folder


def harness(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_published_results_are_as_published() -> None:
    verify(ROOT / "results" / "published")


def test_what_is_published_is_a_copy_and_is_listed(tmp_path: Path, published: Path) -> None:
    assert read(published).equals(read(tmp_path / "work"))
    assert publish(tmp_path / "work", published) == [], "nothing has changed"
    assert {"leaderboard.csv", PUBLISHED} <= {path.name for path in published.iterdir()}


@pytest.mark.parametrize(
    "change, fact",
    [
        (lambda folder, path: path.unlink(), "is not there"),
        (lambda folder, path: path.write_bytes(path.read_bytes() + b"\n"), "is not as published"),
        (lambda folder, path: (folder / "more.csv").write_text("x"), "was not published there"),
    ],
)
def test_a_change_is_refused_by_who_reads(
    published: Path, change: Callable[[Path, Path], object], fact: str
) -> None:
    change(published, next(published.glob("*/*/*/seed1.json")))
    with pytest.raises(Refusal, match=rf"{fact}. Get it again from where it was published"):
        read(published)


def test_a_copy_that_broke_off_is_refused_until_it_is_made_again(
    tmp_path: Path, told_folder: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, folder = told_folder(tmp_path / "work", ["a"], seeds=(0,)), tmp_path / "shown"
    publish(work, folder)
    told_folder(work, ["a", "b"])

    def break_off(path: Path, content: bytes) -> None:
        if path.name == "seed1.csv":
            raise OSError(28, "No space left on device")
        write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("harness.storage.published.write_bytes", break_off)
        with pytest.raises(OSError, match="No space left"):
            publish(work, folder)
    (folder / f".seed1.csv.0badcafe{PART}").write_bytes(b"of a process that was killed")
    with pytest.raises(Refusal, match=r"seed1\.csv is not there\. .* or publish it again\."):
        read(folder)
    publish(work, folder)
    assert read(folder).equals(read(work))


def test_prose_may_be_edited(published: Path) -> None:
    (published / "README.md").write_text("# Published\n")
    verify(published)


def test_nothing_is_written_there(published: Path, tmp_path: Path) -> None:
    before = snapshot(published)
    with pytest.raises(Refusal, match="lies in published results, .*, which are only read"):
        write_bytes(published / "d" / "robustness" / "c" / "seed0.csv", b"")
    for command in (
        ("run", "--suite", "clean", "--model", "resnet18"),
        ("train", "--model", "resnet18"),
        ("table", "--write"),
        ("study",),
    ):
        result = harness(*command, "--results", published)
        assert result.exit_code == 2, command
        assert "published results" in result.stderr and "only read" in result.stderr, command
    for command in ("plot", "report"):
        result = harness(command, "--results", published, "--to", tmp_path / "drawn")
        assert result.exit_code == 0, result.stderr
        assert all(tmp_path / "drawn" in Path(line).parents for line in result.stdout.split())
    assert snapshot(published) == before


def test_readers_take_what_is_published_where_there_is_nothing_of_ones_own(
    published: Path, tmp_path: Path, told_folder: Told
) -> None:
    home, before = tmp_path / "results", snapshot(published)
    table = harness("table", "--results", home)
    assert table.exit_code == 0 and f"this is {published}" in " ".join(table.stderr.split())
    assert " a " in table.stdout and " b " in table.stdout
    compare = harness("compare", "--models", "a,b", "--results", home)
    assert compare.exit_code == 0 and f"this is {published}" in " ".join(compare.stderr.split())
    plot = harness("plot", "--results", home)
    assert plot.exit_code == 0, plot.stderr
    assert all((home / "figures") in Path(line).parents for line in plot.stdout.split())
    assert snapshot(published) == before
    told_folder(home, ["mine"], board=False)
    own = harness("table", "--results", home)
    assert own.exit_code == 0 and "this is" not in own.stderr
    assert "mine" in own.stdout and " b " not in own.stdout, "never in one table"


def test_the_command_publishes(tmp_path: Path, told_folder: Told) -> None:
    told_folder(tmp_path / "work", ["a"])
    result = harness("publish", tmp_path / "shown", "--results", tmp_path / "work")
    assert result.exit_code == 0 and "published.json lists all." in result.stdout
    verify(tmp_path / "shown")
    empty = harness("publish", tmp_path / "shown", "--results", tmp_path / "none")
    assert empty.exit_code == 2 and "There are no results in" in empty.stderr
