"""What a Python program calls: models and folders in, data frames out.

Nothing heavy is imported before a call, so that `import harness` is quick.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union
from unicodedata import normalize

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from harness.comparison.sides import Side
    from harness.progress import Progress

    Model = str | nn.Module | Callable[..., nn.Module]

Table = Union["pd.DataFrame", str, Path]
FOLDER = "results"  # in a frame's `attrs`: the folder with the answers that it was made of
_SCRATCH: list[tempfile.TemporaryDirectory] = []  # kept until the program ends


def evaluate(
    model: "Model",
    suite: str | Sequence[str] = "clean",
    dataset: str | Sequence[str] = "digits",
    *,
    seeds: int | Sequence[int] | None = None,
    results: str | Path | None = None,
    weights: str | Path | None = None,
    limit: int = 0,
    width: int | None = None,
    epochs: int | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    preprocessing: str = "network",
    labels: str | Path | None = None,
    mapped_only: bool = False,
    skip_damaged: bool = False,
    corruptions: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    out_of_distribution: str | Sequence[str] = (),
    image_seed: int = 0,
    name: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """Evaluate a model with one or more suites; train it first if it has no weights.

    An `nn.Module` is evaluated as it is, in a copy, and never trained.

    Args:
        model: Module that maps images (N, 3, H, W), float, in [0, 1], to logits (N, num_classes);
            function `(num_classes=...)` that builds one; or name as on the command line, such as
            "pde_aug", "timm/resnet18" or "path/to/file.py:NAME".
        suite: Name or names, as `harness list suites`; `dataset` as `harness list datasets`.
        seeds: Training seeds, or how many; None is seed 0, or that of `weights`.
        results: Folder that keeps weights, answers and tables, so that the next call goes on from
            there. None keeps them in a temporary folder until the program ends.
        weights: File of weights, or a folder with one, in place of trained weights.
        limit: Number of test images, spread evenly; 0 for all.
        width: Channels of a model that scales; None is the data set's default.
        epochs: Passes over the training set; None is the recipe's default.
        data: Folder of data files; None is HARNESS_DATA, or ~/.cache/harness/data.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        batch_size: Batch size, which does not affect results; None is the device's default.
        preprocessing: What the model is given of an image: "network" is what it says itself; or
            "imagenet", or words such as "size=224 crop=0.875 mean=0.5 std=0.5 gray".
        labels: Which of the model's classes those of a folder are: "imagenet", or a CSV file.
        mapped_only: Whether it chooses among these alone.
        skip_damaged: Whether pictures that cannot be read are left out, and counted.
        corruptions: Of the suites that corrupt images, in place of their own choice; `metrics` are
            measured beside the usual ones. Names, or "path/to/file.py:NAME".
        out_of_distribution: Data set or data sets whose images the suite "ood" tells from those of
            `dataset`.
        image_seed: Seed of the random draws on test images.
        name: Name in tables; "" is that of the class, the function, or the model itself.
        progress: Whether to print on stderr what is being done.

    Returns:
        One measurement a row, with the columns model, suite, dataset, seed, condition, level,
        metric, variant, value, n (images) and run. Rates such as accuracy are fractions.

    Raises:
        harness.refusal.Refusal: What was asked for is not possible; the message says the cure.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    >>> table = evaluate(net, "clean", "digits", limit=50, name="linear")
    >>> print(table.query("metric == 'nll'")[["model", "suite", "n"]].to_string(index=False))
     model suite  n
    linear clean 50
    """
    return _evaluate(**locals())


def _evaluate(
    model: "Model",
    name: str,
    suite: str | Sequence[str],
    dataset: str | Sequence[str],
    seeds: int | Sequence[int] | None,
    progress: bool,
    results: str | Path | None,
    data: str | Path | None,
    weights: str | Path | None,
    labels: str | Path | None,
    corruptions: str | Sequence[str],
    metrics: str | Sequence[str],
    out_of_distribution: str | Sequence[str],
    **given: Any,
) -> "pd.DataFrame":
    """The measurements; `given` are options by their own names."""
    from harness.models.in_memory import source_of
    from harness.refusal import Refusal, user_input
    from harness.running.execute import execute
    from harness.running.options import Options
    from harness.running.plan import plan
    from harness.storage.files import data_folder
    from harness.storage.spelling import MOST, problem_of_name, problem_of_whole

    if name and (problem := problem_of_name(name)):
        raise Refusal(f"`name` {problem}. Give a name that can stand in a table.")
    if isinstance(seeds, int) and (problem := problem_of_whole(seeds, 1, MOST)):
        raise Refusal(f"`seeds` {problem}.")
    with user_input():
        source = model if isinstance(model, str) else source_of(model, normalize("NFC", name))
    options = Options(
        name=name if isinstance(model, str) else "",
        results=_scratch() if results is None else Path(results),
        data=data_folder(None if data is None else Path(data)),
        weights=() if weights is None else (Path(weights),),
        labels=None if labels is None else str(labels),
        corruptions=tuple(_several(corruptions)),
        metrics=tuple(_several(metrics)),
        out_of_distribution=tuple(_several(out_of_distribution)),
        **given,
    )
    numbers = range(seeds) if isinstance(seeds, int) else seeds or ()
    shown = _progress(progress)
    jobs = plan([source], _several(dataset), list(numbers), _several(suite), options, shown)
    return _read_runs([file.path for file in execute(jobs, options, shown)])


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _scratch() -> Path:
    _SCRATCH.append(tempfile.TemporaryDirectory(prefix="harness-"))
    return Path(_SCRATCH[-1].name)


def _progress(wanted: bool) -> "Progress":
    from harness.console import Console
    from harness.progress import Progress

    return Progress(Console(stderr=True), "normal" if wanted else "quiet")


def _read_runs(paths: Sequence[Path]) -> "pd.DataFrame":
    """The measurements of runs in one results folder."""
    import pandas as pd

    from harness.storage.results import read_run

    parts = [pd.DataFrame(read_run(path)[0]) for path in paths]
    return _with_folder(pd.concat(parts, ignore_index=True), paths[0].parents[3])


def _with_folder(frame: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    frame.attrs[FOLDER] = str(folder)
    return frame


def load_results(path: str | Path = "results") -> "pd.DataFrame":
    """Return all measurements below a results folder, in long form.

    Args:
        path: Folder that `harness run` or `evaluate(results=...)` wrote.

    Returns:
        The columns of `evaluate`.

    Raises:
        harness.refusal.Refusal: There are no results, or a file is damaged.

    >>> load_results("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    harness.refusal.Refusal: There are no results in no/such/folder. Run `harness run ...
    """
    from harness.storage.results import select

    return _with_folder(select(Path(path), [], [], []), Path(path))


def leaderboard(table: Table) -> "pd.DataFrame":
    """Return the mean of every metric of every model, with 95 % intervals and ranks.

    Args:
        table: Frame of `evaluate` or `load_results`, or a results folder. Models are compared image
            by image where the folder with their answers is known, as it is of these frames.

    Returns:
        A row for each data set, suite, metric, variant, group of conditions and model, with value,
        low, high, seeds, images, rank_low, rank_high, mde and basis; `low` to `high` is the
        interval over training seeds and images, `mde` the smallest difference from the best other
        model that would be found with power 80 %.

    Raises:
        harness.refusal.Refusal: There are no results, or a file is damaged.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    >>> for parameter in net.parameters():
    ...     _ = nn.init.zeros_(parameter)
    >>> board = leaderboard(evaluate(net, limit=50, name="always 0"))
    >>> nll = board.loc[board["metric"] == "nll", ["model", "value", "seeds", "images"]]
    >>> print(nll.round(3).to_string(index=False))
       model  value  seeds  images
    always 0  2.303      1      50
    """
    from harness.analysis import boards
    from harness.analysis.leaderboard import leaderboard as of_table

    frame = load_results(table) if isinstance(table, str | Path) else table
    if FOLDER not in frame.attrs:
        return of_table(frame)
    with boards.open_outcomes(Path(frame.attrs[FOLDER]), frame, _progress(False)) as outcomes:
        return of_table(frame, outcomes)


def compare(
    a: Table,
    b: Table | None = None,
    models: str = "",
    *,
    suites: Sequence[str] = (),
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    better: Mapping[str, Literal["up", "down"]] = {},
    progress: bool = False,
) -> "pd.DataFrame":
    """Compare two models, image by image where their answers are known.

    Args:
        a: Frame of `evaluate` or `load_results`, results folder, leaderboard or any CSV of numbers.
        b: The same; None is that of `a`.
        models: "a,b", a model of `a` and one of `b`; "" for those that both have, or the only two.
        suites: Names to keep; empty keeps all. `datasets` likewise.
        metrics: Names, such as "accuracy" or "accuracy(class 3)"; empty is accuracy.
        better: Which way is better, of metrics that do not say it themselves.
        progress: Whether to print on stderr what is being done.

    Returns:
        A row for each group of conditions and each condition: a and b (the models), value_a,
        value_b, difference (a less b), low and high of its 95 % interval, p and p_holm (adjusted
        within its family of rows), mde (the smallest difference that would be found with power
        80 %), paired (image by image), identical, seeds and images of both sides. The same in
        sentences, with what limits them, is in `frame.attrs["sentences"]`.

    Raises:
        harness.refusal.Refusal: Nothing can be compared, or a file is damaged.

    >>> from torch import nn
    >>> mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> pads = {"always 0": nn.ConstantPad1d((0, 7), -1), "always 7": nn.ConstantPad1d((7, 0), -1)}
    >>> a, b = (evaluate(nn.Sequential(mean, pad), limit=50, name=k) for k, pad in pads.items())
    >>> print(compare(a, b)[["a", "b", "difference", "paired"]].head(1).to_string(index=False))
           a        b  difference  paired
    always 0 always 7       -0.02    True
    """
    import pandas as pd

    from harness.comparison.compare import compare_sides

    first = _side(a, "the first table")
    second = first if b is None else _side(b, "the second table")
    names: Any = {"suites": suites, "datasets": datasets, "metrics": metrics, "better": better}
    found = compare_sides(first, second, models, **names, progress=_progress(progress))
    frame = pd.concat([part for part, _ in found], ignore_index=True)
    frame.attrs["sentences"] = [line for _, lines in found for line in lines]
    return frame


def _side(table: Table, name: str) -> "Path | Side":
    from harness.comparison.sides import Side

    if isinstance(table, str | Path):
        return Path(table)
    folder = table.attrs.get(FOLDER)
    return Side(Path(name), table=table, folder=folder and Path(folder))
