"""Little memory and few open files: every command works, or says one sentence."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = Callable[..., Path]  # writes a run
MB = 10**6
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses")


def run(
    *arguments: str, cwd: Path, memory: int = 0, files: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command where a process may have that much of each."""

    def limit() -> None:
        for kind, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, files)):
            if value:
                resource.setrlimit(kind, (value, value))

    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, preexec_fn=limit, timeout=300
    )


@pytest.mark.parametrize("memory", [100, 300, 500])
def test_too_little_memory_to_start_is_one_sentence(tmp_path: Path, memory: int) -> None:
    done = run("table", cwd=tmp_path, memory=memory * MB)
    assert done.returncode == 1 and done.stdout == ""
    expected = f"This process may have {memory} MB of memory (`ulimit -v`), and needs 600 MB to"
    assert done.stderr.startswith(expected) and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", [800, 2000])
def test_pytorch_that_does_not_fit_is_one_sentence(tmp_path: Path, memory: int) -> None:
    arguments = ("run", "--suite", "clean", "--model", "resnet18", "--epochs", "1")
    done = run(*arguments, cwd=tmp_path, memory=memory * MB)
    assert done.returncode == 1 and done.stderr.startswith("The memory is full. Free some")
    assert "`--batch-size`" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_images_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Wide(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.w = nn.Linear(3, 10)\n"
        "    def forward(self, x):\n"
        "        return self.w(x.mean((2, 3))) + 0 * torch.zeros(len(x), 10**10).sum(1)[:, None]\n"
        "def wide(num_classes):\n    return Wide()\n"
    )
    arguments = ("run", "--suite", "clean", "--model", "mine.py:wide", "--epochs", "1")
    done = run(*arguments, cwd=tmp_path, memory=6000 * MB)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert "memory" in done.stderr


def test_64_open_files_are_enough(answered: Answer, tmp_path: Path) -> None:
    for model in ("resnet18", "pde_aug"):
        for seed in range(20):
            answered(tmp_path / "results", model, seed, n=20)
    for arguments in (
        ("table", "--write"),
        ("compare", "--models", "resnet18,pde_aug"),
        ("plot",),
        ("report",),
        ("du",),
        ("clean",),
    ):
        done = run(*arguments, cwd=tmp_path, files=64)
        assert done.returncode == 0, done.stderr
