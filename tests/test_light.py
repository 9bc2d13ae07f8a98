"""Commands that only read start no PyTorch: what each of them imports, as a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "torchdiffeq", "matplotlib", "sklearn", "PIL")
PROGRAM = """
import json, sys
sys.argv = ["harness", *json.loads(sys.argv[1])]
from harness.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imports_of(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a folder, and the packages that it imported."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, names = json.loads(done.stdout.splitlines()[-1])
    return code, set(names)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, told_folder: Callable[..., Path]) -> Path:
    """A folder with results, a baseline and answers."""
    folder = tmp_path_factory.mktemp("stored")
    for name in ("results", "before"):
        told_folder(folder / name, ["pde_aug", "resnet18"], dataset="digits")
    answers = Path(__file__).parent.parent / "results/published/digits/study.json"
    (folder / "results/digits/study.json").write_bytes(answers.read_bytes())
    return folder


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["list", "models"], 0),
        (["list", "models", "--long"], 0),
        (["list", "suites"], 0),
        (["list", "datasets"], 0),
        (["list", "corruptions"], 0),
        (["list", "metrics", "--json"], 0),
        (["cite", "pde_aug"], 0),
        (["cite", "harness"], 0),
        (["table"], 0),
        (["table", "--json"], 0),
        (["table", "--latex"], 0),
        (["table", "--write"], 0),
        (["compare", "--models", "pde_aug,resnet18"], 0),
        (["compare", "before", "results", "--json"], 0),
        (["check", "--baseline", "before"], 0),
        (["check", "--baseline", "before/leaderboard.csv", "--json"], 0),
        (["clean", "--dry-run"], 0),
        (["du", "--json"], 0),
        (["merge", "results", "before", "--to", "both"], 0),
        (["merge", "results", "--to", "merged"], 0),
        (["pack", "results", "--to", "results.tar.xz"], 0),
        (["submit", "--slurm", "nothing"], 2),
        (["study", "--show"], 0),
        (["study", "--show", "--json"], 0),
    ],
    ids=str,
)
def test_reading_imports_nothing_heavy(stored: Path, arguments: list[str], code: int) -> None:
    found, names = imports_of(stored, *arguments)
    assert found == code and not names.intersection(HEAVY)
    assert "harness" in names, "what is imported is seen"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["study", "--help"]])
def test_help_imports_no_numbers_at_all(tmp_path: Path, arguments: list[str]) -> None:
    code, names = imports_of(tmp_path, *arguments)
    assert code == 0 and not names.intersection((*HEAVY, "numpy", "pandas", "scipy"))


def test_a_command_that_computes_is_seen_to_import_pytorch(tmp_path: Path) -> None:
    code, names = imports_of(tmp_path, "run", "--suite", "clean", "--model", "no_such_model")
    assert code == 2 and "torch" in names


def test_the_package_imports_nothing_before_a_call() -> None:
    code = "import sys, harness; harness.evaluate, harness.__version__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "rich", "typer"}.intersection(done.stdout.split())
