"""`--model all`: every classifier that is built in, with the suites that can be asked of it.

What a suite needs is a capability, which the catalog says without building a network. A model that
lacks it is left out of that suite alone; models of images, which have a recipe of their own or keep
their training images, are left out of all. A sentence says whom, and why.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.models.catalog import CATALOG, Entry
from harness.models.lookup import source
from harness.progress import Progress
from harness.refusal import Refusal, user_input
from harness.running import plan as planning
from harness.running.data import Data, prepared
from harness.running.items import Item, list_items
from harness.running.jobs import Job
from harness.running.options import Options
from harness.suites.base import Setting, Suite
from harness.suites.lookup import suite_of

ALL = "all"
IMAGES = "models of images, which are trained otherwise (`--recipe generative`)"
KEEPS = "they keep their training images in place of being trained"
NAMED = "run them by their names"


@dataclass(frozen=True)
class Group:
    """Models with the same suites."""

    models: tuple[str, ...]
    suites: tuple[str, ...]


def plan_all(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    options: Options,
    progress: Progress,
) -> tuple[list[Job], list[Item], list[str]]:
    """Return the jobs of a command, the same as items, and what `group` says is left out.

    Raises:
        Refusal: As of `group` and of `running.plan`.
    """
    groups, left_out = group(models, datasets, suites, options, progress)
    jobs, items = list[Job](), list[Item]()
    for of in groups:
        jobs += planning.plan(of.models, datasets, seeds, of.suites, options, progress)
        items += list_items(of.models, datasets, seeds, of.suites, options)
    planning.check_fairness(jobs, options)
    return jobs, items, left_out


def group(
    models: Sequence[str],
    datasets: Sequence[str],
    suites: Sequence[str],
    options: Options,
    progress: Progress | None = None,
) -> tuple[list[Group], list[str]]:
    """Return what is asked of whom, and whom `all` leaves out: a sentence for each reason.

    Args:
        models: `all` among them is every classifier that is built in, once.

    Raises:
        Refusal: What is for one model is asked of all, or a suite can be asked of none.
    """
    if ALL not in models:
        return [Group(tuple(models), tuple(suites))], []
    if options.weights or options.name:
        option = "--weights" if options.weights else "--name"
        raise Refusal(f"`{option}` is for one model. Leave it out with `--model {ALL}`.")
    named = [name for name in models if name != ALL]
    able = {name: entry for name, entry in CATALOG.items() if name not in named}
    left_out = {name: reason for name, entry in able.items() if (reason := _alone(entry))}
    reasons = _by_reason(left_out)
    able = {name: entry for name, entry in able.items() if name not in left_out}
    lacking: dict[str, dict[str, str]] = {}
    with user_input():
        setting = _setting(datasets[0], options, progress) if suites else None
        for spec in suites:
            lacking[spec] = dict(_lacks(able, suite_of(spec)[1], setting))
    for spec, lacks in lacking.items():
        if lacks.keys() == able.keys():
            raise Refusal(f"The suite `{spec}` can be asked of none: {next(iter(lacks.values()))}")
        reasons += _by_reason(lacks, f"suite `{spec}`: ")
    groups = {tuple(suites): named}
    for name in able:
        own = tuple(spec for spec in suites if name not in lacking[spec])
        if own or not suites:
            groups.setdefault(own, []).append(name)
    return [Group(tuple(names), own) for own, names in groups.items() if names], reasons


def _alone(entry: Entry) -> str:
    """Why a model is in no run of all, "" where it is."""
    if "fitted" in entry.capabilities:
        return KEEPS
    return IMAGES if "denoiser" in entry.capabilities else ""


def _setting(spec: str, options: Options, progress: Progress | None) -> Setting:
    data = Data(spec, options, progress)
    return data.setting(data.framed(prepared(source("resnet18"), options), ()))


def _lacks(able: Iterable[str], suite: Suite, setting: Setting | None) -> Iterator[tuple[str, str]]:
    """The models that a suite cannot be asked of, with what it says of that."""
    assert setting is not None
    known: dict[frozenset[str], str] = {}
    for name in able:
        can = frozenset(CATALOG[name].capabilities)
        if can not in known:
            try:
                suite.cells(replace(setting, can=can))
                known[can] = ""
            except ValueError as error:
                known[can] = str(error)
        if known[can]:
            yield name, known[can]


def _by_reason(left_out: dict[str, str], where: str = "") -> list[str]:
    """One sentence for each reason."""
    of: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        of.setdefault(reason, []).append(name)
    cure = "" if where else f"; {NAMED}"
    return [
        f"Left out ({where}{reason.rstrip('.')}{cure}): {', '.join(names)}."
        for reason, names in of.items()
    ]
