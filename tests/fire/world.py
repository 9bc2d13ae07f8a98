"""Small results folders, made by the commands themselves, and the commands that are tried."""

import hashlib
import io
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness.running import fetch
from harness.suites import published
from tests.fire.trial import run

MODELS = """
from torch import nn

def first(num_classes):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

def second(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))
"""
STUDY = """
title = "Is the first better?"
dataset = "digits"
seeds = 2
epochs = 1

[[question]]
number = "1"
text = "Is the first better?"
kind = "gain"
model = "mine.py:first"
baseline = "mine.py:second"
decides = { suite = "clean", metric = "accuracy" }
margin = 0.02
"""
BOTH = "--model mine.py:first --model mine.py:second"
SUITES = "--suite clean --suite robustness --corruption brightness"
RUN = f"run {SUITES} --epochs 1 {BOTH}"


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Args:
        line: What is typed behind `harness`.
        world: The folder that it is typed in, as `prepare` makes it.
        without: Files that are taken out of it before, as globs.
    """

    line: str
    world: str = "done"
    without: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        """The command as a list of words."""
        return self.line.split()


COMMANDS = {
    "train": Command(f"train {BOTH} --epochs 1", "raw"),
    "run": Command(f"run {SUITES} --epochs 1 --model mine.py:first", "raw"),
    "run more": Command("run --suite clean --epochs 1 --model mine.py:second --seed 2"),
    "table --write": Command("table --write", without=("results/leaderboard.csv",)),
    "table --write, old": Command("table --write", "older"),
    "table --rescore": Command("table --rescore", without=("results/digits/*/*/seed0.csv",)),
    "plot png": Command("plot --suite clean", without=("results/figures/*clean*",)),
    "plot pdf": Command("plot --suite clean --format pdf"),
    "plot svg": Command("plot --suite clean --format svg"),
    "show": Command("show corruptions --corruption brightness"),
    "report": Command("report"),
    "compare": Command("compare --models first,second --csv differences.csv"),
    "check": Command("check --baseline before --junit check.xml --markdown check.md"),
    "publish": Command("publish published"),
    "publish more": Command("publish published", "older"),
    "data": Command("data cifar10_c", "raw"),
    "clean": Command("clean", without=("results/digits/clean/second/*",)),
    "study": Command("study my.toml --workers 1", "raw"),
}


def prepare(root: Path) -> None:
    """Make the folders that commands are tried in.

    raw     a file of models and one of a study, a folder of images
    done    the same with results of two models and seeds, and `before`, once more the same
    older   the same, whose leaderboard and published folder are of one seed
    """
    raw = root / "raw"
    raw.mkdir(parents=True)
    (raw / "mine.py").write_text(MODELS)
    (raw / "my.toml").write_text(STUDY)
    _draw_images(raw / "pictures")
    _pack_files(raw / "data")
    one = shutil.copytree(raw, root / "one")
    _make(one, RUN, "table --write", "publish published")
    older = shutil.copytree(one, root / "older")
    _make(older, f"{RUN} --seed 0 --seed 1")
    done = shutil.copytree(older, root / "done")
    shutil.rmtree(done / "published")
    _make(done, "table --write", "report", "study my.toml --workers 1")
    shutil.copytree(done / "results", done / "before")
    for cell in done.glob("results/cells/*/*"):
        os.utime(cell, (0, 0))  # so old that `clean` may remove it


def _make(folder: Path, *lines: str) -> None:
    for line in lines:
        said = run(line.split(), folder)
        assert said.code == 0, f"harness {line}\n{said.out}{said.err}"


def _draw_images(folder: Path) -> None:
    """Two classes, dark and bright, in several formats."""
    random = np.random.default_rng(0)
    for k, name in enumerate(("dark", "bright")):
        (folder / name).mkdir(parents=True)
        for i, ending in enumerate(("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "png") * 2):
            values = random.integers(100 * k, 100 * k + 100, (32, 32, 3), np.uint8)
            Image.fromarray(values).save(folder / name / f"{i}.{ending}")


def _pack_files(folder: Path) -> None:
    """An archive that this process takes for the published one, since the real one has 3 GB."""
    folder.mkdir()
    path, table = folder / "CIFAR-10-C.tar", published.TABLES["CIFAR-10-C"]
    table.clear()
    with tarfile.open(path, "w") as tar:
        for k, name in enumerate(("fog", "snow", "labels")):
            file = io.BytesIO()
            np.save(file, np.full((5, 40), k, np.uint8))
            content = file.getvalue()
            member = tarfile.TarInfo(f"CIFAR-10-C/{name}.npy")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            table |= {name: hashlib.md5(content).hexdigest()}
    take_for_published(path)


def take_for_published(path: Path) -> None:
    """Let this process take an archive for the published one, whatever is in it."""
    content = path.read_bytes()
    fetch.ARCHIVES["CIFAR-10-C"] = len(content), hashlib.md5(content).hexdigest()


def copy_world(root: Path, command: Command, to: Path) -> Path:
    """Copy the folder of a command to try it in."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root / command.world, to)
    for pattern in command.without:
        for path in to.glob(pattern):
            path.unlink()
    return to
