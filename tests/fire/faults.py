"""Every file operation of every command that writes, failing once, for good, or killing it."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fire.judge import Files, find_damage, find_difference, find_words, leftovers, snapshot
from tests.fire.trial import Fault, operations, run
from tests.fire.world import COMMANDS, Command, copy_world

# How an operation fails, and the errno.
WAYS = {
    "ENOSPC": ("once", errno.ENOSPC),
    "EIO": ("once", errno.EIO),
    "short": ("short", errno.ENOSPC),
    "death": ("die before", 0),  # and so behind the one before
    "full": ("full", errno.ENOSPC),
    "EROFS": ("forbidden", errno.EROFS),
    "EACCES": ("forbidden", errno.EACCES),
}
FROM_THE_START = ("EROFS", "EACCES")


@dataclass(frozen=True)
class Truth:
    """A command undisturbed: what it finds and leaves, what it does to files, how it ends."""

    before: Files
    after: Files
    operations: list[str]
    code: int
    seconds: float


def learn(root: Path, name: str, place: Path) -> Truth:
    """Run a command undisturbed."""
    command = COMMANDS[name]
    here = copy_world(root, command, place / "here")
    before = snapshot(here)
    place.joinpath("said.log").unlink(missing_ok=True)
    said = run(["--quiet", *command.argv], here, fault=Fault())
    assert said.code in (0, 1, 3, 4) and not said.hung, f"harness {command.line}\n{said.err}"
    return Truth(before, snapshot(here), operations(here), said.code, said.seconds)


def list_trials(name: str, truth: Truth) -> Iterator[str]:
    """All that can happen to a command: "plot png:EIO:12"."""
    for way in FROM_THE_START:
        yield f"{name}:{way}:0"
    for k, operation in enumerate(truth.operations, 1):
        for way in WAYS.keys() - set(FROM_THE_START):
            if way != "short" or operation.startswith("write "):
                yield f"{name}:{way}:{k}"


def attempt(root: Path, trial: str, truth: Truth, place: Path) -> list[str]:
    """Try it, then run the command again undisturbed; return what went wrong."""
    name, way, k = trial.split(":")
    command, (how, error) = COMMANDS[name], WAYS[way]
    here = copy_world(root, command, place / "here")
    said = run(["--quiet", *command.argv], here, fault=Fault(how, int(k), error))
    found = find_damage(here, truth.before, truth.after)
    if not how.startswith("die"):
        complete = not find_difference(here, truth.after)
        found += find_words(said, (1, 2), complete=complete, quiet=True)
    elif said.hung:
        found.append("hung")
    return found + again(command, here, truth)


def again(command: Command, here: Path, truth: Truth) -> list[str]:
    """Run a command once more in its folder; return how that is not as if nothing had been."""
    said = run(["--quiet", *command.argv], here)
    if said.hung or said.code != truth.code:
        return [f"lost: the same command again has exit code {said.code}: {said.err[-300:]}"]
    if leftovers(here / "results"):  # of a file that did not have to be written again
        run(["clean"], here)
    left = [f"lost: {path} is left behind" for path in leftovers(here)]
    return find_difference(here, truth.after) + left
