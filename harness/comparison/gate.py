"""The check of new results against a baseline: margins in, verdicts out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.analysis import Sample
from harness.analysis.belief import BELIEVED
from harness.analysis.collect import Key
from harness.analysis.comparability import Made, find_notes, list_words, rename
from harness.analysis.verdicts import verdicts
from harness.comparison.guards import WORSE, Guard, Margins, judge, select_guards
from harness.comparison.names import UNSAID, Better, read_name, write_name
from harness.comparison.planning import Plan, plan_checks
from harness.comparison.sides import (
    Side,
    made_by,
    of_shared_seeds,
    open_side,
    provenance_of,
    samples_of,
)
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.results import KEY, run_files
from harness.storage.spelling import MOST, problem_of_whole
from harness.storage.toml_files import read_toml
from harness.suites.adversarial_metrics import ROBUST_ACCURACY
from harness.suites.radii import checks_of

DEFAULT = {("accuracy", "", ""): 0.005}
# By default where 0.005 is out of reach: of 355 images, five seeds of either side.
DEFAULT_OF = {"digits": 0.05}
EXAMPLE = (
    "Write it as in `[margin]`, `accuracy = 0.005`, "
    '`"accuracy/noise" = 0.01`, `"accuracy(class 3)" = 0.02`.'
)


def read_margins(options: Sequence[str], config: Path | None) -> Margins:
    """Return margins by metric, variant and group, "" for all groups.

    They are of a TOML file, then of the options, written METRIC=number, METRIC/GROUP=number or
    METRIC(VARIANT)/GROUP=number.

    Raises:
        Refusal: There is no such file, one is not written so, or it is negative.
    """
    found = {} if config is None else _from_file(config)
    for text in options:
        name, equals, number = text.rpartition("=")
        try:
            found[read_name(name)] = _margin(float(number) if equals else None)
        except (ValueError, Refusal):
            raise Refusal(
                f"`--margin {text}` is not of the form accuracy=0.005, accuracy/noise=0.01 or "
                "accuracy(class 3)/noise=0.01, with a number >= 0."
            ) from None
    return found or DEFAULT


def _from_file(config: Path) -> dict[tuple[str, str, str], float]:
    if not config.is_file():
        raise Refusal(f"There is no file {config}. Check the path of `--config`.")
    _, content = read_toml(config, EXAMPLE)
    extra = [name for name in content if name != "margin"]
    table = content.get("margin")
    if extra or not isinstance(table, dict) or not table:
        what = f"`{extra[0]}` means nothing" if extra else "there is no table `[margin]`"
        raise Refusal(f"{config}: {what}. {EXAMPLE}")
    found = {}
    for name, value in table.items():
        try:
            found[read_name(name)] = _margin(value)
        except ValueError:
            raise Refusal(
                f"{config}: `{name}` must be a number >= 0; got {value!r}. {EXAMPLE}"
            ) from None
    return found


def _margin(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError
    return float(value)


def check(
    results: Path,
    baseline: Path,
    margins: Margins,
    names: Mapping[str, Sequence[str]],
    progress: Progress,
    better: Better = UNSAID,
) -> tuple[list[Guard], list[str]]:
    """Return the verdicts on `results` against `baseline`, and what was left out.

    Args:
        margins: As `read_margins` returns them.
        names: Data sets, suites and models to keep of the baseline; empty ones keep all.
        better: Which way is better, of metrics that do not say it themselves.

    Raises:
        Refusal: There is nothing at a path, the baseline lacks a name or is the results, or a file
            is damaged.
    """
    if results.resolve() == baseline.resolve():
        raise Refusal(
            f"The baseline {baseline} is what is checked. Give the folder of the new results with "
            "`--results`, or another baseline."
        )
    metrics = list(dict.fromkeys(write_name(*name[:2]) for name in margins))
    all_before = open_side(baseline, whole=True).only(**names)
    before = all_before.of_metrics(metrics)
    there = {name: set(before.rows[name]) for name in ("dataset", "suite", "model")}
    all_now = open_side(results, whole=True).among(there)
    now = all_now.of_names(before.names)
    now, before, left_out = of_shared_seeds(now, before)
    mine, theirs = made_by(now), made_by(before)
    of_before = samples_of(before, progress)
    guards = _guards(of_before, margins, better)
    of_now = samples_of(now, progress)
    notes = _differences(now, mine, theirs) + _folder_of(before)
    found = judge(of_now, of_before, guards, _others(mine, theirs, guards), better)
    return found + _unbelieved(all_now, all_before), left_out + notes


def plan(
    baseline: Path,
    margins: Margins,
    names: Mapping[str, Sequence[str]],
    seeds: int,
    progress: Progress,
    better: Better = UNSAID,
) -> list[Plan]:
    """Return which margins are within reach of new results, before there are any.

    Args:
        margins: As `read_margins` returns them.
        names: As in `check`.
        seeds: Of the new results; 0 for as many as the baseline has.

    Raises:
        Refusal: As `check`.
    """
    if problem := problem_of_whole(seeds, 0, MOST):
        raise Refusal(f"`--seeds` {problem}.")
    metrics = list(dict.fromkeys(write_name(*name[:2]) for name in margins))
    before = open_side(baseline, whole=True).only(**names).of_metrics(metrics)
    samples = samples_of(before, progress)
    return plan_checks(samples, _guards(samples, margins, better), seeds, better)


def _guards(baseline: Mapping[Key, Sample], margins: Margins, better: Better) -> dict[Key, float]:
    """What is guarded; where no margin was given, by the default of its data set."""
    found = select_guards(baseline, margins, better)
    if margins is not DEFAULT:
        return found
    return {k: DEFAULT_OF.get(k.dataset.partition("[")[0], m) for k, m in found.items()}


def _unbelieved(now: Side, before: Side) -> list[Guard]:
    """A guard that fails for each model whose robust accuracy was believed and is no longer."""
    was, found = verdicts(before.rows), list[Guard]()
    for (dataset, suite, model), text in verdicts(now.rows).items():
        if text != BELIEVED and was.get((dataset, suite, model)) == BELIEVED:
            key = Key(dataset, suite, ROBUST_ACCURACY.name, "", checks_of("linf"), model)
            found.append(Guard(key, 0.0, WORSE, f"it was believed, and is now an {text}"))
    return found


def _folder_of(before: Side) -> list[str]:
    """What pairs images where the baseline is a leaderboard with its runs beside it."""
    folder = before.path.parent
    if before.board is None or not run_files(folder):
        return []
    return [
        f"{before.path} holds means and intervals alone. `--baseline {folder}`, with the runs "
        "beside it, compares image by image."
    ]


def _differences(now: Side, mine: Made, theirs: Made) -> list[str]:
    """What else than their code may be why new results differ from the baseline's."""
    said: dict[str, list[str]] = {}
    for model in now.models if mine and theirs and now.table is not None else []:
        pair = [{run: of for run, of in made.items() if run[2] == model} for made in (mine, theirs)]
        both = rename(pair[0], "now") | rename(pair[1], "before")
        runs = pd.DataFrame(both.keys(), columns=list(KEY)).assign(condition="", level=0.0)
        for line in find_notes(runs, both):
            said.setdefault(line, []).append(model)
    return [f"{list_words(models)}: {line[0].lower()}{line[1:]}" for line, models in said.items()]


def _others(now: Made, before: Made, guards: Mapping[Key, float]) -> dict[Key, str]:
    """Guards whose runs say that they are of other images or of another version."""
    mine, theirs = provenance_of(now), provenance_of(before)
    found = {}
    for key in guards:
        run = key.dataset, key.suite, key.model
        if run in mine and run in theirs and mine[run] != theirs[run]:
            found[key] = "its images or the version of its suite are not the baseline's"
    return found
