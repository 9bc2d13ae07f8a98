"""All trials of the kinds that were asked for, in several processes, and the table of them."""

import argparse
import gc
import importlib
import multiprocessing
import os
import pkgutil
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

import harness
from tests.fire import faults, fuzz, kills, races, workers
from tests.fire.world import COMMANDS, prepare

COLUMNS = ("tried", "lost", "torn", "traceback", "silent", "hung", "twice")
Attempt = Callable[[str], list[str]]


def import_everything() -> None:
    """Import all modules of the package, so that no trial does."""
    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_pdf
    import matplotlib.backends.backend_svg  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()  # so that children do not copy what they only look at


def list_kinds(asked: argparse.Namespace, root: Path) -> dict[str, tuple[Iterable[str], Attempt]]:
    """The trials of each kind, and what tries one."""
    kinds: dict[str, tuple[Iterable[str], Attempt]] = {}
    here = lambda: _place(root)  # noqa: E731
    if _wants(asked, "faults", "kills"):
        names = [name for name in COMMANDS if asked.only in name]
        if asked.repeat:
            names = [asked.repeat.split(":")[1]]
        truths = {name: faults.learn(root, name, here()) for name in names}
        for name, truth in truths.items():
            print(f"{name}: {len(truth.operations)} operations, {truth.seconds:.1f} s", flush=True)
        if _wants(asked, "faults"):
            trials = [t for name in names for t in faults.list_trials(name, truths[name])]
            trials = [t for t in trials if asked.way in t.split(":")[1]]
            kinds["faults"] = (
                trials,
                lambda t: faults.attempt(root, t, truths[t.split(":")[0]], here()),
            )
        if _wants(asked, "kills"):
            trials = kills.list_trials(truths, asked.kills, asked.seed)
            kinds["kills"] = (
                trials,
                lambda t: kills.attempt(root, t, truths[t.split(":")[0]], here()),
            )
    if _wants(asked, "real"):
        listed = workers.list_trials(asked.real, asked.seed)
        trials = [trial for trial in listed if asked.only in trial.split(":")[0]]
        kinds["real"] = (trials, lambda t: workers.attempt(root, t, here()))
    if _wants(asked, "races"):
        trials = races.list_trials(asked.races, asked.only)
        kinds["races"] = (trials, lambda t: races.attempt(root, t, here()))
    if _wants(asked, "fuzz"):
        fuzz.prepare_files(root)
        trials = fuzz.list_trials(asked.files, asked.seed, asked.only)
        kinds["fuzz"] = (trials, lambda t: fuzz.attempt(root, t, here()))
    return kinds


def _wants(asked: argparse.Namespace, *kinds: str) -> bool:
    chosen = [asked.repeat.split(":")[0]] if asked.repeat else asked.kinds
    return not chosen or any(kind in chosen for kind in kinds)


def _place(root: Path) -> Path:
    """A folder of this process alone."""
    place = root / f"trial-{os.getpid()}"
    place.mkdir(exist_ok=True)
    return place


def run_all(asked: list[argparse.Namespace], root: Path) -> int:
    """Try all that is asked for, print what fails and the table; return the exit code."""
    import_everything()
    prepare(root)
    table: dict[tuple[str, str], Counter[str]] = {}
    for one in asked:
        _run(one, root, table)
    print_table(table)
    return int(any(n for counts in table.values() for name, n in counts.items() if name != "tried"))


def _run(asked: argparse.Namespace, root: Path, table: dict[tuple[str, str], Counter[str]]) -> None:
    """Try what is asked for, and count it in the table."""
    for kind, (listed, attempt) in list_kinds(asked, root).items():
        trials = list(listed)
        if asked.repeat:
            trials = [asked.repeat.partition(":")[2]]
        elif asked.share > 1:
            random.Random(asked.seed).shuffle(trials)
            trials = trials[:: asked.share]
        begun = time.monotonic()
        for i, (trial, found) in enumerate(_spread(trials, attempt, asked.jobs), 1):
            counts = table.setdefault((kind, trial.split(":")[0]), Counter())
            counts["tried"] += 1
            counts.update({re.split("[: ]", text)[0] for text in found})
            if found:
                print(f'--repeat "{kind}:{trial}"', *found, sep="\n    ", flush=True)
            if i % 100 == 0:
                print(f"{kind}: {i} of {len(trials)}, {time.monotonic() - begun:.0f} s", flush=True)


_attempt: Attempt  # of the workers, which are forked


def _try_one(trial: str) -> tuple[str, list[str]]:
    return trial, _attempt(trial)


def _spread(trials: list[str], attempt: Attempt, jobs: int) -> Iterable[tuple[str, list[str]]]:
    """Try all in several processes."""
    global _attempt
    _attempt = attempt
    if jobs == 1:
        yield from map(_try_one, trials)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_try_one, trials)


def print_table(table: dict[tuple[str, str], Counter[str]]) -> None:
    """Print what was tried and what went wrong, by kind and command."""
    print(f"\n{'kind':8} {'command':22}", *(f"{name:>9}" for name in COLUMNS))
    total: Counter[str] = Counter()
    for (kind, command), counts in table.items():
        total += counts
        print(f"{kind:8} {command:22}", *(f"{counts[name]:9}" for name in COLUMNS))
    print(f"{'all':31}", *(f"{total[name]:9}" for name in COLUMNS), flush=True)
