"""The columns of the table; write one run, read all runs.

    results/DATASET/SUITE/MODEL/seedN.csv    measurements, one number a row
    results/DATASET/SUITE/MODEL/seedN.json   what made them
    results/DATASET/SUITE/MODEL/seedN.bits   hits of every image, see `packed_outcomes`

Equal cells give equal bytes: values have six decimals, rows the order of the suite.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.registry import spell
from harness.refusal import Failure, Refusal, unknown
from harness.storage import packed_outcomes
from harness.storage.files import NO_DATASETS, PUBLISHED, canonical, list_folder, safe, write_bytes
from harness.storage.json_files import write_json
from harness.storage.published import verify
from harness.storage.rows import AGAIN, as_columns, long_rows, read_rows, split_rows
from harness.storage.spelling import name_of_images
from harness.storage.vouching import KEY, check_provenance, read_provenance

if TYPE_CHECKING:
    import pandas as pd

    from harness.suites.base import Measurement  # PyTorch, which reading does not need

COLUMNS = (
    "model",
    "suite",
    "dataset",
    "seed",
    "condition",
    "level",
    "metric",
    "variant",
    "value",
    "n",
    "run",
)
PUBLISHED_FOLDER = "published"  # in the results: what the repository ships
CHECKPOINTS = "checkpoints"  # the folder, in the results, of weights and histories of trainings
QUICK = "quick"  # the folder, in the results, of runs on a subset
UNTRAINED = "untrained"  # the results folder, in the results, of a study's untrained networks
RUN_FILE = re.compile(r"seed.*\.(csv|json)")


def csv_path(results: Path, dataset: str, suite: str, model: str, seed: int) -> Path:
    """Return where the measurements of one run lie."""
    return results / safe(dataset) / safe(suite) / safe(model) / f"seed{seed}.csv"


def run_key(cells: Mapping[str, str], version: int) -> str:
    """Return the name of a run: a hash of its cells and of how they are measured."""
    content = canonical({"cells": cells, "version": version})
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def write(
    path: Path,
    key: Mapping[str, Any],
    measurements: "Iterable[Measurement]",
    provenance: dict,
    bits: bytes = b"",
) -> bool:
    """Write a run's CSV, packed hits and JSON; leave files that already say so untouched.

    Args:
        key: `model`, `suite`, `dataset`, `seed` and `run`.
        provenance: What made the numbers; JSON-able.
        bits: As `packed_outcomes.pack` returns them; empty for none.

    Returns:
        Whether anything was written.

    Raises:
        Failure: What would be written could not be read again.
    """
    rows = [
        (
            *(key["model"], key["suite"], key["dataset"], key["seed"], m.condition),
            *(f"{m.level:g}", m.metric, m.variant, f"{m.value:.6f}", m.n, key["run"]),
        )
        for m in measurements
    ]
    import pandas as pd  # half a second, which no prediction need wait for

    content = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n").encode()
    digests = {"csv": hashlib.sha256(content).hexdigest()}
    packed = path.with_suffix(packed_outcomes.SUFFIX)
    if bits:
        digests["bits"] = packed_outcomes.digest(bits)
    before = _beside(path) if path.is_file() and path.read_bytes() == content else None
    if before is not None and before["run"] == key["run"]:
        whole = not bits or packed_outcomes.is_sound(packed, digests["bits"])
        if whole and before.get("bits") == digests.get("bits"):
            return False
        provenance = before  # what made the numbers stays; only their hits are added
    kept = {name: value for name, value in provenance.items() if name != "bits"}
    beside = dict(key) | kept | digests
    _refuse_unreadable(path, content, beside)
    write_bytes(path, content)
    if bits:
        write_bytes(packed, packed_outcomes.compress(bits))
    else:
        packed.unlink(missing_ok=True)
    write_json(path.with_suffix(".json"), beside)
    return True


def _refuse_unreadable(path: Path, content: bytes, beside: dict[str, Any]) -> None:
    """Refuse to write a run that would not be read again: the whole folder would not be."""
    cure = "Nothing was written: correct what the suite gives."
    try:
        rows = as_columns(path, split_rows(path, content.decode(), cure), cure, "")
        if not rows.lines:
            raise Refusal(f"{path} would have no rows. {cure}")
        long_rows(rows, COLUMNS)
        check_provenance(path, beside, cure)
    except Refusal as refusal:
        raise Failure(str(refusal)) from refusal


def _beside(path: Path) -> dict[str, Any] | None:
    """What a run's JSON says; None where it does not vouch for the CSV."""
    try:
        return read_run(path)[1]
    except Refusal:
        return None


def read(results: Path, *, whole: bool = False) -> "pd.DataFrame":
    """Return all measurements below `results`, in long form; empty where there are none.

    Args:
        whole: Leave out runs on a subset of the images, as their JSON says.

    Raises:
        Refusal: A file is damaged, edited or not the one that was written there, or two runs on one
            data set are of different images.
    """
    import pandas as pd

    if (results / PUBLISHED).is_file():
        verify(results)
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    images: dict[str, tuple[str, Path]] = {}
    for path in run_files(results):
        rows, beside = read_run(path)
        _check_images(images, beside, path)
        if not (whole and beside["limit"]):
            for name, values in columns.items():
                values += rows[name]
    return pd.DataFrame(columns)


def read_provenances(results: Path, *, whole: bool = False) -> dict[tuple, dict[str, Any]]:
    """Return what made each run below `results`, by (dataset, suite, model, seed).

    Args:
        whole: Leave out runs on a subset of the images.

    Raises:
        Refusal: A JSON is damaged or edited.
    """
    found = {}
    for path in run_files(results):
        beside = read_provenance(path.with_suffix(".json"))
        if not (whole and beside["limit"]):
            found[tuple(beside[name] for name in KEY)] = beside
    return found


def run_files(results: Path) -> list[Path]:
    """Return the CSVs of all runs below a folder, in order, also where only the JSON is there.

    Raises:
        Refusal: A folder cannot be read.
    """
    places = [place for place in list_folder(results) if place.name not in NO_DATASETS]
    for _ in range(3):
        places = [inner for place in places for inner in list_folder(place)]
    return sorted({p.with_suffix(".csv") for p in places if RUN_FILE.fullmatch(p.name)})


def read_run(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return the rows of a run, column by column, and what its JSON says, which vouches for them.

    Raises:
        Refusal: One of them is not there, is damaged, or is not of the other.
    """
    if not path.is_file():
        raise Refusal(f"{path} is not there, though its JSON is. {AGAIN}")
    file = read_rows(path, ended=True)
    rows = long_rows(file, COLUMNS)
    beside = read_provenance(path.with_suffix(".json"))
    for column in (*KEY, "run"):
        if len(set(rows[column])) > 1:
            raise Refusal(f"{path} holds several of `{column}`. {AGAIN}")
    if not rows["seed"]:
        raise Refusal(f"{path} is damaged: it has no rows. {AGAIN}")
    dataset, suite, model, seed, run = (rows[column][0] for column in (*KEY, "run"))
    place = safe(dataset), safe(suite), safe(model), f"seed{seed}.csv"
    if place != path.absolute().parts[-4:]:
        raise Refusal(
            f"{path} holds {model} on {dataset}, {suite}, seed {seed}: it was moved or edited. "
            f"{AGAIN}"
        )
    if (dataset, suite, model, seed, run) != tuple(beside[column] for column in (*KEY, "run")):
        raise Refusal(
            f"{path.with_suffix('.json')} is of another run than the CSV beside it. {AGAIN}"
        )
    if beside["csv"] != file.sha256:
        raise Refusal(
            f"{path} is not the table that its JSON vouches for: it was edited, or a run was "
            f"stopped between writing the two. {AGAIN}"
        )
    return rows, beside


def _check_images(images: dict[str, tuple[str, Path]], beside: dict[str, Any], path: Path) -> None:
    """Refuse runs on different images under one name of a data set."""
    name = name_of_images(beside["dataset"])
    data, other = images.setdefault(name, (beside["data"], path))
    if data != beside["data"]:
        one, two = other.with_suffix(".json"), path.with_suffix(".json")
        raise Refusal(
            f"{one} and {two} are of different test images, though both say `{name}`. Keep them "
            "in different folders, or run one again under another name: `--dataset NAME=PATH`."
        )


def select(
    results: Path,
    suites: Sequence[str],
    datasets: Sequence[str],
    models: Sequence[str],
    *,
    whole: bool = False,
) -> "pd.DataFrame":
    """Return the measurements of these suites, data sets and models; of all for an empty list.

    Args:
        whole: Leave out runs on a subset of the images.

    Raises:
        Refusal: There are none at all, or none of one of these names.
    """
    frame, models = read(results, whole=whole), [spell(name) for name in models]
    if frame.empty and whole and run_files(results):
        raise Refusal(
            f"All results in {results} are of a subset of the test images, which are not compared "
            "with others. Run it again without `--limit`."
        )
    if frame.empty:
        raise Refusal(
            f"There are no results in {results}. Run `harness run --suite robustness --model "
            "pde_aug`."
        )
    for column, names in (("suite", suites), ("dataset", datasets), ("model", models)):
        for name in names:
            if name not in set(frame[column]):
                raise unknown(f"{column} in {results}", name, frame[column].unique())
        if names:
            frame = frame[frame[column].isin(names)]
    return frame


def order_models(frame: "pd.DataFrame", models: Iterable[str]) -> "pd.DataFrame":
    """Return `frame` with its models in the order of `models`, those not in it last."""
    place = {spell(name): i for i, name in enumerate(models)}
    rank = frame["model"].map(lambda name: place.get(name, len(place)))
    return frame.iloc[rank.argsort(kind="stable")]


def own_or_published(results: Path) -> Path:
    """Return a results folder, or the published one in it where it holds no runs of its own."""
    published = results / PUBLISHED_FOLDER
    return published if published.is_dir() and not run_files(results) else results


def cells_root(results: Path) -> Path:
    """Return where the cells of a results folder lie; those of `quick` lie beside it."""
    own = results / "cells"
    return results.parent / "cells" if results.name == QUICK and not own.is_dir() else own
