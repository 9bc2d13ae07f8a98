"""Proper scores and calibration, clean and under corruption."""

import math
from collections.abc import Sequence

from harness.analysis.groups import CORRUPTED
from harness.analysis.ratios import ratio
from harness.analysis.sample import Sample
from harness.present.request import Means, estimate
from harness.present.sheet import DATASET, MODEL, Row, Sheet, fixed, number
from harness.suites.metrics import METRICS

SCORES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
SQUARED = "squared_calibration_error"  # shown as its root
CALIBRATION = "calibration error"
ROOTS = ("calibration", "calibration_corrupted")  # keys of these roots
OVER = "corrupted_over"  # key of what a mean is over, where others are over something else
ROOT = (
    "The calibration error is the root mean square of accuracy less confidence, in points, over "
    "ECE's bins, without what chance adds to it; ECE has that, and no interval."
)


def calibration_sheet(of_models: Sequence[tuple[Row, Means]], notes: Sequence[str]) -> Sheet:
    """Return proper scores, clean, under corruption and their ratio, and calibration.

    Args:
        of_models: What names each model, and its means.
    """
    rows = []
    for names, of in of_models:
        row = dict(names)
        for score in SCORES:
            clean, corrupted = (of.get((score, "", g)) for g in ("clean", CORRUPTED))
            row |= estimate(score, clean) | estimate(f"{score}_corrupted", corrupted)
            # Chance raises ECE, of few errors more than of many: its ratio says nothing.
            if not METRICS[score].biased:
                row |= ratio_of(f"{score}_ratio", corrupted, clean)
        for group, key in zip(("clean", CORRUPTED), ROOTS, strict=True):
            row |= calibration(key, of.get((SQUARED, "", group)))
        rows.append(row)
    columns, titles = [DATASET, MODEL], SCORES | {"calibration": CALIBRATION}
    for drop, (score, title) in zip((3, 7, 5, 3), titles.items(), strict=True):
        form = fixed(1 if score == "calibration" else 3)
        columns += [
            number(score, f"{title} clean", form, drop, interval=9),
            number(f"{score}_corrupted", f"{title} corrupted", form, drop, interval=9, over=OVER),
            number(f"{score}_ratio", f"{title} ratio", fixed(2), drop + 1, interval=9, over=OVER),
        ]
    said = [ROOT] if any(row[key] is not None for row in rows for key in ROOTS) else []
    return Sheet(columns, rows, [*notes, *said], "calibration")


def ratio_of(key: str, above: Sample | None, below: Sample | None) -> Row:
    """Return the ratio of two means of a model with its interval, as they stand in a row."""
    found = ratio(above, below) if above and below else (None, None, None)
    return dict(zip((key, f"{key}_low", f"{key}_high"), found, strict=True))


def calibration(key: str, squared: Sample | None) -> Row:
    """Return the root of the squared calibration error, in points, as it stands in a row."""
    found = estimate(key, squared).items()
    return {k: v if v is None or math.isnan(v) else max(0.0, v) ** 0.5 for k, v in found}
