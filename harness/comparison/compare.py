"""Comparison of two sides: which models are compared, and where the result is written."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.analysis.comparability import behavior_notes, describe_conditions, find_notes, rename
from harness.analysis.groups import Where, with_cells
from harness.comparison.differences import as_csv, default_names, differences
from harness.comparison.foreign import OURS, PERCENT, read_pairs
from harness.comparison.names import UNSAID, Better, sign_of
from harness.comparison.sentences import caveats, sentences
from harness.comparison.sides import Side, made_by, of_shared_seeds, open_side, samples_of
from harness.models.registry import spell
from harness.progress import Progress
from harness.refusal import Refusal
from harness.storage.files import write_bytes
from harness.suites.metrics import METRICS

Found = list[tuple[pd.DataFrame, list[str]]]  # frames of `differences`, and sentences about each


def split(models: str, of_a: Sequence[str], of_b: Sequence[str]) -> list[str]:
    """Return the names in `a,b`: a model of A and one of B; a name may have commas itself."""
    words = models.split(",")
    for i in range(1, len(words)):
        pair = [spell(",".join(part).strip()) for part in (words[:i], words[i:])]
        if pair[0] in of_a and pair[1] in of_b:
            return pair
    return split_names(models)


def split_names(models: str) -> list[str]:
    """Return the names between commas; those in brackets are a name's own."""
    return [spell(name.strip()) for name in re.split(r",(?![^(]*\))", models) if name.strip()]


def opponents(a: Side, b: Side, models: str) -> list[tuple[str, str]]:
    """Return the pairs of models to compare, one of A and one of B.

    Raises:
        Refusal: A name is not there, or nothing can be compared.
    """
    names = split(models, a.models, b.models)
    if models and len(names) != 2:
        raise Refusal(f"`--models` takes two models, a,b; got `{models}`.")
    if names:
        a.only(model=names[:1])
        b.only(model=names[1:])
        return [(names[0], names[1])]
    if a.path == b.path and a.models == b.models:
        if len(a.models) == 2:
            return [(a.models[0], a.models[1])]
        raise Refusal(
            f"{a.path} holds {len(a.models)} models ({', '.join(a.models)}). Say which two with "
            "`--models a,b`."
        )
    if len(a.models) == 1 == len(b.models):
        return [(a.models[0], b.models[0])]
    both = [(m, m) for m in a.models if m in b.models]
    if not both:
        raise Refusal(
            f"{a.path} and {b.path} have no model in common. Say which two with `--models a,b`; "
            f"there are {', '.join(a.models)} and {', '.join(b.models)}."
        )
    return both


def compare_sides(
    a: Path | Side,
    b: Path | Side,
    models: str = "",
    *,
    suites: Sequence[str] = (),
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    columns: str = "",
    given: str = "",
    better: Better = UNSAID,
    progress: Progress,
) -> Found:
    """Return a comparison for each pair of models, and sentences about it.

    Args:
        a: Results folder, leaderboard or any CSV; or a side that is open already.
        models: Two names, `a,b`; "" for the models that both have, or the only two.
        metrics: Names as `comparison.names` writes them; empty for accuracy.
        columns: Names of a foreign CSV's columns, `THEIRS=OURS,...`.
        given: Values that such a file does not say, `OURS=VALUE,...`.
        better: Which way is better, of metrics that do not say it themselves.

    Raises:
        Refusal: Something is not there, a file is damaged, or nothing can be compared.
    """
    mapped = read_pairs("--columns", columns, (*OURS, PERCENT), 1)
    constants = read_pairs("--given", given, OURS, 0)
    first, second = (
        side.only(suite=suites, dataset=datasets) for side in _open(a, b, mapped, constants)
    )
    if metrics:
        first, second = first.of_metrics(metrics), second.of_metrics(metrics)
    else:
        names = default_names(first.names, second.names, better)
        if not names:
            raise Refusal(
                f"{first.path} and {second.path} have no metric in common whose better side is "
                "known. Name one with `--metric`."
            )
        first, second = first.of_names(names), second.of_names(names)
    return [
        _compare(first.only(model=[mine]), second.only(model=[theirs]), better, progress)
        for mine, theirs in opponents(first, second, models)
    ]


def _compare(
    a: Side, b: Side, better: Better, progress: Progress
) -> tuple[pd.DataFrame, list[str]]:
    """The comparison of two sides of one model each, and sentences about it."""
    (mine,), (theirs,) = a.models, b.models
    labels = (mine, theirs) if mine != theirs else (f"{mine} in {a.path}", f"{theirs} in {b.path}")
    left_out: list[str] = []
    if mine == theirs:
        a, b, left_out = of_shared_seeds(a, b)
    frame = differences(
        samples_of(a, progress, with_cells),
        samples_of(b, progress, with_cells),
        (mine, theirs),
        labels=labels,
        same_seeds=mine == theirs and _seeds(a) == _seeds(b),
        better=better,
    )
    if frame.empty:
        raise Refusal(
            f"{labels[0]} and {labels[1]} have no data set, suite and condition in common. Run "
            "both with the same `harness run`."
        )
    lines = [*a.notes, *b.notes, *sentences(frame), *caveats(frame), *left_out]
    return frame, lines + _directions(frame, better) + _mismatches(a, b, labels)


def _directions(frame: pd.DataFrame, better: Better) -> list[str]:
    """How to say which side is better, for metrics that do not say it."""
    return [
        f"It is not known which side is better in {metric}. Say it with `--better {metric}=up` or "
        f"`--better {metric}=down`."
        for metric in dict.fromkeys(frame["metric"])
        if metric not in METRICS and not sign_of(metric, better)
    ]


def _open(
    a: Path | Side, b: Path | Side, columns: dict[str, str], given: dict[str, str]
) -> list[Side]:
    """Both sides, the foreign ones last, since the others may say what they do not."""

    def foreign(side: Path | Side) -> bool:
        return not isinstance(side, Side) and not side.is_dir()

    both, opened = (a, b), dict[int, Side]()
    for i in sorted((0, 1), key=lambda i: foreign(both[i])):
        side, other = both[i], next(iter(opened.values()), None)
        if isinstance(side, Path):
            mapped = (columns, given) if foreign(side) else ({}, {})
            side = open_side(side, *mapped, other)
        opened[i] = side
    return [opened[0], opened[1]]


def _seeds(side: Side) -> list[int]:
    return [] if side.table is None else sorted(side.table["seed"].unique())


def _mismatches(a: Side, b: Side, labels: tuple[str, str]) -> list[str]:
    """What keeps the two from being compared, or limits it to a part."""
    if a.table is None or b.table is None:
        return []
    tables = [a.table.assign(model=labels[0]), b.table.assign(model=labels[1])]
    made = rename(made_by(a), labels[0]) | rename(made_by(b), labels[1])
    said = [*find_notes(pd.concat(tables), made), *behavior_notes(made)]
    for at, mine in _cells(tables[0]).items():
        theirs = _cells(tables[1]).get(at, mine)
        for label, alone in zip(labels, (mine - theirs, theirs - mine), strict=True):
            if words := describe_conditions(alone):
                said.append(f"{', '.join(at)}: not compared, since only {label} has it: {words}.")
    return said


def _cells(table: pd.DataFrame) -> dict[tuple[str, str], frozenset[Where]]:
    """The conditions and levels of each suite on each data set."""
    return {
        (str(dataset), str(suite)): frozenset(zip(of["condition"], of["level"], strict=True))
        for (dataset, suite), of in table.groupby(["dataset", "suite"], sort=False)
    }


def write_csv(path: Path, found: Found, inputs: Sequence[Path]) -> None:
    """Write all comparisons to a CSV file.

    Raises:
        Refusal: The file is one of the inputs.
    """
    refuse_inputs(path, inputs)
    write_report(path, as_csv(pd.concat([frame for frame, _ in found], ignore_index=True)))


def write_report(path: Path, content: bytes) -> None:
    """Write a file for people, whole or not at all; a pipe or a device as it is.

    Raises:
        Refusal: It cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            write_bytes(path, content)
    except OSError as error:
        raise Refusal(f"{path} cannot be written: {error.strerror}. Choose another file.") from None


def refuse_inputs(path: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        Refusal: The file is one of the inputs.
    """
    if path is not None and any(path.resolve() == other.resolve() for other in inputs):
        raise Refusal(f"{path} is what is compared. Write to another file.")
