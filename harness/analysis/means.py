"""Means over seeds, condition by condition."""

import pandas as pd


def by_condition(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Average over seeds: a row for each (dataset, suite, model, condition, level).

    Returns:
        The key, `value`, `seeds` and `n`, in the order in which the conditions first appear.
    """
    chosen = frame[(frame["metric"] == metric) & (frame["variant"] == "")]
    key = ["dataset", "suite", "model", "condition", "level"]
    grouped = chosen.groupby(key, sort=False, as_index=False)
    return grouped.agg(value=("value", "mean"), seeds=("seed", "nunique"), n=("n", "first"))
