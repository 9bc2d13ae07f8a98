"""Hostile files: changed at random, each read by a command that reads such files."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fire import mutations
from tests.fire.judge import snapshot
from tests.fire.trial import Said, run
from tests.fire.world import Command, copy_world, take_for_published

SENTENCE = re.compile(r".{30,}[.?!]$")
NET = "--model mine.py:first"
COMPARE = "compare --models first,second --json"
CHECK = "check --baseline before --json"


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Args:
        files: Where such files lie, a glob.
        lines: Commands that read them.
        again: Changes one and makes its checksums again; none where it has none.
        vouched: Whether its checksums say whether it is what was written.
        without: What is taken away before, so that the file is what is read.
    """

    files: str
    lines: tuple[str, ...]
    again: Callable[[Path, random.Random], None] | None = None
    vouched: bool = True
    without: tuple[str, ...] = ()
    world: str = "done"


TARGETS = {
    "run.csv": Target(
        "results/digits/*/*/seed*.csv",
        ("table --json", COMPARE, CHECK, "report", "plot"),
        mutations.mutate_table,
    ),
    "run.json": Target(
        "results/digits/*/*/seed*.json",
        ("table --json", COMPARE, "report", "table --rescore", "table --write"),
        mutations.mutate_json,
    ),
    "leaderboard.csv": Target(
        "results/leaderboard.csv",
        (
            "compare results/leaderboard.csv --models first,second --json",
            "check --baseline results/leaderboard.csv --results before --json",
            "table --json",
        ),
        mutations.mutate_board,
        without=("results/cells/*/*", "results/digits/*/*/*.bits"),
    ),
    "training.json": Target(
        "results/checkpoints/*/*/*.json", ("report", "plot"), mutations.mutate_json
    ),
    "study.json": Target(
        "results/digits/study*.json",
        ("study my.toml --show --json", "study my.toml --show", "report"),
        mutations.mutate_json,
    ),
    "published.json": Target(
        "published/published.json", ("table --results published --json",), mutations.mutate_json,
        world="older",
    ),
    "foreign.csv": Target(
        "theirs.csv",
        (
            "compare results theirs.csv --json --columns corruption=condition,severity=level",
            "compare theirs.csv results --models first,second --json --columns severity=level",
        ),
        vouched=False,
    ),
    "study.toml": Target(
        "my.toml", ("study my.toml --dry-run", "study plan my.toml --json"), vouched=False
    ),
    "gate.toml": Target("gate.toml", (f"{CHECK} --config gate.toml",), vouched=False),
    "weights": Target(
        "results/checkpoints/digits/first/seed0.safetensors",
        (
            f"run --suite clean {NET} --limit 20 --epochs 1",
            f"run --suite clean {NET} --limit 20 --name x "
            "--weights results/checkpoints/digits/first/seed0.safetensors",
        ),
        mutations.mutate_tensors,
    ),
    "weights.pth": Target(
        "*.pth",
        tuple(
            f"run --suite clean {NET} --limit 20 --name x --weights {name}.pth"
            for name in ("zipped", "pickled")
        ),
        mutations.mutate_archive,
        vouched=False,
    ),
    "cell": Target(
        "results/cells/*/*", ("table --json", COMPARE, "table --rescore", "report"),
        mutations.mutate_tensors,
    ),
    "hits": Target(
        "results/digits/*/*/*.bits", ("table --json", COMPARE, "report"), mutations.mutate_hits,
        without=("results/cells/*/*",),
    ),
    "archive": Target(
        "data/*.tar", ("data cifar10_c",), mutations.mutate_tar, vouched=False, world="raw"
    ),
    "picture": Target(
        "pictures/*/*",
        (f"run --suite clean {NET} --dataset imagefolder:pictures --epochs 1",),
        mutations.mutate_picture,
        vouched=False,
    ),
    "figure": Target("results/figures/*.png", ("report",), mutations.mutate_picture, vouched=False),
}  # fmt: skip


def list_trials(count: int, seed: int, only: str) -> Iterator[str]:
    """Files of all kinds in turn: "run.csv:0:17", with the seed and a number."""
    names = [name for name in TARGETS if only in name]
    for i in range(count if names else 0):
        yield f"{names[i % len(names)]}:{seed}:{i}"


def prepare_files(root: Path) -> None:
    """Put files beside the results that other programs would have made."""
    import torch

    for world in ("done", "older"):
        (root / world / "gate.toml").write_text("[margin]\naccuracy = 0.5\nnll = 9\n")
        table = (root / world / "results/digits/robustness/first/seed0.csv").read_text()
        theirs = table.replace("condition,level", "corruption,severity", 1)
        (root / world / "theirs.csv").write_text(theirs)
        state = {"2.weight": torch.zeros(10, 192), "2.bias": torch.zeros(10)}
        content = {"state_dict": state, "epoch": 3, "lr": 0.1}
        torch.save(content, root / world / "zipped.pth")
        torch.save(content, root / world / "pickled.pth", _use_new_zipfile_serialization=False)


_truth: dict[tuple[str, str], Said] = {}


def attempt(root: Path, trial: str, place: Path) -> list[str]:
    """Change a file, run a command on it; return what went wrong."""
    name, chance = trial.split(":")[0], random.Random(trial)
    target = TARGETS[name]
    here = copy_world(root, Command("", target.world, target.without), place / "here")
    paths = sorted(path for path in here.glob(target.files) if path.is_file())
    line, path = chance.choice(target.lines), chance.choice(paths)
    if path.suffix == ".pth" and path.stem not in line:
        path = path.with_stem("zipped" if path.stem == "pickled" else "pickled")
    if (name, line) not in _truth:
        _truth[name, line] = run(["--quiet", *line.split()], here)
        assert _truth[name, line].code in (0, 1, 3, 4), f"{line}: {_truth[name, line]}"
        here = copy_world(root, Command("", target.world, target.without), place / "here")
    zipped = path.suffix != ".pth" or path.stem == "zipped"
    signed = target.again is not None and zipped and chance.random() < 0.6
    before, there = path.read_bytes(), snapshot(here)
    (target.again if target.again and signed else mutations.mutate_plain)(path, chance)
    if path.read_bytes() == before:
        return []
    said = run(["--quiet", *line.split()], here)
    found = judge(said, _truth[name, line], target.vouched and not signed)
    if path.suffix == ".tar":
        take_for_published(root / "raw" / path.relative_to(here))
    found += [
        f"lost: it wrote {name}"
        for name in snapshot(here).keys() - there.keys()
        if not name.startswith(("results/", "data/CIFAR-10-C/"))
    ]
    where = f"{path.relative_to(here)}, harness {line}"
    return [f"{text} ({where})" for text in found]


def judge(said: Said, truth: Said, vouched: bool) -> list[str]:
    """What is wrong with how a command took a file: a traceback, silence, no end."""
    lines = [text for text in said.err.splitlines() if text.strip()]
    if said.hung:
        return ["hung"]
    if "Traceback (most recent" in said.err or said.code == 70 or said.code < 0:
        return [f"traceback: exit code {said.code}: {lines[-3:]}"]
    if said.code in (1, 2) and not said.out:
        whole = lines and SENTENCE.search(lines[-1])
        return [] if whole else [f"silent: no sentence with fact and cure: {lines[-3:]}"]
    if said.code not in (0, 1, 3, 4):
        return [f"silent: exit code {said.code}: {lines[-3:]}"]
    if vouched and not lines and plain(said.out) != plain(truth.out):
        return [f"silent: other numbers without a word: {said.out[-300:]}"]
    return []


def plain(text: str) -> str:
    """What was printed, without what an old or new file makes a command say."""
    return re.sub(r"\d+ tables are what their cells say\.|\S+ is made again\.", "", text).strip()
