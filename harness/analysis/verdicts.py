"""Whether robust accuracies in a table can be believed: the checks in its rows, and the verdict.

The rows of a long table are enough, and so are those of a leaderboard, which hold the means over
seeds; nothing but the checks themselves is stored, so that a verdict always follows from them.
"""

import pandas as pd

from harness.analysis.belief import BELIEVED, verdict
from harness.suites.adversarial_metrics import (
    BELIEF,
    CHECKED_EPS,
    CHECKED_LEFT,
    GAP,
    ROBUST_ACCURACY,
)
from harness.suites.belief import Share
from harness.suites.radii import GRIDS, checks_of, size_in_words, solvers_of, transfer_of

Run = tuple[str, str, str]  # data set, suite, model
RUN = ["dataset", "suite", "model"]
NAMES = [metric.name for metric in (*BELIEF, GAP, CHECKED_EPS, CHECKED_LEFT)]
OF_CHECKS = (checks_of, solvers_of, transfer_of)
RANDOM = "fixed_less_eot"  # is there where gradients were means over draws


def verdicts(rows: pd.DataFrame) -> dict[Run, str]:
    """Return the verdict on each model's robust accuracy: "believed", or "upper bound: WHY".

    A model of several seeds is believed if each of them is.

    Args:
        rows: Of a long table, or of a leaderboard; models without robust accuracy are left out.
    """
    robust = rows[rows["metric"] == ROBUST_ACCURACY.name]
    found: dict[Run, str] = {}
    for names, part in _checks(rows, robust).items():
        said = {seed: verdict(_numbers(own), expected=_random(own)) for seed, own in part.items()}
        bad = {seed: text for seed, text in said.items() if text != BELIEVED}
        first = next(iter(bad.items()), None)
        if first is None:
            found[names] = BELIEVED
        else:
            found[names] = first[1] + (f" (seed {first[0]})" if len(said) > 1 else "")
    return found


def sentences(rows: pd.DataFrame) -> list[str]:
    """Return the verdicts in words, a line for each model, with what stands behind it."""
    robust, said = rows[rows["metric"] == ROBUST_ACCURACY.name], verdicts(rows)
    lines = []
    several = len({names[0] for names in said}) > 1
    for names, part in _checks(rows, robust).items():
        own = next(iter(part.values()))
        size = own[own["metric"] == CHECKED_EPS.name]
        left = own[own["metric"] == CHECKED_LEFT.name]
        behind = ""
        if len(size):
            level, count = float(size["value"].iloc[0]), int(size[_count(size)].iloc[0])
            behind = f" Checked on {count} images at {size_in_words('linf', level)}, linf"
            share = float(left["value"].iloc[0]) if len(left) else 0.0
            behind += f", of which {round(share * count)} withstand the attacks."
        of = f"{names[2]} on {names[0]}" if several else names[2]
        lines.append(f"{of}: {said[names]}.{behind}")
    return lines


def _checks(rows: pd.DataFrame, robust: pd.DataFrame) -> dict[Run, dict[int, pd.DataFrame]]:
    """The rows of checks by model and seed, of each run that has robust accuracy."""
    where = "group" if "group" in rows.columns else "condition"
    kept = rows["metric"].isin(NAMES) & rows["variant"].eq("")
    kept &= rows[where].isin([name(norm) for norm in GRIDS for name in OF_CHECKS])
    keys = [*RUN, "seed"] if "seed" in rows.columns else RUN
    of = {tuple(key): part for key, part in rows[kept].groupby(keys, sort=False)}
    found: dict[Run, dict[int, pd.DataFrame]] = {}
    for key in robust[keys].drop_duplicates().itertuples(index=False, name=None):
        run, seed = (str(key[0]), str(key[1]), str(key[2])), int(key[3]) if len(key) > 3 else 0
        found.setdefault(run, {})[seed] = of.get(key, rows.iloc[:0])
    return found


def _count(rows: pd.DataFrame) -> str:
    return "n" if "n" in rows.columns else "images"


def _numbers(rows: pd.DataFrame) -> dict[str, Share]:
    """The checks by name."""
    told = zip(rows["metric"], rows["value"], rows[_count(rows)], strict=True)
    return {str(name): Share(float(value), int(n)) for name, value, n in told}


def _random(rows: pd.DataFrame) -> bool:
    return bool(rows["metric"].eq(RANDOM).any())
