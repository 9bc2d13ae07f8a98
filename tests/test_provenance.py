import base64
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.running.environment import environment
from harness.storage import provenance

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
PROJECT = '[project]\nname = "diffeq-harness"\n'


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


def git(folder: Path, *arguments: str) -> str:
    command = [*GIT, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_repository(folder: Path) -> str:
    """Commit all files in a folder; return the commit."""
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "First"]):
        git(folder, *command)
    return git(folder, "rev-parse", "HEAD")


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
    monkeypatch.syspath_prepend(package.parent)
    return package


@pytest.fixture
def unpacked(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree of the same files, where `models` and `suites` are links; it is what runs."""
    root = tmp_path / "a b" / "checkout"
    for name, path in list(provenance.sources()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(path.read_bytes())
    for name in ("models", "suites"):
        (root / "harness" / name).symlink_to(Path("..") / name)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "models" / "papers.json").write_text("[]")
    monkeypatch.setattr(provenance, "PACKAGE", root / "harness")
    return root


@pytest.fixture
def checkout(unpacked: Path) -> Path:
    """A repository of the source tree."""
    make_repository(unpacked)
    return unpacked


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


@pytest.mark.parametrize(
    "name", ["models/heat.cu", "harness/storage/provenance.py", "models/papers.json"]
)
def test_a_checkout_says_its_commit_and_whether_it_is_changed(checkout: Path, name: str) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == (head, False)
    (checkout / "README.md").write_text("no part of the program")
    assert provenance.commit() == (head, False)
    before = (checkout / name).read_bytes()
    (checkout / name).write_text("x = 2\n")
    assert provenance.commit() == (head, True)
    git(checkout, "add", name)
    assert provenance.commit() == (head, True)  # staged, not committed
    (checkout / name).write_bytes(before.replace(b"\n", b"\r\n"))
    assert provenance.commit() == (head, False)
    (checkout / name).unlink()
    assert provenance.commit() == (head, True)


def test_a_file_that_is_not_committed_changes_a_checkout(checkout: Path) -> None:
    (checkout / "models" / "new.py").write_text("x = 1\n")
    assert provenance.commit() == (git(checkout, "rev-parse", "HEAD"), True)


@pytest.mark.parametrize("way", ["detached", "packed", "worktree", "sha256", "branch"])
def test_a_commit_is_found_however_git_keeps_it(
    unpacked: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "sha256":
        git(unpacked, "init", "-q", "--object-format=sha256")
    head = make_repository(unpacked)
    if way == "detached":
        git(unpacked, "checkout", "-q", "--detach")
    elif way == "packed":
        git(unpacked, "gc", "-q")
        git(unpacked, "pack-refs", "--all")
    elif way == "branch":
        git(unpacked, "checkout", "-qb", "a/b")
        (unpacked / "models" / "heat.cu").write_text("x = 2\n")
        git(unpacked, "commit", "-qam", "Second")
        head = git(unpacked, "rev-parse", "HEAD")
    elif way == "worktree":
        git(unpacked, "worktree", "add", "-q", "../other")
        monkeypatch.setattr(provenance, "PACKAGE", unpacked.parent / "other" / "harness")
    assert provenance.commit() == (head, False)


def test_without_a_repository_there_is_no_commit(unpacked: Path) -> None:
    assert provenance.commit() == (None, None)
    git(unpacked, "init", "-q")
    assert provenance.commit() == (None, None)
    (unpacked / ".git" / "HEAD").write_text("damaged")
    assert provenance.commit() == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == (None, None)


def test_a_foreign_repository_around_a_copy_is_not_ours(tmp_path: Path, unpacked: Path) -> None:
    make_repository(tmp_path)  # holds the copy, an environment and the current folder
    assert provenance.commit() == (None, None)


def test_a_foreign_repository_around_an_environment_is_not_ours(
    tmp_path: Path, package: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    make_repository(tmp_path)
    assert provenance.commit() == (None, None)


@pytest.mark.parametrize("project", ["", "=", "[project]\nname = 'mine'\n", "project = 1\n"])
def test_a_project_that_took_our_package_in_is_not_ours(unpacked: Path, project: str) -> None:
    (unpacked / "pyproject.toml").write_text(project)
    make_repository(unpacked)
    assert provenance.commit() == (None, None)


def test_a_repository_that_does_not_hold_our_files_is_not_ours(unpacked: Path) -> None:
    (unpacked / ".gitignore").write_text("harness/\nmodels/\nsuites/\n")
    make_repository(unpacked)
    assert provenance.commit() == (None, None)


def test_a_repository_of_the_current_folder_or_the_environment_is_not_asked(
    tmp_path: Path, checkout: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("x")
    make_repository(other)
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
    assert provenance.commit() == (head, False)
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(provenance, "PACKAGE", package)  # installed, nobody knows whence
    assert provenance.commit() == (None, None)


def install(package: Path, origin: dict[str, Any] | None) -> None:
    """Write the notes of an installer: the files' hashes, and where they come from."""
    notes = package.parent / "diffeq_harness-0.1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Name: diffeq-harness\nVersion: 0.1.0\n")
    lines = []
    for _, path in provenance.sources():
        sha = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=")
        lines.append(f"{path.relative_to(package.parent)},sha256={sha.decode()},6\n")
    (notes / "RECORD").write_text("".join(lines) + f"{notes.name}/RECORD,,\n")
    if origin is not None:
        (notes / "direct_url.json").write_text(json.dumps(origin))


def test_an_installed_copy_has_the_commit_of_the_folder_that_it_was_installed_from(
    package: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", package)
    install(package, {"url": checkout.as_uri(), "dir_info": {}})
    assert provenance.commit() == (git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "suites" / "clean.py").write_text("x = 2\n")
    git(checkout, "commit", "-qam", "Second")  # what is installed is older
    assert provenance.commit() == (None, None)


def test_an_installed_copy_has_the_commit_that_was_fetched(package: Path) -> None:
    head = "0123456789" * 4
    vcs = {"vcs": "git", "commit_id": head}
    install(package, {"url": "https://example.org/x.git", "vcs_info": vcs})
    assert provenance.commit() == (head, False)
    (package / "suites" / "clean.py").write_text("x = 2\n")
    assert provenance.commit() == (head, True)
    (package / "suites" / "clean.py").unlink()
    assert provenance.commit() == (head, True)


@pytest.mark.parametrize(
    "origin",
    [None, {"url": "https://example.org/x.whl", "archive_info": {}}, {"url": "file:///nowhere"}],
)
def test_an_installed_copy_of_an_archive_has_no_commit(
    package: Path, origin: dict[str, Any] | None
) -> None:
    install(package, origin)
    assert provenance.commit() == (None, None)


def test_notes_of_another_copy_are_not_of_this_one(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(package, {"url": "https://example.org", "vcs_info": {"commit_id": "0" * 40}})
    other = tmp_path / "vendored" / "harness"
    (other / "storage").mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", other)
    assert provenance.commit() == (None, None)


def test_no_program_of_a_repository_runs(checkout: Path) -> None:
    head, trace = git(checkout, "rev-parse", "HEAD"), checkout.parent / "it ran"
    program = checkout.parent / "evil"
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\ncat\n")
    program.chmod(0o755)
    (checkout / "models" / "heat.cu").write_text("x = 2\n")  # git would look closer
    (checkout / ".gitattributes").write_text("* filter=evil diff=evil merge=evil text\n")
    evil = shlex.quote(str(program))
    hooks = checkout / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout", "pre-commit"):
        (hooks / hook).symlink_to(program)
    names = ["core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass"]
    names += ["filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program"]
    names += ["diff.evil.textconv", "diff.evil.command", "diff.external", "credential.helper"]
    names += ["core.gitProxy", "core.alternateRefsCommand", "pager.ls-tree", "pager.rev-parse"]
    for name in names:
        git(checkout, "config", name, evil)
    for command in ("ls-tree", "rev-parse"):
        git(checkout, "config", f"alias.{command}", f"!{evil}")
    assert provenance.commit() == (head, True)
    assert not trace.exists()
    subprocess.run(["git", "-C", str(checkout), "status"], capture_output=True, check=False)
    assert trace.exists()  # as it would have


def test_objects_that_are_not_here_are_not_fetched(checkout: Path) -> None:
    trace = checkout.parent / "it ran"
    tree = git(checkout, "rev-parse", "HEAD:models")
    (checkout / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::sh -c touch% {shlex.quote(str(trace)).replace(' ', '% ')}",
        "remote.origin.promisor": "true",
        "protocol.allow": "always",
        "protocol.ext.allow": "always",
    }.items():
        git(checkout, "config", name, value)
    assert provenance.commit() == (None, None)
    assert not trace.exists()


@pytest.mark.parametrize(
    "arguments, shown",
    [
        (["run", "--model", "pde_aug"], "harness run --model pde_aug"),
        (["--name", "模型", "a b", "it's"], "harness --name '模型' 'a b' 'it'\"'\"'s'"),
        (["a\nb\\'c", ""], r"harness $'a\x0ab\\\'c' ''"),
        ([os.fsdecode(b"\xff"), "\x1b[2J"], r"harness $'\xff' $'\x1b[2J'"),
    ],
)
def test_a_command_is_one_line_that_can_be_typed(
    arguments: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/harness", *arguments])
    assert provenance.command_line() == shown
    typed = shown.replace("harness", "printf '%s\\0'", 1)
    said = subprocess.run(["bash", "-c", typed], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [os.fsencode(argument) for argument in arguments]
