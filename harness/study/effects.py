"""What is known of one difference: samples in, effects out.

A difference is of two networks, of one under two conditions, of such differences before and after
training, of a whole and the sum of its parts, or of a rank statistic and none. Networks of one seed
start alike, so that they are compared seed by seed and image by image; see `analysis.pairs`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd
from scipy.special import stdtr

from harness.analysis import (
    Differences,
    Sample,
    always_valid,
    contrast,
    difference,
    quantile,
    superiority,
)
from harness.analysis.collect import Key
from harness.analysis.groups import describe_group
from harness.analysis.tails import p_value
from harness.refusal import Refusal
from harness.study.design import Quantity
from harness.study.stored import StoredEffect
from harness.suites.metrics import METRICS

Samples = Mapping[Key, Sample]
UNTRAINED = "less the same of untrained networks"
SUM = "less the sum of what its parts gain"


class Distribution(NamedTuple):
    """Of an estimate, as of `analysis.Differences`: a standard error to either side of a center."""

    center: float
    below: float
    above: float
    df: float
    share: float
    freedom: float

    @classmethod
    def of(cls, d: Differences) -> "Distribution":
        return cls(*(float(getattr(d, name)) for name in cls._fields))

    def p_above(self, x: float) -> float:
        """Return the one-sided p value of "it is at most `x`"."""
        return self._tail(x - self.center, self.below)

    def p_below(self, x: float) -> float:
        """Return the one-sided p value of "it is at least `x`"."""
        return self._tail(self.center - x, self.above)

    def _tail(self, gap: float, se: float) -> float:
        """P(what is not so by `gap` looks like this); what has no error is certain."""
        if not math.isfinite(gap) or math.isnan(se):
            return 1.0
        if se == 0:
            return 0.0 if gap < 0 else 1.0
        half = float(p_value(gap / se, self.df, self.share, self.freedom)) / 2
        return half if gap < 0 else 1 - half


UNKNOWN = Distribution(*(math.nan,) * 6)


@dataclass(frozen=True)
class Effect:
    """One difference: `model` less `against`, positive where the model has more.

    Args:
        quantity: What is compared.
        value: In the metric's unit, rates as fractions; `low` to `high` its 95 % interval.
        p: p value of no difference, two-sided, unadjusted.
        seeds: Number of seeds of each model, and `images` behind each.
        decides: Whether the verdict rests on it.
        further: What else was subtracted, in words.
        beats: Probability that one retraining of the model beats one of the other.
        mde: The difference that would be found at 5 % with power 80 %.
        other: Value of `against`; NaN where there is none.
        d: Its distribution, positive where the model is better.
    """

    model: str
    against: str
    quantity: Quantity
    value: float
    low: float
    high: float
    p: float
    seeds: int
    images: int
    decides: bool
    further: str = ""
    beats: float = math.nan
    mde: float = math.nan
    other: float = math.nan
    d: Distribution = field(default=UNKNOWN, repr=False, compare=False)

    def p_above(self, x: float) -> float:
        """Return the one-sided p value of "it is better by no more than `x`"."""
        return self.d.p_above(x)

    def p_below(self, x: float) -> float:
        """Return the one-sided p value of "it is better by at least `x`"."""
        return self.d.p_below(x)

    def moved(self, by: float) -> "Effect":
        """Return it as it would be with a model that is better by so much, at the same errors."""
        sign = -1 if METRICS[self.quantity.metric].sign < 0 else 1
        return replace(
            self, value=self.value + sign * by, d=self.d._replace(center=self.d.center + by)
        )

    def farther(self, by: float) -> "Effect":
        """Return it as it would be farther from 0 by so much, whichever way it goes."""
        return self.moved(by * math.copysign(1, self.d.center))

    def power(self, size: float) -> float:
        """Return the chance that a difference of this size is found at 5 %; NaN where not known."""
        error = max(self.d.below, self.d.above)
        if not math.isfinite(error) or not math.isfinite(size):
            return math.nan
        return float(stdtr(self.d.df, size / error - quantile(self.d.df))) if error else 1.0

    def store(self) -> StoredEffect:
        """Return it as it is written and printed, rounded once."""
        quantity = self.quantity
        return StoredEffect(
            model=self.model,
            against=self.against,
            further=self.further,
            suite=quantity.suite,
            metric=quantity.metric,
            group=quantity.group,
            variant=quantity.variant,
            effect=round(self.value, 6),
            low=round(self.low, 6),
            high=round(self.high, 6),
            p=float(f"{self.p:.3g}"),
            beats=round(self.beats, 3),
            mde=round(self.mde, 6),
            seeds=self.seeds,
            images=self.images,
            decides=self.decides,
        )


@dataclass(frozen=True)
class Numbers:
    """What was measured on one data set.

    Args:
        trained: Samples of trained networks, with their outcomes by seed; `untrained` likewise.
        table: Long table of the trained ones.
        classes: How many the data set has; 0 where that is not known.
        seeds: How many every model must have.
        planned: Seeds at the first answer, where there are more now; 0 where none were added.
        datasets: The data set's name in tables of a suite, where it is another one.
    """

    trained: Samples
    untrained: Samples
    table: pd.DataFrame
    dataset: str
    classes: int
    seeds: int
    planned: int = 0
    datasets: Mapping[str, str] = field(default_factory=dict)

    def dataset_in(self, suite: str) -> str:
        """Return the data set's name in tables of a suite."""
        return self.datasets.get(suite, self.dataset)

    def sample(self, quantity: Quantity, model: str, untrained: bool = False) -> Sample:
        """Return the sample of a model.

        Raises:
            Refusal: It was not measured.
        """
        suite, metric, group, variant = quantity
        if (there := self._seeds_of(quantity, model, untrained)) < self.seeds:
            bare = "untrained " * untrained
            raise Refusal(
                f"There is no {metric}{f' ({variant})' * bool(variant)} of {bare}`{model}` "
                f"{describe_group(group)} on {self.dataset_in(suite)}, suite {suite}, of "
                f"{self.seeds} seeds ({there} are there). Run the same without `--no-run`."
            )
        return (self.untrained if untrained else self.trained)[self._key(quantity, model)]

    def _key(self, quantity: Quantity, model: str) -> Key:
        suite, metric, group, variant = quantity
        return Key(self.dataset_in(suite), suite, metric, variant, group, model)

    def _seeds_of(self, quantity: Quantity, model: str, untrained: bool = False) -> int:
        found = (self.untrained if untrained else self.trained).get(self._key(quantity, model))
        return found.seeds if found else 0

    def missing(self, quantity: Quantity, models: Sequence[str]) -> list[str]:
        """Return the models that were not measured."""
        return [name for name in models if self._seeds_of(quantity, name) < self.seeds]

    def effect(self, quantity: Quantity, model: str, against: str, decides: bool) -> Effect:
        """Return the difference of two models."""
        a, b = (self.sample(quantity, name) for name in (model, against))
        return self._effect(
            difference(a, b), (a, b), quantity, (model, against), decides, beats=superiority(a, b)
        )

    def within(self, quantity: Quantity, model: str, group: str, decides: bool) -> Effect:
        """Return the difference of two groups of conditions of one model: its own and `group`."""
        a, b = self.pair_within(quantity, model, group)
        return self._effect(difference(a, b), (a, b), quantity, (model, group), decides)

    def pair_within(self, quantity: Quantity, model: str, group: str) -> tuple[Sample, Sample]:
        """Return the samples of two groups; those of the same runs are of the same images."""
        a, b = (self.sample(place, model) for place in (quantity, quantity._replace(group=group)))
        return a, replace(b, on=a.on) if a.runs == b.runs else b

    def learned(self, quantity: Quantity, model: str, against: str, decides: bool) -> Effect:
        """Return the difference of two models less that of the same networks untrained."""
        four = [
            self.sample(quantity, name, untrained)
            for untrained in (False, True)
            for name in (model, against)
        ]
        d = contrast(four, (1, -1, -1, 1))
        return self._effect(d, four, quantity, (model, against), decides, UNTRAINED)

    def interaction(
        self, quantity: Quantity, model: str, baseline: str, parts: Sequence[str]
    ) -> Effect:
        """Return the gain of a model over `baseline` less the sum of its parts' gains."""
        names = (model, *parts, baseline)
        found = [self.sample(quantity, name) for name in names]
        d = contrast(found, (1, *(-1 for _ in parts), len(parts) - 1))
        return self._effect(d, found, quantity, (model, baseline), True, SUM)

    def _effect(
        self,
        d: Differences,
        samples: Sequence[Sample],
        quantity: Quantity,
        names: tuple[str, str],
        decides: bool,
        further: str = "",
        beats: float = math.nan,
    ) -> Effect:
        seeds = min(s.seeds for s in samples)
        if self.planned:
            d = always_valid(d, seeds, self.planned)
        sign = METRICS[quantity.metric].sign
        return Effect(
            *names,
            quantity,
            value=float(d.value),
            low=float(d.low),
            high=float(d.high),
            p=float(d.p),
            seeds=seeds,
            images=min(s.n for s in samples),
            decides=decides,
            further=further,
            beats=1 - beats if sign < 0 else beats,
            mde=float(d.detectable),
            other=samples[1].value,
            d=Distribution.of(-d if sign < 0 else d),
        )
