"""Metrics of the suite `stability`: how changes grow with depth, and step sizes.

Formulas are in `harness.suites.stability`.
"""

from harness.suites.metric import Metric

GROWTH = Metric(
    "log10_growth",
    "growth, log10",
    "log10 of the relative change behind a block over that of the image.",
    by_image=True,
)
GRADIENT_NORM = Metric(
    "log10_gradient_norm",
    "gradient norm, log10",
    "log10 of |d loss / d h| behind a block.",
    by_image=True,
)
SPECTRAL_NORM = Metric(
    "spectral_norm",
    "spectral norm",
    "Largest singular value of a block's derivative.",
    low=0,
    by_image=True,
)
SPECTRAL_RADIUS = Metric(
    "spectral_radius",
    "spectral radius",
    "Largest |eigenvalue| of a block's derivative.",
    low=0,
    by_image=True,
)
LOG_NORM = Metric(
    "log_norm",
    "logarithmic norm",
    "Largest eigenvalue of (J + J^T) / 2, less 1; <= 0 where the flow of a block contracts.",
    by_image=True,
)
STEP_RATIO = Metric(
    "step_ratio",
    "step over limit",
    "Step size of a block over its stability limit.",
    low=0,
    by_image=True,
)

OF_DEPTH = (GROWTH, GRADIENT_NORM, SPECTRAL_NORM, SPECTRAL_RADIUS, LOG_NORM, STEP_RATIO)
