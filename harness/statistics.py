"""Frame in, frame out: means with their intervals.

Every interval is a 95 % interval. That of a single rate is Wilson's. Else, with one training seed
it covers the choice of images, with more also the choice of seed: the estimate plus or minus
t sqrt(V), V = V_seed + V_image from the two-way analysis of variance of the (seed, image) outcomes,
t with Satterthwaite's degrees of freedom. The cells of a suite hold the same images, so an image
with all its outcomes is one observation.

Reference: F. E. Satterthwaite, An approximate distribution of estimates of variance components,
Biometrics Bulletin 2(6), 1946; E. B. Wilson, Probable inference, the law of succession, and
statistical inference, JASA 22(158), 1927.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import t as student

Z = 1.959963984540054
Outcomes = Callable[[str, str, str, int], np.ndarray | None]


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Return the Wilson interval of a rate `hits / n`."""
    if n < 1:
        raise ValueError(f"An interval needs at least one image; got {n}.")
    p = hits / n
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, center - half), min(1.0, center + half)


def interval(
    value: float, v_seed: float, v_image: float, seeds: int, n: int
) -> tuple[float, float]:
    """Return value -+ t sqrt(V) for V = v_seed + v_image, clipped to [0, 1].

    Outcomes that are all alike show no variance, which is no certainty: then it is Wilson's.
    """
    v = v_seed + v_image
    if v <= 0:
        return wilson(value * n, n)
    parts = v_image**2 / max(n - 1, 1) + (v_seed**2 / (seeds - 1) if seeds > 1 else 0)
    half = student.ppf(0.975, v**2 / parts) * math.sqrt(v)
    return max(0.0, value - half), min(1.0, value + half)


def crossed(outcomes: np.ndarray) -> tuple[float, float]:
    """Return (V_seed, V_image), the parts of the variance of the mean of `outcomes` (seeds, N)."""
    seeds, n = outcomes.shape
    if seeds == 1:
        return 0.0, float(outcomes.var(ddof=1)) / n if n > 1 else 0.0
    of_seed, of_image = outcomes.mean(axis=1), outcomes.mean(axis=0)
    rest = outcomes - of_seed[:, None] - of_image[None, :] + outcomes.mean()
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * max(n - 1, 1))
    v_seed = float(of_seed.var(ddof=1)) / seeds
    v_image = max(0.0, float(of_image.var(ddof=1)) / n - ms_rest / (seeds * n))
    return v_seed, v_image


def by_condition(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Average over seeds: a row for each (dataset, suite, model, condition, level).

    Returns:
        The key, `value`, `seeds` and `n`, in the order in which the conditions first appear.
    """
    chosen = frame[frame["metric"] == metric]
    key = ["dataset", "suite", "model", "condition", "level"]
    grouped = chosen.groupby(key, sort=False, as_index=False)
    return grouped.agg(value=("value", "mean"), seeds=("seed", "nunique"), n=("n", "first"))


def summary(
    frame: pd.DataFrame, groups: dict[str, list[str]], outcomes: Outcomes | None = None
) -> pd.DataFrame:
    """Summarize accuracy under corruption: a row for each (dataset, suite, model).

    Args:
        frame: Long table; its corruptions are all conditions but "clean".
        groups: Names of groups of corruptions, such as "noise"; a column for each.
        outcomes: `(dataset, suite, model, seed)` to booleans (cells, N) over the corrupted cells,
            or None where they are not stored. Without them the interval takes the variance of the
            mean as if all cells had the same outcome for an image: a bound, too wide by some.

    Returns:
        The key, `clean`, `value` (mean corruption accuracy over cells and seeds), `low`, `high`,
        `relative` (value / clean), a column for each group, `seeds`, `n`.
    """
    rows = []
    accuracy = frame[frame["metric"] == "accuracy"]
    for (dataset, suite, model), part in accuracy.groupby(
        ["dataset", "suite", "model"], sort=False
    ):
        corrupted = part[part["condition"] != "clean"]
        clean = part.loc[part["condition"] == "clean", "value"].mean()
        taken = corrupted if len(corrupted) else part
        seeds = sorted(taken["seed"].unique())
        table = taken.pivot_table(index="seed", columns=["condition", "level"], values="value")
        value, n = float(table.to_numpy().mean()), int(taken["n"].min())
        stored = [outcomes(dataset, suite, model, s) for s in seeds] if outcomes else [None]
        if any(o is None for o in stored) or len({o.shape for o in stored if o is not None}) > 1:
            p = table.mean(axis=0).to_numpy()
            of_seed = table.mean(axis=1).to_numpy()
            v_image = float((p * (1 - p)).mean()) / n
            v_seed = float(of_seed.var(ddof=1)) / len(seeds) if len(seeds) > 1 else 0.0
        else:
            v_seed, v_image = crossed(np.stack([o.mean(axis=0) for o in stored if o is not None]))
        if table.size == 1:  # a single rate
            low, high = wilson(value * n, n)
        else:
            low, high = interval(value, v_seed, v_image, len(seeds), n)
        row = {"dataset": dataset, "suite": suite, "model": model, "clean": clean}
        row |= {"value": value, "low": low, "high": high, "relative": value / clean}
        for group, names in groups.items():
            row[group] = taken.loc[taken["condition"].isin(names), "value"].mean()
        rows.append(row | {"seeds": len(seeds), "n": n})
    return pd.DataFrame(rows)
