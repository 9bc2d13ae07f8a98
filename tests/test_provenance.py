import json
import subprocess
from pathlib import Path

import pytest
import torch

from harness.storage import provenance


def test_the_environment_can_be_written_and_read() -> None:
    found = json.loads(json.dumps(provenance.environment(torch.device("cpu"))))
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["device"] and len(found["source"]) == 64 and found["cuda"] is None


def test_the_source_is_named_by_its_content(monkeypatch, tmp_path: Path) -> None:
    for package in ("harness", "models", "suites"):
        (tmp_path / package).mkdir()
    kernel = tmp_path / "models" / "heat.cu"
    kernel.write_text("1")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    before = provenance.source_hash()
    kernel.write_text("2")
    assert provenance.source_hash() != before


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in ("harness", "models", "suites"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "provenance.py").write_text("x = 1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_a_checkout_says_its_commit_and_whether_it_is_changed(checkout: Path) -> None:
    head, dirty = provenance.commit()
    assert head is not None and len(head) == 40 and dirty is False
    (checkout / "models" / "provenance.py").write_text("x = 2\n")
    assert provenance.commit() == (head, True)


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert provenance.commit() == (None, None)
