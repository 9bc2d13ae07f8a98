"""What is asked of two sides: which models stand against each other, and where the answer goes."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.analysis.groups import with_cells
from harness.comparison import differences as compare
from harness.comparison.foreign import OURS, PERCENT, pairs_of
from harness.comparison.sides import Side, measured_on, of_shared_seeds, open_side, samples_of
from harness.progress import Progress
from harness.storage.files import write_bytes

Found = list[tuple[pd.DataFrame, list[str]]]


def split(models: str) -> list[str]:
    """Return the names in `a,b`; commas inside brackets belong to a name."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", models) if name.strip()]


def opponents(a: Side, b: Side, models: str) -> list[tuple[str, str]]:
    """Return which model of A stands against which of B.

    Raises:
        LookupError: A name is not there.
        ValueError: Nothing can be compared.
    """
    names = split(models)
    if models and len(names) != 2:
        raise ValueError(f"`--models` takes two models, a,b; got `{models}`.")
    if names:
        a.only(model=names[:1])
        b.only(model=names[1:])
        return [(names[0], names[1])]
    if a.path == b.path:
        if len(a.models) == 2:
            return [(a.models[0], a.models[1])]
        raise ValueError(
            f"{a.path} holds {len(a.models)} models ({', '.join(a.models)}). Say which two with "
            "`--models a,b`."
        )
    if len(a.models) == 1 == len(b.models):
        return [(a.models[0], b.models[0])]
    both = [(m, m) for m in a.models if m in b.models]
    if not both:
        raise ValueError(
            f"{a.path} and {b.path} have no model in common. Say which two with `--models a,b`; "
            f"there are {', '.join(a.models)} and {', '.join(b.models)}."
        )
    return both


def compared(
    a: Path,
    b: Path,
    models: str = "",
    *,
    suites: Sequence[str] = (),
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    columns: str = "",
    given: str = "",
    progress: Progress,
) -> Found:
    """Return a comparison for each pair of models, and what is said of it.

    Raises:
        FileNotFoundError: There is nothing at a path.
        LookupError: A name is not there.
        ValueError: A file is damaged, or nothing can be compared.
    """
    mapped = pairs_of("--columns", columns, (*OURS, PERCENT), 1)
    constants = pairs_of("--given", given, OURS, 0)
    sides = _opened(a, b, mapped, constants, suites, datasets)
    chosen = list(metrics) or compare.metrics_of(*(list(s.rows["metric"]) for s in sides))
    if not chosen:
        raise ValueError(f"{a} and {b} have no metric in common. Name one with `--metric`.")
    first, second = (side.only(metric=chosen) for side in sides)
    found: Found = []
    for mine, theirs in opponents(first, second, models):
        one, other = first.only(model=[mine]), second.only(model=[theirs])
        labels = (mine, theirs) if mine != theirs else (f"{mine} in {a}", f"{theirs} in {b}")
        left_out: list[str] = []
        if mine == theirs:
            one, other, left_out = of_shared_seeds(one, other)
        same = mine == theirs and _seeds(one) == _seeds(other)
        frame = compare.comparison(
            samples_of(one, progress, with_cells),
            samples_of(other, progress, with_cells),
            (mine, theirs),
            labels=labels,
            same_seeds=same,
        )
        if frame.empty:
            raise ValueError(
                f"{labels[0]} and {labels[1]} have no data set, suite and condition in common. Run "
                "both with the same `harness run`."
            )
        said = [*one.notes, *other.notes, *compare.sentences(frame), *compare.caveats(frame)]
        found.append((frame, said + left_out + _differing(one, other, labels)))
    return found


def _opened(
    a: Path,
    b: Path,
    columns: dict[str, str],
    given: dict[str, str],
    suites: Sequence[str],
    datasets: Sequence[str],
) -> list[Side]:
    """Both sides, the foreign ones last, since they may need to be told by the others."""
    names = {"suite": suites, "dataset": datasets}
    opened: dict[int, Side] = {}
    for i in sorted((0, 1), key=lambda i: not (a, b)[i].is_dir()):
        other = next(iter(opened.values()), None)
        foreign = not (a, b)[i].is_dir()
        side = open_side((a, b)[i], columns if foreign else {}, given if foreign else {}, other)
        opened[i] = side.only(**names)
    return [opened[0], opened[1]]


def _seeds(side: Side) -> list[int]:
    return [] if side.table is None else sorted(side.table["seed"].unique())


def _differing(a: Side, b: Side, labels: tuple[str, str]) -> list[str]:
    """What the two were not measured on alike."""
    mine, theirs = measured_on(a), measured_on(b)
    said = []
    for (dataset, suite, _), seen in mine.items():
        for (other_dataset, other_suite, _), others in theirs.items():
            if (dataset, suite) == (other_dataset, other_suite) and seen != others:
                said.append(
                    f"{dataset}, {suite}: {labels[0]} and {labels[1]} were measured on other "
                    "images or with another version of the suite, so that they are not paired."
                )
    return said


def write(path: Path | None, kind: str, found: Found, inputs: Sequence[Path]) -> None:
    """Write all comparisons to a "csv" or "json" file.

    Raises:
        ValueError: The file is one of the inputs.
    """
    if path is None:
        return
    refuse_inputs(path, inputs)
    frame = pd.concat([frame for frame, _ in found], ignore_index=True)
    said = [line for _, lines in found for line in lines]
    content = compare.as_json(frame, said) if kind == "json" else compare.as_csv(frame)
    write_report(path, content)


def write_report(path: Path, content: bytes) -> None:
    """Write a file for people, whole or not at all; a pipe or a device as it is."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_bytes(path, content)


def refuse_inputs(path: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        ValueError: The file is one of the inputs.
    """
    if path is not None and any(path.resolve() == other.resolve() for other in inputs):
        raise ValueError(f"{path} is what is compared. Write to another file.")
