"""Commands that are stopped at a random moment: SIGKILL, SIGTERM, SIGINT."""

import random
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.stopping import UNFINISHED
from tests.fire.faults import Truth, again
from tests.fire.judge import find_damage, find_difference, find_words
from tests.fire.trial import run
from tests.fire.world import COMMANDS, copy_world

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")


def list_trials(truths: Mapping[str, Truth], count: int, seed: int) -> Iterator[str]:
    """Random moments of the usual duration of all commands in turn: "run:SIGINT:137", in ms."""
    for i in range(count):
        chance = random.Random(f"{seed} {i}")
        name = list(truths)[i % len(truths)]
        moment = chance.uniform(0, 1050 * truths[name].seconds)
        yield f"{name}:{chance.choice(SIGNALS)}:{moment:.0f}"


def attempt(root: Path, trial: str, truth: Truth, place: Path) -> list[str]:
    """Stop the command, then run it again undisturbed; return what went wrong.

    Every second one, by its milliseconds, says nothing but errors, which is to be one sentence.
    """
    name, signaled, moment = trial.split(":")
    command, number, quiet = COMMANDS[name], getattr(signal, signaled), int(moment) % 2 == 0
    here = copy_world(root, command, place / "here")
    said = run(["--quiet"] * quiet + command.argv, here, stop=(number, int(moment) / 1000))
    found = find_damage(here, truth.before, truth.after)
    if said.hung:
        found.append("hung")
    elif signaled != "SIGKILL" and said.code != truth.code:
        complete = not find_difference(here, truth.after)
        found += find_words(said, (128 + number, UNFINISHED), complete=complete, quiet=quiet)
    return found + again(command, here, truth)
