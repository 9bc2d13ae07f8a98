"""Figures of what is in the results, as files."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

import models  # noqa: F401  fills the registry
from harness.checkpoints import safe
from harness.nfe_plots import DEPTH, nfe_curve, solver_matrix
from harness.plots import severity_curve
from harness.results import read
from models.base import MODELS

BASELINE = "resnet18"  # drawn in gray


def draw(results: Path, suites: Sequence[str], datasets: Sequence[str]) -> list[Path]:
    """Write results/figures/DATASET-SUITE.png where there is something to draw.

    What a suite's figures are follows from its metrics: severity curves of accuracy under
    corruption, or accuracy against evaluations (and DATASET-SUITE-matrix.png).

    Returns:
        The files written.
    """
    paths: list[Path] = []
    for (dataset, suite), part in read(results).groupby(["dataset", "suite"], sort=False):
        if suite not in suites or dataset not in datasets:
            continue
        figures: dict[str, Figure] = {}
        if "nfe" in set(part["metric"]):
            if set(part["condition"]) != {DEPTH}:
                figures[""] = nfe_curve(part, list(MODELS))
                figures["-matrix"] = solver_matrix(part, list(MODELS))
        elif set(part["condition"]) != {"clean"}:
            figures[""] = severity_curve(part, BASELINE, list(MODELS))
        for suffix, figure in figures.items():
            path = results / "figures" / f"{safe(dataset)}-{suite}{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=160)
            paths.append(path)
    return paths
