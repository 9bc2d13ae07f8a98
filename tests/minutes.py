"""The most of some minutes on a machine with a GPU: what is right, how fast, and networks.

    python -m tests.minutes --minutes 8 --out OUT                     all parts, in this order
    python -m tests.minutes --minutes 5 --out OUT --part study --study "--question 3 --seeds 5"
    python -m tests.minutes --minutes 2 --out OUT --rehearse          the same on the CPU, tiny

Parts, each in a process of its own, with a share of the time and a log in OUT:

    right      kernels, models, suites, attacks and training on the device beside the CPU; every
               failure is told, not the first
    speed      tables of operators, training and evaluation beside their floors, in OUT/tables
    study      networks of the questions, for as long as the time lasts: the same command goes on
               from there another time; OUT/results.tar.xz has what it found, without weights

OUT/summary.json says of each part its command, seconds and exit code. The time that a part leaves
goes to the next. CIFAR-10 is taken from HARNESS_DATA.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = ("kernels_on_gpu", "models_on_gpu", "philox", "corruptions")
BENCHMARKS = ("training", "evaluation", "operators")
SHARES = {"right": 0.3, "speed": 0.45, "study": 1.0}  # of the time that is left
KEPT = (".csv", ".json", ".bits")  # of a results folder: runs, histories, answers
WHOLE = "--preset cifar10 --width 64 --epochs 26 --seeds 5 --dtype bfloat16"
TINY = "--dataset digits --question 3 --seeds 1 --width 8 --epochs 1 --limit 20"
CLOSING_S = 10.0  # for a command to end after it was asked to


@dataclass(frozen=True)
class Done:
    """What became of a command; `code` is 124 where its time was up."""

    part: str
    command: str
    seconds: float
    code: int


def commands_of(part: str, args: argparse.Namespace, seconds: float) -> list[list[str]]:
    """Return the commands of a part."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    if part == "right":
        files = [str(HERE / f"test_{name}.py") for name in TESTS]
        if args.rehearse:
            return [[*pytest, "-m", "not gpu", "-k", "known_answers", files[2]]]
        workers = str(max(1, min(14, (os.cpu_count() or 1) - 2)))
        return [[*pytest, "-m", "gpu", "-n", workers, "-W", "ignore", "--durations=10", *files]]
    if part == "speed":
        tables = ["--benchmark-only", "-W", "ignore", "--tables", str(args.out / "tables")]
        if args.rehearse:
            file = str(HERE / "test_bench_operators.py")
            return [[*pytest, *tables, "-m", "not gpu", "-k", "the_planes_of_attention", file]]
        files = [str(HERE / f"test_bench_{name}.py") for name in BENCHMARKS]
        return [[*pytest, *tables, "-m", "gpu", "-k", "not time_to_94", file] for file in files]
    asked = shlex.split(args.study or (TINY if args.rehearse else WHOLE))
    results = str(args.out / "results")
    limit = ["--time-limit", f"{max(1, int(seconds - CLOSING_S))}s"]
    return [[sys.executable, "-m", "harness", "study", *asked, "--results", results, *limit]]


def run(part: str, command: list[str], log: Path, seconds: float) -> Done:
    """Run a command for at most that many seconds; what it prints goes to a log."""
    start = time.monotonic()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}  # of a test's own
    environment = kept | {"PYTHONUNBUFFERED": "1"}
    with log.open("ab") as file:
        program = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            code = program.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            program.terminate()
            try:
                program.wait(CLOSING_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            code = 124
    return Done(part, shlex.join(command), round(time.monotonic() - start, 1), code)


def pack(results: Path, file: Path) -> int:
    """Write what a study found to a small archive; return the number of files."""
    found = sorted(p for p in results.rglob("*") if p.suffix in KEPT and "cells" not in p.parts)
    with tarfile.open(file, "w:xz") as archive:
        for path in found:
            archive.add(path, path.relative_to(results).as_posix())
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; return how many of them failed."""
    parser = argparse.ArgumentParser(prog="tests.minutes", description=str(__doc__).split("\n")[0])
    parser.add_argument("--minutes", type=float, required=True, help="time for all parts")
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and results")
    parser.add_argument("--part", action="append", choices=SHARES, help="repeats; all by default")
    parser.add_argument("--study", default="", help=f"arguments of `harness study` [{WHOLE}]")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    end, done = time.monotonic() + 60 * args.minutes, list[Done]()
    for part in args.part or SHARES:
        until = time.monotonic() + SHARES[part] * (end - time.monotonic())
        for command in commands_of(part, args, until - time.monotonic()):
            left = until - time.monotonic()
            done.append(run(part, command, args.out / f"{part}.log", left))
            last = done[-1]
            print(f"{part}: exit code {last.code} after {last.seconds:.0f} s", flush=True)
            told = json.dumps([asdict(one) for one in done], indent=1)
            (args.out / "summary.json").write_text(told + "\n")
        if part == "study":
            pack(args.out / "results", args.out / "results.tar.xz")
    # A study that its time ended is not failed: it goes on another time.
    return sum(one.code not in (0, 75 if one.part == "study" else 0) for one in done)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
