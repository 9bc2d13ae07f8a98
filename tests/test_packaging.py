"""What is installed is what is here, and nothing beside it."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.report import libraries
from harness.storage import provenance

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINKS = ("models", "suites")
OLD_NAME = "suites"  # of the first edition, installed beside `harness` as an alias
PARTS = {"harness": "harness", "models": "harness/models", "suites": "harness/suites"}
# Without any library: names are known before anything heavy is imported.
CHECK = """
import harness, harness.models.catalog as models, harness.suites.catalog as suites
assert "pde_aug" in models.CATALOG and "robustness" in suites.SUITES
print(harness.__file__, models.__file__, suites.__file__, sep="\\n")
"""


def sources() -> set[str]:
    """Every file of ours that a program needs, by its name in an installation."""
    found = set()
    for folder, place in PARTS.items():
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            linked = folder == "harness" and inner.parts[0] in LINKS
            if path.is_file() and not linked and "__pycache__" not in inner.parts:
                found.add(f"{place}/{inner.as_posix()}")
    return {name for name in found if not name.endswith("README.md")}


def build(tree: Path, what: str, to: Path) -> Path:
    """Return the wheel, editable wheel or sdist that setuptools makes of a source tree."""
    to.mkdir(parents=True, exist_ok=True)
    made = f"from setuptools import build_meta; print(build_meta.build_{what}({str(to)!r}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", made],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return to / done.stdout.split()[-1]


def places(prepare: str) -> list[Path]:
    """Import in an interpreter that has no library; return where the three parts came from."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", prepare + CHECK],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Path(line).resolve() for line in done.stdout.split("\n")[:3]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as Windows makes it, where git writes a link as a file that says where to."""
    tree = tmp_path_factory.mktemp("checkout")
    ignored = ignore_patterns("__pycache__", *LINKS)
    copytree(ROOT / "harness", tree / "harness", ignore=ignored)
    for name in LINKS:
        copytree(ROOT / name, tree / name, ignore=ignore_patterns("__pycache__"))
        (tree / "harness" / name).write_text(f"../{name}")
    for name in ("pyproject.toml", "README.md"):
        copy(ROOT / name, tree)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


def imported(path: Path) -> set[str]:
    """The libraries that a file imports, standard library and our own left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - sys.stdlib_module_names - {"harness"}


def names_of(requirements: list[str]) -> set[str]:
    """The distributions of requirements such as "numpy>=2"."""
    return {re.split(r"[<>=\[]", line)[0] for line in requirements}


def test_every_library_that_is_imported_is_required() -> None:
    """By all who install it, but for what the report and options of their own import."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    by_module = {"PIL": "pillow", "sklearn": "scikit-learn", "cuda": "cuda-core"}
    by_module |= {"imagecorruptions": "imagecorruptions-imaug", "vl_convert": "vl-convert-python"}
    by_module |= {"markupsafe": "jinja2", "huggingface_hub": "huggingface-hub"}
    needed: dict[str, set[str]] = {}
    for folder in PARTS:
        for path in (ROOT / folder).rglob("*.py"):
            extra = "report" if "report" in path.parts else ""
            extra = {"nvrtc.py": "cuda", "submitting.py": "jobs", "authors.py": "attacks"}.get(
                path.name, extra
            )
            needed.setdefault(extra, set()).update(
                by_module.get(name, name) for name in imported(path)
            )
    everybody = names_of(project["dependencies"])
    assert needed[""] == everybody
    assert needed["report"] - everybody <= names_of(extras["report"])
    assert needed["cuda"] - everybody == names_of(extras["cuda"])
    assert needed["jobs"] - everybody == names_of([*extras["slurm"], *extras["ray"]])
    assert needed["attacks"] - everybody == names_of(extras["attacks"])
    for extra in ("report", "cuda"):
        assert not names_of(extras[extra]) & everybody


def test_the_list_of_packages_is_complete() -> None:
    folders = {name.rpartition("/")[0].replace("/", ".") for name in sources()}
    named = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(folders | {OLD_NAME}) == sorted(named)


@pytest.mark.parametrize("name", LINKS)
def test_the_links_of_the_source_tree_resolve(name: str) -> None:
    link = ROOT / "harness" / name
    assert link.is_symlink() and link.resolve() == ROOT / name
    assert link.readlink() == Path("..") / name  # relative: a clone can be moved


def test_a_wheel_holds_every_file_and_one_package_with_its_old_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == sources() | {f"{OLD_NAME}/__init__.py"}


ALIASED = """
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
import suites.catalog, harness.suites.catalog
from suites.metrics import METRICS
assert suites.catalog is harness.suites.catalog and METRICS is harness.suites.metrics.METRICS
assert harness.suites.metrics.__spec__.name == harness.suites.metrics.__name__
"""


@pytest.mark.parametrize("place", ["installed", "root of a checkout"])
def test_the_old_import_name_is_the_same_modules(tmp_path: Path, place: str) -> None:
    here = tmp_path if place == "installed" else ROOT
    subprocess.run([sys.executable, "-c", ALIASED], cwd=here, check=True)
    loud = [sys.executable, "-W", "error::DeprecationWarning", "-c", "import suites"]
    done = subprocess.run(loud, cwd=here, capture_output=True, text=True, check=False)
    assert "Import `harness.suites` in place of `suites`" in done.stderr


def test_a_wheel_works_without_links(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = places(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    assert found == [
        tmp_path / "harness" / "__init__.py",
        tmp_path / "harness" / "models" / "catalog.py",
        tmp_path / "harness" / "suites" / "catalog.py",
    ]


def test_an_editable_installation_works_without_links(tree: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(build(tree, "editable", tmp_path)).extractall(tmp_path)
    found = places(f"import site; site.addsitedir({str(tmp_path)!r})")
    assert found == [
        tree / "harness" / "__init__.py",
        tree / "models" / "catalog.py",
        tree / "suites" / "catalog.py",
    ]


def test_a_source_distribution_makes_the_same_wheel(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(build(tree, "sdist", tmp_path)) as archive:
        # Python 3.11.3 and earlier have no filters; later ones warn without.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = zipfile.ZipFile(build(unpacked, "wheel", tmp_path / "again")).namelist()
    assert sorted(again) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_name_on_package_indexes_is_told_once() -> None:
    assert PROJECT["project"]["name"] == provenance.DISTRIBUTION
    assert PROJECT["project"]["scripts"].keys() == {"harness"}
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras["dev"][0].startswith(provenance.DISTRIBUTION + "[")


def test_a_cure_installs_packages_that_the_index_has() -> None:
    """Neither an extra of the name that is somebody else's, nor one of ours, not published yet."""
    said = "harness["
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                assert not ("pip install" in line and said in line), f"{path}: {line}"
    extras = PROJECT["project"]["optional-dependencies"]
    named = {name.partition(">=")[0] for name in extras["report"]}
    assert named == set(libraries.NEEDED.values())


def versions(name: str) -> dict[str, str]:
    """The versions that a file of constraints sets, by the name of the library."""
    lines = (ROOT / ".ci" / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}


def declared() -> dict[str, Requirement]:
    """The libraries that the program needs, extras included, but for those of `dev`."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"]]
    lines += [line for name, of_extra in extras.items() if name != "dev" for line in of_extra]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_the_lowest_versions_that_are_tested_are_those_declared() -> None:
    expected = {name: str(r.specifier).replace(">=", "==") for name, r in declared().items()}
    assert versions("lowest.txt") == expected


def test_versions_known_to_be_good_are_allowed() -> None:
    good = versions("known-good.txt")
    gpu = {"cuda-core"}  # brings along what the driver asks for
    assert declared().keys() - good.keys() == gpu
    for name, requirement in declared().items():
        if name not in gpu:
            assert requirement.specifier.contains(good[name].removeprefix("==")), name
