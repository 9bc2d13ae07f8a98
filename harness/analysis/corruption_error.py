"""CE, mCE and relative mCE against a named reference.

With E(s, c) the error at severity s of corruption c, E(0) the clean error, E_ref the reference's:

    CE_c          = sum_s E(s, c) / sum_s E_ref(s, c)                       a ratio of sums
    relative CE_c = sum_s (E(s, c) - E(0)) / sum_s (E_ref(s, c) - E_ref(0))
    mCE           = 100 mean of CE_c over the 15 common corruptions; relative mCE likewise

CIFAR has no agreed reference, so that an mCE without its reference's name says nothing. Seeds are
averaged before ratios are taken. Intervals are of the ratio, the reference being as uncertain as
the model: to first order mCE varies as the mean over c of 100 (E_c - CE_c E_ref,c) / E_ref,c, which
is a difference of two means over the same images. Where outcomes are not stored, the interval is
that of the largest variance that images can have at these rates, and of images that are not paired.

Reference: D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261, section 4.1.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from harness.analysis import Sample, difference, from_outcomes, interval
from harness.analysis.collect import Key, Outcomes, collect_samples
from harness.analysis.groups import FAMILIES, groups_of
from harness.refusal import Refusal

KINDS = FAMILIES["common"]
ANY = (-math.inf, math.inf)
REFERENCE = "resnet18"


def corruption_error(errors: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Return CE_c of errors (..., severities) against those of the reference.

    Raises:
        Refusal: The reference makes no errors, so that there is no ratio.
    """
    below = np.sum(reference, axis=-1)
    if np.any(below <= 0):
        raise Refusal(
            f"The reference's errors add up to {float(np.min(below)):g}, which nothing can be "
            "divided by. Name another reference."
        )
    return np.asarray(np.sum(errors, axis=-1) / below)


def is_accuracy(table: pd.DataFrame) -> pd.Series:
    """Return which rows are accuracies on all images."""
    return (table["metric"] == "accuracy") & (table["variant"] == "")


def is_complete(table: pd.DataFrame, reference: str) -> bool:
    """Return whether `reference` has all cells that an mCE needs, in every seed."""
    return not _missing(table, reference)


def _missing(table: pd.DataFrame, model: str) -> list[str]:
    of = table[(table["model"] == model) & is_accuracy(table)]
    per_seed = [
        set(groups_of(frozenset(zip(part["condition"], part["level"].astype(float), strict=True))))
        for _, part in of.groupby("seed")
    ]
    has = set.intersection(*per_seed) if per_seed else set()
    return [kind for kind in ("clean", *KINDS) if kind not in has]


def mean_corruption_error(
    table: pd.DataFrame,
    reference: str,
    outcomes: Outcomes | None = None,
    *,
    samples: Mapping[Key, Sample] | None = None,
) -> pd.DataFrame:
    """Return the mCE and relative mCE of every model that has all cells, in per cent.

    Args:
        table: Long table of one suite on one data set.
        reference: A model in it.
        outcomes: Where per-image outcomes come from.
        samples: Of the accuracies, where they are made already.

    Returns:
        `dataset`, `suite`, `model`; `mce[ref=R]` and `relative_mce[ref=R]`, each with its interval
        as `... low` and `... high`; `accuracy`, the mean over the 75 cells, and `difference`, that
        less the reference's; `seeds`, `n`, and CE_c by corruption.

    Raises:
        Refusal: A cell of the reference is missing, or a denominator is not positive.
    """
    if len(table[["dataset", "suite"]].drop_duplicates()) > 1:
        raise Refusal("mCE is of one suite on one data set; the table holds several. Choose one.")
    missing = _missing(table, reference)
    if missing:
        raise Refusal(
            f"mCE needs every corruption of the reference `{reference}`; missing: "
            f"{', '.join(missing)}. Run `harness run --suite robustness --corruption common "
            f"--model {reference}`."
        )
    if samples is None:
        samples = collect_samples(table[is_accuracy(table)], outcomes, keep=True)
    of: dict[str, dict[str, Sample]] = {}
    for key, sample in samples.items():
        of.setdefault(key.model, {})[key.group] = sample
    base, rows = of[reference], []
    rates = {model: errors_of(own) for model, own in table[is_accuracy(table)].groupby("model")}
    for model, groups in of.items():
        if not {"clean", "common"} <= groups.keys():
            continue
        row: dict = {name: table[name].iloc[0] for name in ("dataset", "suite")} | {"model": model}
        for name, clean in (("mce", 0.0), ("relative_mce", 1.0)):
            ce, weights = _ratios(groups, base, clean)
            sums = [
                weighted_sum(own, rates[who], w)
                for (who, own), w in zip(((model, groups), (reference, base)), weights, strict=True)
            ]
            column = f"{name}[ref={reference}]"
            mce = 100 * float(np.mean(list(ce.values())))
            half = 0.0 if model == reference else _half(*sums)
            row |= {column: mce, f"{column} low": mce - half, f"{column} high": mce + half}
            if clean == 0:
                of_kind = ce
        whole = groups["common"]
        row |= {"accuracy": whole.value, "difference": whole.value - base["common"].value}
        rows.append(row | {"seeds": whole.seeds, "n": whole.n} | of_kind)
    return pd.DataFrame(rows)


def _ratios(
    groups: dict[str, Sample], base: dict[str, Sample], clean: float
) -> tuple[dict[str, float], tuple[dict[str, float], dict[str, float]]]:
    """CE_c by corruption, and the weights of errors in the mCE: the model's and the reference's.

    Args:
        clean: 1 to take the clean error away, 0 not to.
    """

    def errors(of: dict[str, Sample], kind: str) -> float:
        return (1 - of[kind].value) - clean * (1 - of["clean"].value)

    ce, weights, weights_of_base = {}, {}, {}
    for kind in KINDS:
        below = errors(base, kind)
        if below <= 0:
            raise Refusal(
                f"The reference's errors under {kind}"
                + (" exceed its clean ones by" if clean else " are")
                + f" {below:g}, which nothing can be divided by. Name another reference."
            )
        ce[kind] = errors(groups, kind) / below
        weights[kind] = 100 / len(KINDS) / below
        weights_of_base[kind] = weights[kind] * ce[kind]
    for weighted in (weights, weights_of_base):
        weighted["clean"] = -clean * sum(weighted.values())
    return ce, (weights, weights_of_base)


def errors_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of one model, a row for each seed and a column for each cell."""
    return 1 - table.pivot(index="seed", columns=["condition", "level"], values="value")


def _half(one: Sample, other: Sample) -> float:
    """Half of the interval of an mCE: both are the mCE, and their difference has its spread."""
    apart = difference(one, other)
    return float((apart.high - apart.low) / 2)


def weighted_sum(
    groups: dict[str, Sample], errors: pd.DataFrame, weights: dict[str, float]
) -> Sample:
    """Return the sample of a weighted sum of errors, from outcomes where they are stored for all.

    Args:
        groups: Samples of accuracy by kind of corruption, or "clean".
        errors: As of `errors_of`.
        weights: Of the errors of each kind.
    """
    chosen = [(groups[name], w) for name, w in weights.items()]
    stacks = [(1 - s.outcomes) * w for s, w in chosen if s.outcomes is not None]
    first = chosen[0][0]
    if len(stacks) == len(chosen) and len({s.shape for s in stacks}) == 1:
        seen = " ".join(s.on for s, _ in chosen)
        names = first.seed_names
        return from_outcomes(np.sum(stacks, axis=0), seen, ANY, keep=True, seed_names=names)
    inside = errors.columns.get_level_values("condition").isin(list(weights))
    own = errors.loc[:, inside].dropna()
    at = own.columns.get_level_values("condition")
    w = np.array([weights[kind] / (at == kind).sum() for kind in at])
    p, of_seed = own.mean().clip(0, 1), own.to_numpy() @ w
    seeds, value = len(own), float(of_seed.mean())
    v_seed = float(of_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    v_image = float(np.abs(w) @ np.sqrt(p * (1 - p))) ** 2 / first.n
    low, high = interval(value, v_seed, v_image, seeds, first.n, ANY)
    return Sample(value, low, high, seeds, first.n, "rates", v_seed=v_seed)
