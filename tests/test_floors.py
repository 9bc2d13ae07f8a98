"""The floors of the house and the rooms of the top floor: imports point down only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up; what stands on one line does not import each other.
ORDER = (
    ("harness.models.ops",),
    ("harness.models",),
    ("harness.suites",),
    ("harness.refusal", "harness.encoding", "harness.stopping"),
    ("harness.console",),
    ("harness.progress",),
    ("harness.storage",),
    ("harness.analysis", "harness.running"),
    ("harness.plots", "harness.comparison"),
    ("harness.present",),
    ("harness.study",),
    ("harness.report",),
    ("harness.front",),
    ("harness",),  # harness/__init__.py: the front door, a table of contents
    ("harness.cli", "harness.old_names"),
    ("harness.__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
LOWER = ("harness.models.ops", "harness.models", "harness.suites")
# Who may import a library; of whoever is not named here, everybody.
LIBRARIES = {
    "pandas": {room for room in LEVEL if room not in LOWER},
    "matplotlib": {"harness.plots"},
    "rich": {room for room in LEVEL if room not in LOWER},
    "typer": {"harness.cli"},
    "timm": {"harness.models"},
    "torchdiffeq": {"harness.models"},
    "torchvision": {"harness.models", "harness.suites", "harness.running"},
    "torch": {*LOWER, "harness.storage", "harness.running", "harness.plots", "harness.study"}
    | {"harness.front"},
}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_ROOMS = 300, 60, 10
# Functions and files of harness/ that are longer all the same, each with its reason.
LONG: dict[str, str] = {}


def room(module: str) -> str | None:
    """The room of a module of ours, None for others."""
    parts = module.split(".")
    if parts[0] != "harness":
        return None
    if parts[1:3] == ["models", "ops"]:
        return "harness.models.ops"
    # `from harness import evaluate` asks at the front door.
    return ".".join(parts[:2]) if ".".join(parts[:2]) in LEVEL else "harness"


def imports(source: str) -> Iterator[str]:
    """The modules that a source imports, or what it takes out of them: `harness.models.MODELS`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenses(module: str, source: str) -> list[str]:
    """The imports of a module that it may not have."""
    own = room(module)
    assert own is not None
    found = []
    for name in imports(source):
        other, library = room(name), name.partition(".")[0]
        if other is None:
            wrong = own not in LIBRARIES.get(library, {own})
        else:
            wrong = other != own and LEVEL[other] >= LEVEL[own]
        if wrong:
            found.append(name)
    return found


def files() -> list[tuple[str, Path]]:
    """Every module of ours with its file; harness/models and harness/suites are links."""
    found = []
    for folder in ("harness", "models", "suites"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder)
            if folder == "harness" and inner.parts[0] in ("models", "suites"):
                continue
            package = ["harness"] if folder == "harness" else ["harness", folder]
            name = ".".join([*package, *inner.with_suffix("").parts])
            found.append((name.removesuffix(".__init__"), path))
    return found


def too_long(name: str, source: str) -> list[str]:
    """The file, if it is too long, and each function of it that is, with their lines.

    A docstring is no part of a function's length: a front door says more than it does.
    """
    found = {name: len(source.splitlines())}
    most = {name: MOST_LINES}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            found[f"{name}: {node.name}"] = lines
    return [
        f"{key}, {lines} lines"
        for key, lines in found.items()
        if key not in LONG and lines > most.get(key, MOST_LINES_OF_A_FUNCTION)
    ]


@pytest.mark.parametrize("module, path", files(), ids=[m for m, _ in files()])
def test_imports_point_down(module: str, path: Path) -> None:
    assert offenses(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("harness.models.resnet", "from harness.suites import clean"),
        ("harness.models.resnet", "from harness import suites"),
        ("harness.models.base", "from harness.refusal import Refusal"),
        ("harness.models.base", "import harness"),
        ("harness.models.base", "from rich.console import Console"),
        ("harness.models.ops.heat", "from harness.models.layers import Normalize"),
        ("harness.models.ops.heat", "from harness.models import base"),
        ("harness.models.ops.heat", "import timm"),
        ("harness.suites.clean", "def f():\n    import harness.running"),
        ("harness.suites.clean", "from harness import evaluate"),
        ("harness.suites.clean", "import pandas as pd"),
        ("harness.storage.cells", "from harness.analysis import sample"),
        ("harness.analysis.pairs", "from harness.running.plan import plan"),
        ("harness.running.plan", "from harness.analysis import pairs"),
        ("harness.running.plan", "from harness import evaluate"),
        ("harness.progress", "from harness.storage import files"),
        ("harness.comparison.gate", "from harness.plots import style"),
        ("harness.present.tables", "if True:\n    from harness import study"),
        ("harness.study.run", "from harness.report import page"),
        ("harness.report.page", "from harness.cli import app"),
        ("harness", "from harness.cli import app"),
        ("harness.report.page", "import torch"),
        ("harness.comparison.gate", "from torch import Tensor"),
        ("harness.present.tables", "import typer"),
        ("harness.analysis.pairs", "from matplotlib.figure import Figure"),
    ],
)
def test_a_planted_offense_is_found(module: str, source: str) -> None:
    assert offenses(module, source)


@pytest.mark.parametrize(
    "module, source",
    [
        ("harness.models.pde_aug", "from harness.models.ops import heat\nimport torch"),
        ("harness.models.ops.perona_malik", "from harness.models.ops.heat import heat"),
        ("harness.running.execute", "import pandas\nfrom harness.suites.catalog import SUITES"),
        ("harness.cli.app", "from harness import __version__\nfrom harness.cli import options"),
        ("harness.refusal", "from harness.models import registry"),
        ("harness", "def f():\n    from harness.running.plan import plan"),
    ],
)
def test_an_import_from_the_same_room_or_below_is_none(module: str, source: str) -> None:
    assert offenses(module, source) == []


def test_every_room_has_its_level() -> None:
    rooms = {".".join(module.split(".")[:2]) for module, _ in files()}
    assert rooms == set(LEVEL) - {"harness.models.ops"}
    assert len(files()) > 100


def test_the_rooms_can_be_counted_on_ten_fingers() -> None:
    rooms = {path.parent for path in (ROOT / "harness").glob("*/__init__.py")}
    rooms -= {ROOT / "harness" / name for name in ("models", "suites")}
    assert 5 <= len(rooms) <= MOST_ROOMS


def test_files_and_functions_are_short() -> None:
    found = [
        line
        for module, path in files()
        if room(module) not in LOWER
        for line in too_long(module, path.read_text(encoding="utf-8"))
    ]
    assert found == []
    known = {
        f"{m}: {name}"
        for m, p in files()
        for name in re.findall(r"def (\w+)", p.read_text("utf-8"))
    }
    assert LONG.keys() <= known | {module for module, _ in files()}
    assert len(LONG) <= 3


def test_a_planted_long_file_or_function_is_found() -> None:
    body = "    x = 1\n" * MOST_LINES_OF_A_FUNCTION
    assert too_long("a", f"class A:\n  def f():\n{body}") == ["a: f, 61 lines"]
    assert too_long("a", "async def f():\n" + body) == ["a: f, 61 lines"]
    assert too_long("a", 'def f():\n    """A\n    B."""\n' + body) == ["a: f, 61 lines"]
    assert too_long("a", "x = 1\n" * (MOST_LINES + 1)) == ["a, 301 lines"]
    assert too_long("a", "def f():\n" + body.removesuffix("    x = 1\n")) == []


@pytest.mark.parametrize("folder", ["harness", "models", "suites", "results", "tests"])
def test_each_folder_says_what_belongs_there(folder: str) -> None:
    lines = (ROOT / folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and 10 <= len(lines) <= 40


def test_the_top_level_holds_what_is_named_there() -> None:
    """Nothing grows beside the five folders; housekeeping goes to .ci and .github."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    known = {"README.md", "pyproject.toml", "tox.ini"}
    known |= {"harness", "models", "results", "suites", "tests"}
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    skipped = {name for name in here if f"{name}/" in ignored or name.endswith(".egg-info")}
    assert here - skipped == known
