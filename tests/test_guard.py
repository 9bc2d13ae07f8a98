"""The guard of the README and of guard.yml, replayed in clones: a baseline, a pass, and a drop."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = (ROOT / ".github/workflows/guard.yml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = "--model mine.py:net --epochs 4 --corruption gaussian_noise"  # in place of pde_aug
MODEL = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""


def parts() -> tuple[list[str], list[str]]:
    """The README's commands: those that make the baseline, and those that check against it."""
    section = README[README.index("`harness check` guards") :]
    block = section.split("```")[1].strip()
    before, after = block.split("\n\n")
    return before.splitlines(), after.splitlines()


def small(line: str) -> str:
    return line.replace("--model pde_aug", SMALL)


def run(line: str) -> Result:
    """Run a command of the program in the current folder."""
    result = CliRunner().invoke(app, ["--quiet", *small(line).split()[1:]])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def git(line: str) -> None:
    settings = "-c user.name=me -c user.email=me@example.org -c init.defaultBranch=main"
    command = re.sub(r"(^|&& )git ", rf"\1git {settings} ", line)
    subprocess.run(command, shell=True, check=True, capture_output=True)


def test_the_workflow_runs_the_commands_of_the_readme() -> None:
    steps = re.findall(r"- run: (.*)", WORKFLOW)
    assert steps[0] == "pip install ."
    assert len(steps) == 1 + len(parts()[1])
    for step, line in zip(steps[1:], parts()[1], strict=True):
        assert step.startswith(line) and not re.search("--(seed|margin|model)", step[len(line) :])


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone, as the current folder, of a repository whose baseline was made by the README."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    work = tmp_path / "author"
    work.mkdir()
    monkeypatch.chdir(work)
    Path("mine.py").write_text(MODEL)
    shutil.copy(ROOT / ".gitignore", ".gitignore")
    git("git init && git add . && git commit -m Begin")
    for command in " && ".join(parts()[0]).split(" && "):
        if command.startswith("git"):
            git(command)
        else:
            assert run(command).exit_code == 0
    git("git clone --bare . ../origin.git && git clone ../origin.git ../clone")
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def test_an_unchanged_model_passes_and_a_drop_fails(clone: Path) -> None:
    gate = clone / "results/gate"
    assert len(list(gate.rglob("*.bits"))) == 5 and not list(gate.rglob("cells"))
    worktree, plan, train, check = parts()[1]
    git(worktree)
    assert run(plan).exit_code == 0, run(plan).output
    rows = json.loads(run(f"{plan} --json").stdout)
    reach = max(row["reach"] for row in rows)
    assert all(row["paired"] for row in rows) and 0 < reach <= 0.05
    assert run(train).exit_code == 0
    assert run(check).exit_code == 0, run(check).output
    near = check.replace("=0.05", f"={reach:.4f}")
    # There four of five unchanged models pass, and the fifth is inconclusive, not worse.
    assert near != check and run(near).exit_code in (0, 3), run(near).output
    # The baseline's own seeds: equal outcomes, although their runs may have other keys.
    own = re.sub(r"--seed (\d)", lambda seed: f"--seed {int(seed[1]) - 5}", train)
    assert run(own.replace("results new", "results own")).exit_code == 0
    equal = run(check.replace("results new", "results own").replace("=0.05", "=0"))
    assert equal.exit_code == 0 and "equal outcomes" in equal.stdout
    # A pull request that sees a quarter of the pixels.
    Path("mine.py").write_text(MODEL.replace("AvgPool2d(4)", "AvgPool2d(8)").replace("192", "48"))
    command = small(train.replace("results new", "results worse")).split()
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)  # reads it
    worse = run(check.replace("results new", "results worse"))
    assert worse.exit_code == 1 and "not paired" not in worse.stdout, worse.output


def test_the_baseline_of_this_repository_can_be_passed() -> None:
    command = "check --plan --margin accuracy=0.05 --json --baseline"
    result = CliRunner().invoke(app, [*command.split(), str(ROOT / "results/gate")])
    rows = json.loads(result.stdout)
    assert result.exit_code == 0 and all(row["paired"] for row in rows)
    assert {row["group"] for row in rows} == {"clean", "noise", "blur", "noise+blur"}
    assert {(row["model"], row["seeds"], row["images"]) for row in rows} == {("pde_aug", 5, 355)}
