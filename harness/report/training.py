"""Training curves: loss and accuracy by epoch, the mean over seeds and how far seeds lie apart."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.report.numbers import Number, convert, count_decimals, unit_of
from harness.suites.metric import Metric
from harness.suites.metrics import METRICS

METRIC_OF = {
    "loss": METRICS["nll"],
    "accuracy": METRICS["accuracy"],
    "held_out": METRICS["accuracy"],
}
TITLES = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "held_out": "accuracy on held-out images",
}


def training(histories: pd.DataFrame, place: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the training curves of each data set, in the form of `curves.curves`.

    Args:
        histories: As of `storage.histories`.
        place: Number of each model in the page; others are left out.

    Returns:
        A metric for each score; of a model [mean, lowest, highest seed] of every epoch, flat.
    """
    known = histories[histories["model"].isin(list(place))]
    return [
        {
            "dataset": dataset,
            "suite": "training",
            "conditions": ["mean over seeds"],
            "cells": [[0, int(epoch)] for epoch in sorted(part["epoch"].unique())],
            "x": "epoch",
            "log": False,
            "at": None,
            "everywhere": None,
            "seeds": int(part["seed"].nunique()),
            "metrics": [
                _score(score, part, place) for score in TITLES if part[score].notna().any()
            ],
        }
        for dataset, part in known.groupby("dataset", sort=False)
    ]


def _score(score: str, part: pd.DataFrame, place: Mapping[str, int]) -> dict[str, Any]:
    metric: Metric = METRIC_OF[score]
    epochs = sorted(part["epoch"].unique())
    places = count_decimals(metric, part[score])
    lines: dict[str, list[Number]] = {}
    for model, own in part.groupby("model", sort=False):
        by_epoch = own.groupby("epoch")[score].agg(["mean", "min", "max"]).reindex(epochs)
        lines[str(place[str(model)])] = [
            convert(metric, v, places) if math.isfinite(v) else None
            for row in by_epoch.itertuples(index=False)
            for v in row
        ]
    return {
        "metric": score,
        "variant": "",
        "title": TITLES[score],
        "unit": unit_of(metric),
        "better": metric.sign,
        "places": places,
        "models": lines,
    }
