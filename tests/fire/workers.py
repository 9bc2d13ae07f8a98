"""Real programs that get a signal, from their first import to their last word.

Where it is the parent alone that gets it, the workers have to end within seconds, and write nothing
afterwards. Where a worker is killed (WORKER), all has to be done in the end, as by one process.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import harness
from harness.stopping import UNFINISHED
from tests.fire.judge import find_damage, find_difference, find_words, snapshot
from tests.fire.kills import SIGNALS
from tests.fire.trial import Said, run, stop_after
from tests.fire.world import RUN, Command, copy_world

COMMANDS = {
    "study, 2 workers": Command("study my.toml --workers 2", "raw"),
    "table --write": Command("table --write", "older"),
    "run, 3 workers": Command(f"{RUN} --seed 0 --seed 1 --seed 2 --workers 3", "raw"),
}
SHARE = 5  # one of so many is no study, and one a worker that is killed
WORKER = "WORKER"
GRACE = 10.0  # seconds that workers may take to finish their step, or their imports
LIMIT = 180.0


def list_trials(count: int, seed: int) -> Iterator[str]:
    """Random moments: "study, 2 workers:SIGINT:137", in thousandths of the usual duration."""
    study, table, run = COMMANDS
    for i in range(count):
        chance = random.Random(f"real {seed} {i}")
        moment = chance.randrange(1050)
        if i % SHARE == 1:
            yield f"{run}:{WORKER}:{moment}"
        else:
            yield f"{study if i % SHARE else table}:{chance.choice(SIGNALS)}:{moment}"


_truth: dict[str, tuple[float, dict[str, bytes]]] = {}


def attempt(root: Path, trial: str, place: Path) -> list[str]:
    """Stop the program, see what goes on, run the command again; return what went wrong."""
    name, signaled, moment = trial.split(":")
    command = COMMANDS[name]
    if name not in _truth:
        here = copy_world(root, command, place / "here")
        begun = time.monotonic()
        assert _finish(_start(command, here), here).code == 0
        _truth[name] = time.monotonic() - begun, snapshot(here)
    usual, expected = _truth[name]
    here = copy_world(root, command, place / "here")
    before = snapshot(here)
    program = _start(command, here)
    if signaled == WORKER:
        _kill_worker(program.pid, usual * int(moment) / 1000)
        said = _finish(program, here)
        found = [f"lost: exit code {said.code}: {said.err[-300:]}"] * (said.code != 0)
        return found + _watch(program.pid, here, GRACE) + find_difference(here, expected)
    number = getattr(signal, signaled)
    stop_after(program.pid, number, usual * int(moment) / 1000)
    said = _finish(program, here)
    found = _watch(program.pid, here, max(GRACE, usual)) + find_damage(here, before, expected)
    if signaled != "SIGKILL" and said.code != 0:
        found += find_words(said, (128 + number, UNFINISHED), complete=False, quiet=True)
    again = run(["--quiet", *command.line.replace("--workers 2", "--workers 1").split()], here)
    found += [f"lost: again it has exit code {again.code}: {again.err[-300:]}"] * (again.code != 0)
    return found + find_difference(here, expected)


def _kill_worker(program: int, seconds: float) -> None:
    """Kill one of a program's workers, so many seconds after its start, or as soon as it has one.

    A program that has none any more has ended, or begins to.
    """
    end, had = time.monotonic() + seconds, False
    while _living(program):
        found = [process for process in _living(program) if _is_worker(process)]
        had = had or bool(found)
        if found and time.monotonic() > end:
            os.kill(found[int(1000 * seconds) % len(found)], signal.SIGKILL)
            return
        if had and not found:
            return
        time.sleep(0.01)


def _is_worker(process: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False  # it ended just now


def _start(command: Command, here: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": str(Path(harness.__file__).parent.parent), "HARNESS_DATA": str(here / "data")
    }  # fmt: skip
    words = [sys.executable, "-m", "harness", "--quiet", *command.argv]
    with (
        here.with_name("real.out").open("wb") as out,
        here.with_name("real.err").open("wb") as err,
    ):
        return subprocess.Popen(
            words, cwd=here, env=environment, stdout=out, stderr=err, start_new_session=True
        )


def _finish(program: subprocess.Popen[bytes], here: Path) -> Said:
    begun, hung = time.monotonic(), False
    try:
        program.wait(LIMIT)
    except subprocess.TimeoutExpired:
        hung = True
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    out, err = (here.with_name(f"real.{end}").read_text() for end in ("out", "err"))
    return Said(program.returncode, out, err, hung, time.monotonic() - begun)


def _watch(session: int, here: Path, grace: float) -> list[str]:
    """Whether processes of a program that ended live on, or write."""
    end = time.monotonic() + grace
    while left := _living(session):
        if time.monotonic() > end:
            for process in left:
                os.kill(process, signal.SIGKILL)
            return [f"hung: {len(left)} workers live on after {grace:.0f} s"]
        time.sleep(0.1)
    there = snapshot(here)
    time.sleep(0.5)
    return [] if snapshot(here) == there else ["lost: somebody writes on"]


def _living(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended just now
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found
