"""What a results folder holds of a study: samples of its networks, trained and untrained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.analysis import boards
from harness.analysis.collect import collect_samples
from harness.analysis.verdicts import NAMES as CHECKS
from harness.progress import Progress
from harness.running.options import Options
from harness.storage import results
from harness.study.design import Quantity, Question, needs_of
from harness.study.effects import Numbers, Samples
from harness.study.run import untrained_options
from harness.study.runs import dataset_of
from harness.suites.adversarial_metrics import ROBUST_ACCURACY

CURVES = (
    "accuracy",
    "nfe",
    "evaluations",
    "macs",
    "nll",
)  # of the suite `nfe`, under all its conditions


def read_numbers(
    questions: Sequence[Question],
    options: Options,
    dataset: str,
    seeds: int,
    classes: int,
    planned: int,
    progress: Progress,
) -> Numbers:
    """Return what was measured of the first `seeds` seeds.

    Args:
        questions: Their models named as in tables.
        planned: As of `Numbers`.
    """
    models = {need.model for need in needs_of(questions)}
    quantities = {quantity for q in questions for quantity in (q.decides, *q.also)}
    suites = {suite for need in needs_of(questions) for suite in need.suites}
    names = {suite: dataset_of(suite, dataset, options.attack) for suite in suites}
    found = []
    for root in (options.root, untrained_options(options).root):
        table = _rows(root, names, seeds, models, quantities)
        samples: Samples = {}
        if not table.empty:
            with boards.open_outcomes(root, table, progress) as outcomes:
                samples = collect_samples(table, outcomes, keep=True)
        found.append((samples, table))
    (trained, table), (untrained, _) = found
    return Numbers(trained, untrained, table, dataset, classes, seeds, planned, names)


def _rows(
    root: Path,
    datasets: Mapping[str, str],
    seeds: int,
    models: set[str],
    quantities: set[Quantity],
) -> pd.DataFrame:
    """The rows that questions are about: few of all metrics that a suite has.

    Args:
        datasets: The data set's name in tables, by suite.
    """
    table = results.read(root)
    wanted = table["suite"].map(datasets) == table["dataset"]
    table = table[wanted & table["model"].isin(models) & (table["seed"] < seeds)]
    names = {(q.suite, q.metric, q.variant) for q in quantities}
    names |= {("nfe", metric, "") for metric in CURVES}
    names |= {
        (q.suite, name, "")
        for q in quantities
        if q.metric == ROBUST_ACCURACY.name
        for name in CHECKS
    }
    asked = pd.MultiIndex.from_frame(table[["suite", "metric", "variant"]]).isin(names)
    return table[asked]


def runs_of(question: Question, options: Options, dataset: str, seeds: int) -> list[str]:
    """Return the CSV files that the answer to a question comes from, below the results folder."""
    found = []
    for need in needs_of((question,)):
        root = untrained_options(options).root if need.untrained else options.root
        for suite in need.suites:
            name = dataset_of(suite, dataset, options.attack)
            for seed in range(seeds):
                path = results.csv_path(root, name, suite, need.model, seed)
                if path.is_file():
                    found.append(path.relative_to(options.results).as_posix())
    return found


def models_to_draw(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Return whom to draw by suite: of the suites that decide, the models that they decide about.

    Severity curves are of the questions about corruption, since few fit into one figure.
    """
    found: dict[str, dict[str, None]] = {}
    for question in questions:
        if question.decides.group != "clean" or question.decides.suite == "attention":
            names = (question.model, *question.against)
            found.setdefault(question.decides.suite, {}).update(dict.fromkeys(names))
        if question.curves:
            names = (question.model, question.baseline)
            found.setdefault("nfe", {}).update(dict.fromkeys(names))
    return {suite: list(names) for suite, names in found.items()}
