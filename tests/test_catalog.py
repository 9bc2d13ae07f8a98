"""The light catalogs say what the registries hold: names, modules, summaries, sizes, nulls."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models import catalog
from harness.models.cards import MODELS
from harness.models.catalog import CATALOG, FILE, MODULES
from harness.models.registry import Registry
from harness.suites.catalog import COMMON, CORRUPTIONS, DATASETS, FAMILIES, SUITES

MODELS_FOLDER = Path(catalog.__file__).resolve().parent


def test_the_table_of_models_is_what_building_them_gives() -> None:
    """Parameters, multiply-adds and capabilities among it; else run `python -m harness.models`."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == catalog.rows()


def test_every_family_of_models_is_named_once() -> None:
    files = {
        f"harness.models.{path.stem}"
        for path in MODELS_FOLDER.glob("*.py")
        if "@MODELS.register" in path.read_text(encoding="utf-8")
    }
    assert sorted(MODULES) == sorted(files - {"harness.models.cards"})
    assert list(CATALOG) == [name for name in MODELS if name in CATALOG]


@pytest.mark.parametrize("name", CATALOG)
def test_an_entry_is_complete(name: str) -> None:
    entry = CATALOG[name]
    assert entry.summary and entry.equation
    assert ("fitted" in entry.capabilities) == (entry.parameters == 0) == (entry.macs == 0)
    assert all(null in CATALOG for null in entry.nulls)
    kinds = {"solver", "attention", "blocks", "denoiser", "fitted", "loss"}
    assert set(entry.capabilities) <= kinds | {"stochastic", "transductive"}


@pytest.mark.parametrize("registry", [SUITES, DATASETS, CORRUPTIONS], ids=lambda r: r.kind)
def test_names_are_those_that_their_modules_register(registry: Registry) -> None:
    for name in list(registry._modules):
        entry = registry[name]
        assert entry.__name__ == name and entry.__module__ == registry._modules[name]
        assert registry.summary(name) == (entry.__doc__ or "").strip().partition("\n")[0] != ""
        assert registry.sha256(name) == "", "only what is not ours has the hash of a file"
    for module in dict.fromkeys(registry._modules.values()):
        importlib.import_module(module)
    ours = {n for n in registry.registered if registry[n].__module__.startswith("harness.")}
    assert ours == set(registry._modules), "what is registered has its line in the catalog"


def test_headline_means_leave_out_what_is_not_of_the_published_fifteen() -> None:
    headline = [n for f in ("noise", "blur", "weather", "digital") for n in FAMILIES[f]]
    assert headline == list(COMMON) and len(headline) == 15
    assert not set(FAMILIES["validation"]) & set(COMMON)


def test_summaries_and_names_need_no_pytorch() -> None:
    code = (
        "import sys\n"
        "from harness.models.catalog import CATALOG\n"
        "from harness.suites.catalog import CORRUPTIONS, DATASETS, SUITES\n"
        "from harness.suites.metrics import METRICS\n"
        "assert all(r.summary(n) for r in (CORRUPTIONS, DATASETS, SUITES) for n in r)\n"
        "assert CATALOG and METRICS\n"
        "print([m for m in ('torch', 'timm', 'torchvision', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
