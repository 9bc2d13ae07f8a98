"""Imports point down only, and the heavy libraries of people stay on the top floor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"harness.models.ops": 1, "models": 2, "suites": 3, "harness": 4}
ONLY_ON_TOP = {"pandas", "matplotlib", "typer", "rich", "ray"}
# Below the classifiers there are no libraries of classifiers, and no registry of ours.
NOT_IN_OPS = {"timm", "torchvision", "torchdiffeq", "models"}


def floor(module: str) -> int | None:
    """The floor of a module of ours, None for others."""
    for package, number in FLOORS.items():
        if module == package or module.startswith(package + "."):
            return number
    return None


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            # `from models import ops` imports models.ops
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenses(module: str, source: str) -> list[str]:
    """The imports of a module that it may not have."""
    own = floor(module)
    assert own is not None
    found = []
    for name in imports(source):
        other, first = floor(name), name.partition(".")[0]
        if other is not None and other > own:
            found.append(name)
        elif own == 1 and other is None and first in NOT_IN_OPS:
            found.append(name)
        elif own < 4 and first in ONLY_ON_TOP:
            found.append(name)
    return found


def files() -> list[tuple[str, Path]]:
    found = []
    for package in ("harness", "models", "suites"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


@pytest.mark.parametrize("module, path", files(), ids=[m for m, _ in files()])
def test_imports_point_down(module: str, path: Path) -> None:
    assert offenses(module, path.read_text()) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("harness.models.resnet", "from suites import clean"),
        ("harness.models.ops.heat", "from models.layers import Normalize"),
        ("harness.models.ops.heat", "from models import base"),
        ("harness.suites.clean", "def f():\n    import harness.run"),
        ("harness.suites.clean", "import pandas as pd"),
        ("harness.models.base", "from rich.console import Console"),
        ("harness.models.ops.heat", "import timm"),
    ],
)
def test_a_planted_offense_is_found(module: str, source: str) -> None:
    assert offenses(module, source)


def test_an_import_from_the_same_floor_or_below_is_none() -> None:
    assert not offenses("harness.models.pde_aug", "from models.ops import heat\nimport torch")
    assert not offenses("harness.models.ops.perona_malik", "from models.ops.heat import heat")
    assert not offenses("harness.running.execute", "import pandas\nfrom suites.base import SUITES")


def test_every_room_is_found() -> None:
    assert {m.partition(".")[0] for m, _ in files()} == {"harness", "models", "suites"}
    assert len(files()) > 25
