import json
import subprocess
from pathlib import Path

import pytest
import torch

from harness.running.environment import environment
from harness.storage import provenance

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]


def test_the_environment_can_be_written_and_read() -> None:
    found = json.loads(json.dumps(environment(torch.device("cpu"))))
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["device"] and len(found["source"]) == 64 and found["cuda"] is None
    assert found["harness"] == provenance.version()


def test_every_part_of_the_program_is_a_source() -> None:
    names = [name for name, _ in provenance.sources()]
    assert len(set(names)) == len(names)
    assert {"models/resnet.py", "suites/base.py", "harness/storage/provenance.py"} <= set(names)
    assert "models/ops/csrc/heat.cu" in names
    assert not [name for name in names if name.startswith(("harness/models", "harness/suites"))]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed copy of three files: `harness` with `models` and `suites` inside."""
    package = tmp_path / "site-packages" / "harness"
    for folder in ("storage", "models", "suites"):
        (package / folder).mkdir(parents=True)
    for name in ("storage/provenance.py", "models/heat.cu", "suites/clean.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    return package


@pytest.fixture
def checkout(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the same files, where `models` and `suites` are links; it is what runs."""
    root = tmp_path / "checkout"
    for name, path in list(provenance.sources()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(path.read_bytes())
    for name in ("models", "suites"):
        (root / "harness" / name).symlink_to(Path("..") / name)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*GIT, "-C", str(root), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", root / "harness")
    return root


@pytest.mark.parametrize("name", ["models/heat.cu", "suites/clean.py", "storage/provenance.py"])
def test_the_source_is_named_by_its_content(package: Path, name: str) -> None:
    before = provenance.source_hash()
    (package / name).write_text("x = 2\n")
    assert provenance.source_hash() != before


def test_an_installed_copy_has_the_name_of_the_checkout(
    package: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provenance.source_hash()
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert provenance.source_hash() == before


@pytest.mark.parametrize("name", ["models/heat.cu", "harness/storage/provenance.py"])
def test_a_checkout_says_its_commit_and_whether_it_is_changed(checkout: Path, name: str) -> None:
    head, dirty = provenance.commit()
    assert head is not None and len(head) == 40 and dirty is False
    (checkout / name).write_text("x = 2\n")
    assert provenance.commit() == (head, True)


def test_an_installed_copy_belongs_to_the_checkout_that_it_is_run_in(
    package: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.chdir(checkout)
    head, dirty = provenance.commit()
    assert head is not None and dirty is False
    (package / "suites" / "clean.py").write_text("x = 2\n")
    assert provenance.commit() == (head, True)


def test_outside_of_a_checkout_there_is_no_commit(package: Path) -> None:
    assert provenance.commit() == (None, None)
