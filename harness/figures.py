"""Figures of what is in the results, as files."""

from collections.abc import Sequence
from pathlib import Path

import models  # noqa: F401  fills the registry
from harness.checkpoints import safe
from harness.plots import severity_curve
from harness.results import read
from models.base import MODELS

BASELINE = "resnet18"  # drawn in gray


def draw(results: Path, suites: Sequence[str], datasets: Sequence[str]) -> list[Path]:
    """Write results/figures/DATASET-SUITE.png where there are corruptions to draw.

    Returns:
        The files written.
    """
    paths = []
    for (dataset, suite), part in read(results).groupby(["dataset", "suite"], sort=False):
        corrupted = set(part["condition"]) != {"clean"}
        if suite in suites and dataset in datasets and corrupted:
            path = results / "figures" / f"{safe(dataset)}-{suite}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            severity_curve(part, BASELINE, list(MODELS)).savefig(path, dpi=160)
            paths.append(path)
    return paths
