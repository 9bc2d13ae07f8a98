"""One model's mean with its interval, and the seeds and images behind it.

A sample is made from per-image outcomes where they are stored; from the numbers of a table, where
they are not; or from a row of a leaderboard. Its `basis` says which:

    images   outcomes of every image under every condition
    rates    a table of rates: the largest variance that images can have at these rates
    seeds    a table of numbers that are no means over images, of several seeds
    nothing  a table of other means of a single seed, or of means over images: no interval
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.intervals import Bounds, interval, shape_of, variance_parts

RATE = (0.0, 1.0)


@dataclass(frozen=True)
class Sample:
    """One model's mean over seeds, images and the cells of a group.

    Args:
        value: The mean; `low`, `high` its 95 % interval, NaN where there is none.
        seeds: How many there are, and `n` how many images.
        v_seed: Part of its variance that is due to seeds; `v_rest` that inside it which is neither
            due to seed nor to image.
        span: The values that the mean can take; (0, 1) for a rate.
        images: (n,) means over seeds and cells, None where they are not stored.
        outcomes: (S, n) means over cells, None where they are not kept.
        binary: Whether the outcomes are hits and misses of one network in one cell.
        on: Names the images and conditions; samples of the same name can be paired.
        runs: Keys of the runs behind it; equal keys mean equal outcomes.
    """

    value: float
    low: float
    high: float
    seeds: int
    n: int
    basis: str
    span: Bounds = (-np.inf, np.inf)
    v_seed: float = 0.0
    v_rest: float = 0.0
    images: np.ndarray | None = field(default=None, repr=False)
    outcomes: np.ndarray | None = field(default=None, repr=False)
    binary: bool = False
    on: str = ""
    seed_names: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()


def from_outcomes(
    outcomes: np.ndarray,
    on: str,
    span: Bounds,
    *,
    value: float | None = None,
    keep: bool = False,
    square: bool = False,
    certain: bool = True,
    seed_names: Sequence[int] = (),
    runs: Sequence[str] = (),
) -> Sample:
    """Return the sample of `outcomes` (S, n), means over cells.

    Args:
        value: Their mean as a table has it, so that the number is the same whether or not outcomes
            are stored.
        keep: Whether to keep them by seed, as pairing by seed needs.
        square: Whether the mean is one of squares.
        certain: Whether images that are all alike tell that others are like them; else there is no
            interval.
    """
    seeds, n = outcomes.shape
    v_seed, v_image, v_rest = variance_parts(outcomes)
    images = outcomes.mean(axis=0)
    value = float(images.mean()) if value is None else value
    squares = v_rest if square else None
    low, high = interval(value, v_seed, v_image, seeds, n, span, _shape(images), squares)
    low, high = min(low, value), max(high, value)  # which is rounded in a table
    # One image, or bins of one, say nothing of others; that a rate is one of hits bounds it.
    silent = (square and not outcomes.any()) or not (certain or np.ptp(outcomes, axis=1).any())
    if span != RATE and (n < 2 or silent):
        low, high = np.nan, np.nan
    return Sample(
        value=value,
        low=low,
        high=high,
        seeds=seeds,
        n=n,
        basis="images",
        span=span,
        v_seed=v_seed,
        v_rest=v_rest,
        images=images,
        outcomes=outcomes.astype(np.float32) if keep else None,
        binary=seeds == 1 and span == RATE and bool(np.isin(images, (0, 1)).all()),
        on=on,
        seed_names=tuple(seed_names),
        runs=tuple(runs),
    )


def _shape(images: np.ndarray) -> tuple[float, float]:
    skew, df = shape_of(images)
    return float(skew), float(df)


def from_table(
    values: np.ndarray,
    n: int,
    span: Bounds,
    *,
    by_image: bool = False,
    seed_names: Sequence[int] = (),
    runs: Sequence[str] = (),
) -> Sample:
    """Return the sample of a table's `values` (S, cells).

    The variance of an image's mean over cells is largest if all cells have the same images wrong:
    (mean over cells of sqrt(p (1 - p)))^2. The interval of a rate holds those of all variances up
    to that: a variance between images has more degrees of freedom than one between seeds, so that
    more of it can make an interval narrower.

    Args:
        by_image: Whether it is a mean over images, whose interval is not known unless it is a rate:
            the table does not show how much images vary.
    """
    seeds = len(values)
    of_seed = values.mean(axis=1)
    value = float(values.mean())
    v_seed = float(of_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    basis, v_image = ("seeds" if seeds > 1 and not by_image else "nothing"), 0.0
    if span == RATE:
        p = np.clip(values.mean(axis=0), 0, 1)
        basis, v_image = "rates", float(np.sqrt(p * (1 - p)).mean()) ** 2 / n
    low, high = np.nan, np.nan
    if basis != "nothing" and np.isfinite(value):
        shares = (1.0,) if seeds == 1 or v_image == 0 else (0.0, 0.25, 0.5, 1.0)
        every = [interval(value, v_seed, share * v_image, seeds, n, span) for share in shares]
        low, high = min(low for low, _ in every), max(high for _, high in every)
    return Sample(
        value=value,
        low=low,
        high=high,
        seeds=seeds,
        n=n,
        basis=basis,
        span=span,
        v_seed=v_seed,
        seed_names=tuple(seed_names),
        runs=tuple(runs),
    )


def from_row(
    value: float, low: float, high: float, seeds: int, n: int, basis: str, runs: str = ""
) -> Sample:
    """Return the sample of a leaderboard's row; `runs` are the keys of its runs, with spaces."""
    runs_of = tuple(runs.split())
    return Sample(value=value, low=low, high=high, seeds=seeds, n=n, basis=basis, runs=runs_of)
