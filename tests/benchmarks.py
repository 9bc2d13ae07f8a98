"""All speed tables of a machine by one command, and what became slower between two of them.

    python -m tests.benchmarks write BENCHMARKS                         a quarter of an hour or more
    python -m tests.benchmarks write BENCHMARKS --part solvers --part scaling
    python -m tests.benchmarks compare BENCHMARKS/OLD BENCHMARKS/NEW    exits with 1 where slower

`write` makes BENCHMARKS/MACHINE, named after processor, cores, threads, PyTorch and commit, with
tables (Markdown), the rounds behind them (JSON), and machine.json. `compare` looks at our side of
each group. Beside it, in the same turns, others did the same or a fixed piece of work; what they
took says how fast the machine was, and is divided out. With x the logarithms of these ratios, old
and new, the change is the median of all differences x_new - x_old (Hodges and Lehmann), with the
interval of the rank test of Mann and Whitney at 99 % (of few rounds: the widest that they give). A
group is slower where the whole interval lies above the margin.
"""

import argparse
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS = ("solvers", "scaling", "operators", "attacks", "training", "corruptions")
MACHINE = "machine.json"
MARGIN, MISS = 0.10, 0.01


@dataclass(frozen=True)
class Change:
    """How many times as long a group takes, with its interval, beside what is divided out."""

    table: str
    group: str
    times: float
    low: float
    high: float
    rounds: tuple[int, int]
    relative: bool

    def verdict(self, margin: float) -> str:
        if self.low > 1 + margin:
            return "slower"
        return "faster" if self.high < 1 / (1 + margin) else ""


def machine(threads: int) -> dict[str, Any]:
    """Return processor, cores, threads, versions and commit."""
    import torch

    from harness.running.environment import environment

    told = environment(torch.device("cpu"))
    told["device"] = told["device"].partition(",")[0]
    return {"cores": os.cpu_count(), "threads": threads, "load": os.getloadavg()[0], **told}


def folder_name(told: dict[str, Any]) -> str:
    """Return, say, "amd-epyc-2-cores-1-threads-torch-2.15.0-0123abc"."""
    words = (
        f"{told['device']} {told['cores']} cores {told['threads']} threads "
        f"torch {told['versions']['torch'].partition('+')[0]} {(told['commit'] or 'none')[:7]}"
        f"{'-changed' if told['dirty'] else ''}"
    )
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")


def write(args: argparse.Namespace) -> int:
    """Run the benchmarks; return the first exit code that is not 0."""
    told = machine(args.threads)
    folder = args.folder / folder_name(told)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MACHINE).write_text(json.dumps(told, indent=1) + "\n")
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    failed = 0
    for part in args.part or PARTS:
        command = [sys.executable, "-m", "pytest", "-q", "-s", "--benchmark-only", "-m", "not gpu"]
        command += ["-W", "ignore", "--threads", str(args.threads), "--tables", str(folder)]
        command += ["-k", args.only] if args.only else []
        command.append(str(HERE / f"test_bench_{part}.py"))
        failed = failed or subprocess.run(command, env=environment, check=False).returncode
    print(folder)
    return failed


def groups_of(folder: Path) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Return the rounds of each contender by table and group."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != MACHINE:
            for group, rounds in json.loads(path.read_text())["groups"].items():
                found[path.stem, group] = rounds
    return found


def compare(old: Path, new: Path) -> list[Change]:
    """Return the changes of all groups that both folders have, the slowest first."""
    before, after = groups_of(old), groups_of(new)
    found = []
    for table, group in before.keys() & after.keys():
        x, y = before[table, group], after[table, group]
        ours = next(iter(x))
        others = [name for name in x if name != ours and name in y]
        if ours in y:
            logs = relative(x, ours, others), relative(y, ours, others)
            low, middle, high = map(math.exp, shift(*logs))
            counts = len(logs[0]), len(logs[1])
            found.append(Change(table, group, middle, low, high, counts, bool(others)))
    return sorted(found, key=lambda change: (-change.times, change.table, change.group))


def relative(rounds: dict[str, list[float]], ours: str, others: Sequence[str]) -> list[float]:
    """Return log(ours), turn by turn, less the mean of the logarithms of the others."""
    logs = [math.log(value) for value in rounds[ours]]
    for name in others:
        for i, value in enumerate(rounds[name]):
            logs[i] -= math.log(value) / len(others)
    return logs


def shift(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Return the interval's low end, the median and the high end of y - x."""
    apart = sorted(b - a for a, b in itertools.product(x, y))
    out = outside(len(x), len(y))
    return apart[out], statistics.median(apart), apart[-1 - out]


@cache
def outside(n: int, m: int) -> int:
    """Return how many differences lie beyond each end of an interval at 1 - MISS; at least none.

    The statistic of Mann and Whitney is <= k - 1 with a probability of at most MISS / 2.
    """
    ways = [1] + [0] * (n * m)  # of choosing n of n + m ranks, by their sum: products of 1 - q^j
    for j in range(1, n + 1):
        for i in range(n * m, m + j - 1, -1):
            ways[i] -= ways[i - m - j]
        for i in range(j, n * m + 1):
            ways[i] += ways[i - j]
    below = itertools.accumulate(ways)
    return sum(count <= MISS / 2 * math.comb(n + m, n) for count in below)


def sentences(old: Path, new: Path) -> list[str]:
    """Say what of two machines, and of what was measured there, differs."""
    a, b = (json.loads((folder / MACHINE).read_text()) for folder in (old, new))
    keys = ("device", "cores", "threads", "python", "versions")
    found = [f"{key}: {a[key]} before, {b[key]} now" for key in keys if a[key] != b[key]]
    mine, yours = groups_of(old).keys(), groups_of(new).keys()
    for missing, where in ((mine - yours, old), (yours - mine, new)):
        if missing:
            found.append(f"{len(missing)} groups are in {where.name} alone")
    return found


def report(args: argparse.Namespace) -> int:
    """Print what changed; return 1 if something is slower, 2 if nothing can be compared."""
    for folder in (args.old, args.new):
        if not (folder / MACHINE).is_file():
            print(f"{folder} has no {MACHINE}. Give a folder that `write` made.", file=sys.stderr)
            return 2
    changes = compare(args.old, args.new)
    if not changes:
        print("The folders have no group in common. Write the same parts.", file=sys.stderr)
        return 2
    for sentence in sentences(args.old, args.new):
        print(sentence)
    print("| table | group | times as long | 99 % interval | rounds | |\n|---|---|---|---|---|---|")
    for change in changes:
        verdict = change.verdict(args.margin)
        if verdict or args.all:
            alone = "" if change.relative else ", nothing beside it"
            print(
                f"| {change.table} | {change.group} | {change.times:.3f} "
                f"| {change.low:.3f}-{change.high:.3f} | {change.rounds[0]} and "
                f"{change.rounds[1]}{alone} | {verdict} |"
            )
    slower = [change for change in changes if change.verdict(args.margin) == "slower"]
    print(f"{len(slower)} of {len(changes)} groups are slower by more than {args.margin:.0%}.")
    return int(bool(slower))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("write", help="make the tables of this machine")
    one.add_argument("folder", type=Path)
    one.add_argument("--part", action="append", choices=PARTS, help="of the tables; repeats")
    one.add_argument("--only", metavar="WORDS", help="as pytest's -k")
    one.add_argument("--threads", type=int, default=1)
    one.set_defaults(run=write)
    two = commands.add_parser("compare", help="say what became slower")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    two.add_argument("--margin", type=float, default=MARGIN, help="share that does not count")
    two.add_argument("--all", action="store_true", help="print what did not change, too")
    two.set_defaults(run=report)
    args = parser.parse_args(arguments)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
