"""Figures of what is in the results, as files: which suite has which."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from harness.analysis.boards import MANY, outcomes_of
from harness.analysis.numbers import (
    CLEAN,
    MEAN,
    Samples,
    cell_samples,
    differences_of,
    intervals_of,
)
from harness.plots.adversarial import masking_matrix, robustness_curve
from harness.plots.attention import (
    STATISTICS,
    attention_statistics,
    instability_curve,
    is_cam,
    map_of,
)
from harness.plots.detection import detection_figure
from harness.plots.generation import METRICS as OF_SAMPLES
from harness.plots.generation import quality_curve
from harness.plots.generation import solved as sampled
from harness.plots.generic import metric_figure
from harness.plots.nfe import costs, nfe_curve, solved, solver_matrix
from harness.plots.severity import difference_figure, severity_curve
from harness.plots.stability import growth_curves
from harness.plots.style import BASELINE, Looks, Size, check_format, save
from harness.plots.training import training_curves
from harness.storage.files import safe
from harness.storage.histories import read_histories
from harness.storage.results import cells_root, csv_path, read
from harness.storage.sources import describe_source
from harness.suites.metric import is_bound
from harness.suites.radii import GRIDS


@dataclass(frozen=True)
class Part:
    """The results of one suite on one data set, and how they are drawn.

    Args:
        rows: Long table.
        data: Folder of data files.
    """

    results: Path
    dataset: str
    suite: str
    rows: pd.DataFrame
    looks: Looks
    data: Path
    size: Size | None = None

    def samples(self, rows: pd.DataFrame) -> Samples:
        """Return what is known of the means of some rows, with the tables' intervals."""
        large = len(rows) >= MANY
        return cell_samples(rows, outcomes_of(self.results, remember=large), None, None)


def robustness_figures(part: Part) -> dict[str, Figure]:
    """Accuracy by corruption and severity, and how models differ from the baseline."""
    rows = part.rows[(part.rows["metric"] == "accuracy") & (part.rows["variant"] == "")]
    if set(rows["condition"]) <= {CLEAN}:
        return generic_figures(part)
    found = part.samples(rows)
    figures = {"": severity_curve(intervals_of(found), part.looks, part.size)}
    less = differences_of(found, part.looks.baseline)
    if set(less["condition"]) - {CLEAN}:  # not where they share no corruption
        figures["-differences"] = difference_figure(less, part.looks, part.size)
    return figures


def nfe_figures(part: Part) -> dict[str, Figure]:
    """Accuracy against evaluations and multiply-adds, solver by solver, and what images cost."""
    shown = ["accuracy", "nfe", "evaluations", "macs", "trained_with"]
    kept = part.rows["metric"].isin(shown) & (part.rows["variant"] == "")
    numbers = intervals_of(part.samples(part.rows[kept]))
    models = solved(costs(numbers))["model"].nunique()
    if models == 0:
        return {}
    figures = {"": nfe_curve(numbers, part.looks, part.size)}
    if (numbers["metric"] == "macs").any():
        figures["-multiply-adds"] = nfe_curve(numbers, part.looks, part.size, "macs")
    if models > 1:
        figures["-matrix"] = solver_matrix(numbers, part.size)
    return figures | with_images(part)


def attention_figures(part: Part) -> dict[str, Figure]:
    """What maps look like, how far they move, and where models look.

    Attention and Grad-CAM have figures of their own: their grids and meaning differ.
    """
    cams = part.rows["variant"].map(is_cam).groupby(part.rows["model"]).transform("any")
    whole = part.rows["variant"].map(map_of).ne("")
    clean = part.rows["condition"].eq(CLEAN) & part.rows["metric"].isin(STATISTICS)
    figures: dict[str, Figure] = {}
    for suffix, here in (("", whole & ~cams), ("-gradcam", whole & cams)):
        shown = part.rows[here & clean]
        if len(shown):
            numbers = intervals_of(part.samples(shown))
            figures[suffix] = attention_statistics(numbers, part.looks, part.size)
        moved = part.rows[here & part.rows["metric"].eq("instability")]
        if len(moved):
            numbers = intervals_of(part.samples(moved))
            numbers = numbers[numbers["condition"] != MEAN]
            figures[f"{suffix}-instability"] = instability_curve(numbers, part.looks, part.size)
    return figures | with_images(part)


def stability_figures(part: Part) -> dict[str, Figure]:
    """Growth by depth."""
    return {"": growth_curves(part.rows, part.looks, part.size)}


def ood_figures(part: Part) -> dict[str, Figure]:
    """How well other data sets are told from the images' own."""
    rows = part.rows[part.rows["metric"].eq("ood_auroc")]
    if rows.empty:
        return generic_figures(part)
    return {"": detection_figure(intervals_of(part.samples(rows)), part.looks, part.size)}


def adversarial_figures(part: Part) -> dict[str, Figure]:
    """Robust accuracy over eps; of models with a solver attacks through others."""
    robust = part.rows["metric"].eq("robust_accuracy") & part.rows["condition"].isin(GRIDS)
    certified = part.rows["metric"].eq("certified_accuracy")
    clean = part.rows["metric"].eq("accuracy") & part.rows["condition"].eq(CLEAN)
    rows = part.rows[(robust | certified | clean) & part.rows["variant"].eq("")]
    if not robust.any():
        return generic_figures(part)
    made = {"": robustness_curve(intervals_of(part.samples(rows)), part.looks, part.size)}
    through = part.rows[part.rows["metric"].eq("accuracy_through")]
    if len(through):
        made["-solvers"] = masking_matrix(intervals_of(part.samples(through)), part.size)
    return made


def generation_figures(part: Part) -> dict[str, Figure]:
    """Quality of samples against evaluations, solver by solver."""
    numbers = intervals_of(part.samples(part.rows[part.rows["metric"].isin(("nfe", *OF_SAMPLES))]))
    if sampled(numbers).empty:
        return generic_figures(part)
    return {"": quality_curve(numbers, part.size)}


def generic_figures(part: Part) -> dict[str, Figure]:
    """All metrics, by condition and level; of any suite."""
    rows = part.rows[~part.rows["variant"].map(is_bound)]
    return {"": metric_figure(intervals_of(part.samples(rows)), part.looks, part.size)}


def with_images(part: Part) -> dict[str, Figure]:
    """Return the figures that show test images, where answers to them are stored."""
    if not cells_root(part.results).is_dir():
        return {}
    from harness.plots.pictures import picture_figures  # PyTorch, which no other figure needs

    first = part.rows.groupby("model", sort=False)["seed"].min()
    runs = {str(model): int(seed) for model, seed in first.items()}
    return picture_figures(part.results, part.dataset, part.suite, runs, part.data, part.size)


FIGURES: dict[str, Callable[[Part], dict[str, Figure]]] = {
    "robustness": robustness_figures,
    "cifar10_c": robustness_figures,
    "imagenet_c": robustness_figures,
    "nfe": nfe_figures,
    "attention": attention_figures,
    "stability": stability_figures,
    "ood": ood_figures,
    "adversarial": adversarial_figures,
    "generation": generation_figures,
}  # all others: `generic_figures`


def draw(
    results: Path,
    suites: Sequence[str],
    datasets: Sequence[str],
    data: Path,
    models: Sequence[str] = (),
    *,
    format: str = "png",
    size: Size | None = None,
    figures: Mapping[str, Callable[[pd.DataFrame], Figure]] = {},
    out: Path | None = None,
) -> list[Path]:
    """Write results/figures/DATASET-SUITE.png and others, and DATASET-training.png.

    Args:
        data: Folder of data files; without the test images, figures that show some are left out.
        models: To draw, all for none; the baseline is drawn beside them.
        format: "png", "pdf" or "svg".
        size: (width, height) in inches, None for what each figure needs.
        figures: Of users' suites, by name: (the suite's rows) to its figure.
        out: Folder to write below, where it is another than `results`.

    Returns:
        The files written.

    Raises:
        Refusal: There is no such format, or a figure does not fit into the size.
    """
    check_format(format)
    table, paths = read(results), list[Path]()
    looks = Looks({*table["model"], *read_histories(results)["model"]})
    names = [*models, BASELINE] if models else []

    def write(made: Figure, files: Iterable[Path], *words: str) -> None:
        name = f"{'-'.join(words)}.{format}"
        source = describe_source(name, results, files)
        paths.append(save(made, (out or results) / "figures" / name, source))

    shown = table[table["suite"].isin(suites) & table["dataset"].isin(datasets)]
    shown = shown[shown["model"].isin(names)] if names else shown
    for key, rows in shown.groupby(["dataset", "suite"], sort=False):
        dataset, suite = map(str, key)
        own = figures.get(suite)
        part = Part(results, dataset, suite, rows, looks, data, size)
        made = {"": own(rows)} if own else FIGURES.get(suite, generic_figures)(part)
        runs = rows[["model", "seed"]].drop_duplicates().itertuples(index=False)
        files = [csv_path(results, dataset, suite, str(m), int(seed)) for m, seed in runs]
        for suffix, figure in made.items():
            write(figure, files, safe(dataset), safe(suite) + suffix)
    for dataset, figure in training_curves(results, names, looks=looks, size=size).items():
        if dataset in datasets:
            files = list((results / "checkpoints" / safe(dataset)).glob("*/seed*.json"))
            write(figure, files, safe(dataset), "training")
    return paths
