import json
from pathlib import Path
from typing import Any

import pytest

from harness.models import catalog
from harness.models.base import MODELS
from harness.models.catalog import CATALOG
from harness.suites.catalog import COMMON, CORRUPTIONS, DATASETS, FAMILIES, SUITES

FOLDER = Path(catalog.__file__).parent


@pytest.fixture(scope="module")
def made() -> list[dict]:
    """The table as it is made from the registry, every model built."""
    return catalog.rows()


def test_the_table_is_that_of_the_built_networks(made: list[dict]) -> None:
    stored = json.loads(catalog.FILE.read_text(encoding="utf-8"))
    assert [row["name"] for row in stored] == [row["name"] for row in made]
    for row, own in zip(stored, made, strict=True):
        assert row == own, f"{row['name']}: run `python -m harness.models`"


def test_nulls_and_papers_are_there() -> None:
    for entry in CATALOG.values():
        assert set(entry.nulls) <= CATALOG.keys(), entry.name
        assert entry.summary and entry.equation, entry.name
    assert "perona1990scale" in [paper.key for paper in CATALOG["pde_aug"].papers]
    assert [name for name, entry in CATALOG.items() if entry.transductive]


def test_every_family_of_models_has_its_line() -> None:
    registering = {
        f"harness.models.{path.stem}"
        for path in FOLDER.glob("*.py")
        if "\n@MODELS.register" in path.read_text(encoding="utf-8")
    }
    assert registering == set(catalog.MODULES)
    assert set(CATALOG) <= set(MODELS)


@pytest.mark.parametrize("registry", [SUITES, DATASETS, CORRUPTIONS], ids=lambda r: r.kind)
def test_summaries_are_the_first_lines_of_docstrings(registry: Any) -> None:
    for name in registry:
        first = registry.summary(name)  # from the file, the module may not be imported yet
        assert first and first == (registry[name].__doc__ or "").strip().partition("\n")[0]


def test_corruptions_have_families() -> None:
    assert [name for names in FAMILIES.values() for name in names] == list(CORRUPTIONS)
    assert len(COMMON) == 15 and not set(COMMON) & set(FAMILIES["validation"])
