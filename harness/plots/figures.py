"""Figures of what is in the results, as files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from harness import models  # noqa: F401  fills the registry
from harness.analysis.collect import samples
from harness.analysis.groups import by_severity
from harness.analysis.leaderboard import leaderboard, of_samples
from harness.analysis.outcomes import StoredOutcomes
from harness.models.base import MODELS
from harness.plots.attention import STATISTICS, attention_statistics, instability_curve, kinds_of
from harness.plots.nfe import DEPTH, nfe_curve, solver_matrix
from harness.plots.pictures import drawn
from harness.plots.severity import severity_curve
from harness.plots.stability import growth_curves
from harness.storage.checkpoints import safe
from harness.storage.results import csv_path, read
from harness.suites.datasets import load

BASELINE = "resnet18"  # drawn in gray


def draw(
    results: Path,
    suites: Sequence[str],
    datasets: Sequence[str],
    data: Path,
    chosen: Sequence[str] = (),
) -> list[Path]:
    """Write results/figures/DATASET-SUITE.png where there is something to draw.

    What a suite's figures are follows from its metrics: severity curves of accuracy under
    corruption; accuracy against evaluations (with DATASET-SUITE-matrix.png, and
    DATASET-SUITE-MODEL.png of what images cost); statistics of maps (with -instability, and
    DATASET-SUITE-MODEL.png of where a model looks); growth by depth.

    Args:
        data: Folder of data files; without the test images, figures that show some are left out.
        chosen: Models to draw, all for none; the baseline is drawn beside them.

    Returns:
        The files written.
    """
    paths: list[Path] = []
    order = list(MODELS)
    for (dataset, suite), part in read(results).groupby(["dataset", "suite"], sort=False):
        if suite not in suites or dataset not in datasets:
            continue
        if chosen:
            part = part[part["model"].isin([*chosen, BASELINE])]
        figures: dict[str, Figure] = {}
        metrics = set(part["metric"])
        if "nfe" in metrics:
            if set(part["condition"]) != {DEPTH}:
                figures[""] = nfe_curve(part, order)
                figures["-matrix"] = solver_matrix(part, order)
                figures |= with_images(results, part, data)
        elif kinds_of(list(metrics)):
            # Of attention and of Grad-CAM apart: their grids and meaning differ.
            cams = part["metric"].str.contains("gradcam").groupby(part["model"]).transform("any")
            for suffix, here in (("", part[~cams]), ("-gradcam", part[cams])):
                if len(here):
                    figures |= map_figures(results, here, suffix, order)
            figures |= with_images(results, part, data)
        elif part["metric"].str.startswith("log10_growth").any():
            figures[""] = growth_curves(part, BASELINE, order)
        elif set(part["condition"]) != {"clean"}:
            figures[""] = severity_curve(part, BASELINE, order)
        for suffix, figure in figures.items():
            path = results / "figures" / f"{safe(dataset)}-{suite}{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=160)
            paths.append(path)
    return paths


def map_figures(
    results: Path, part: pd.DataFrame, suffix: str, order: Sequence[str]
) -> dict[str, Figure]:
    """Return the figures of maps of one kind: their statistics, and how far they move."""
    shown = part[part["condition"].eq("clean") & part["metric"].isin(drawn_metrics(part))]
    board = leaderboard(shown, StoredOutcomes(results))
    figures = {suffix: attention_statistics(board, order)}
    if set(part["condition"]) != {"clean"}:
        moved = part[part["metric"].str.startswith("instability_")]
        found = samples(moved, StoredOutcomes(results), grouping=by_severity)
        figures[f"{suffix}-instability"] = instability_curve(of_samples(found), order)
    return figures


def drawn_metrics(frame: pd.DataFrame) -> list[str]:
    """Return the metrics of maps that `attention_statistics` shows."""
    kinds = kinds_of(list(dict.fromkeys(frame["metric"])))
    return [f"{statistic}_{kind}" for statistic in STATISTICS for kind in kinds]


def with_images(results: Path, part: pd.DataFrame, data: Path) -> dict[str, Figure]:
    """Return the figures that show test images, none where these are not there."""
    dataset, suite = part["dataset"].iloc[0], part["suite"].iloc[0]
    try:
        split = load(dataset, train=False, root=data)
    except (LookupError, FileNotFoundError, ValueError):
        return {}
    runs = part[["model", "seed"]].drop_duplicates().itertuples(index=False)
    paths = [csv_path(results, dataset, suite, model, seed) for model, seed in runs]
    return drawn(results, paths, suite, split)
