"""The mCE of ImageNet-C: corruption errors against AlexNet's, as its authors published them.

    mCE = 100 mean over the 15 common corruptions c of E_c / E_AlexNet,c,    E_c = mean_s E(s, c)

It is of all 50,000 validation images, at the size of the published pictures. AlexNet's errors are
constants here: the interval is that of the model's own. The relative mCE needs AlexNet's clean
error, which was not published with these.

Reference: D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261;
https://github.com/hendrycks/robustness.
"""

import re
from collections.abc import Mapping

import pandas as pd

from harness.analysis.collect import Key
from harness.analysis.corruption_error import (
    KINDS,
    errors_of,
    is_accuracy,
    is_complete,
    weighted_sum,
)
from harness.analysis.sample import Sample

SUITE = "imagenet_c"
IMAGES = 50_000
SMALLER = re.compile(r"-c\[\d+ px\]")  # in a data set's name: pictures shrunk from their size
# Top-1 errors of AlexNet, means over the five severities, in the order of `KINDS`.
ALEXNET = dict(
    zip(
        KINDS,
        (
            *(0.886428, 0.894468, 0.922640),
            *(0.819880, 0.826268, 0.785948, 0.798360),
            *(0.866816, 0.826572, 0.819324, 0.564592),
            *(0.853204, 0.646056, 0.717840, 0.606500),
        ),
        strict=True,
    )
)


def is_whole(table: pd.DataFrame, model: str) -> bool:
    """Return whether a model's rows on a data set are all that the mCE of ImageNet-C is of.

    Args:
        table: Long table of one data set.
    """
    own = table[table["model"].eq(model) & table["suite"].eq(SUITE) & is_accuracy(table)]
    whole = own["n"].eq(IMAGES).all() and not own["dataset"].str.contains(SMALLER).any()
    return bool(len(own) and whole) and is_complete(own, model)


def alexnet_mce(table: pd.DataFrame, samples: Mapping[Key, Sample]) -> pd.DataFrame:
    """Return the mCE, in per cent of AlexNet's, of every model and data set that has all of it.

    Args:
        table: Long table.
        samples: Of its accuracies, by kind of corruption.

    Returns:
        `dataset`, `model`; `mce` with its 95 % interval as `mce_low` and `mce_high`; `seeds`, `n`,
        and E_c / E_AlexNet,c by corruption.
    """
    weights, rows = {kind: 100 / len(KINDS) / error for kind, error in ALEXNET.items()}, []
    for (dataset, model), own in table[is_accuracy(table)].groupby(["dataset", "model"]):
        if not is_whole(own, str(model)):
            continue
        groups = {
            key.group: sample
            for key, sample in samples.items()
            if (key.dataset, key.suite, key.model) == (dataset, SUITE, model)
        }
        mce = weighted_sum(groups, errors_of(own), weights)
        row = {"dataset": dataset, "model": model, "mce": mce.value}
        row |= {"mce_low": mce.low, "mce_high": mce.high, "seeds": mce.seeds, "n": IMAGES}
        rows.append(row | {kind: (1 - groups[kind].value) / e for kind, e in ALEXNET.items()})
    return pd.DataFrame(rows)
