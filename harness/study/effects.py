"""What is known of one difference: samples in, effects out.

A difference is of two networks, of one network's maps as they are and as a temperature would make
them, or of a rank correlation and none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.analysis import Sample, difference, mean_correlation
from harness.analysis.collect import Key
from harness.analysis.groups import describe_group
from harness.comparison.wording import bounds, signed
from harness.refusal import Refusal
from harness.study.questions import ENOUGH, Quantity
from harness.study.schema import StoredEffect
from harness.suites.metrics import METRICS

TEMPERATURE = "a temperature of equal entropy"
Samples = Mapping[Key, Sample]


@dataclass(frozen=True)
class Effect:
    """One difference: `model` less `against`.

    Args:
        quantity: What is compared.
        value: In the metric's unit, rates as fractions; `low` to `high` its 95 % interval.
        p: p value of no difference, two-sided, unadjusted.
        seeds: Number of seeds of each model, and `images` behind each.
        decides: Whether the verdict rests on it.
        p_gain: One-sided p value of "the gain is at least `ENOUGH`"; `p_loss` likewise of a loss.
            NaN where that makes no sense.
        other: Value of `against`; NaN where there is none.
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
    p_gain: float = math.nan
    p_loss: float = math.nan
    other: float = math.nan

    def store(self) -> StoredEffect:
        """Return it as it is written and printed, rounded once."""
        quantity = self.quantity
        return StoredEffect(
            model=self.model,
            against=self.against,
            suite=quantity.suite,
            metric=quantity.metric,
            group=quantity.group,
            variant=quantity.variant,
            effect=round(self.value, 6),
            low=round(self.low, 6),
            high=round(self.high, 6),
            p=float(f"{self.p:.3g}"),
            seeds=self.seeds,
            images=self.images,
            decides=self.decides,
        )


@dataclass(frozen=True)
class Numbers:
    """The samples of one data set."""

    found: Samples
    table: pd.DataFrame
    dataset: str

    def sample(self, quantity: Quantity, model: str) -> Sample:
        """Return the sample of a model.

        Raises:
            Refusal: It was not measured.
        """
        suite, metric, group, variant = quantity
        key = Key(self.dataset, suite, metric, variant, group, model)
        if key not in self.found:
            raise Refusal(
                f"There is no {metric} of `{model}` {describe_group(group)} on {self.dataset}, "
                f"suite {suite}. Run `harness study` without `--no-run`."
            )
        return self.found[key]

    def effect(self, quantity: Quantity, model: str, against: str, decides: bool) -> Effect:
        """Return the difference of two models."""
        a, b = (self.sample(quantity, name) for name in (model, against))
        return _effect(a, b, quantity, (model, against), decides)

    def inside(self, quantity: Quantity, model: str, decides: bool) -> Effect:
        """Return the difference of a model's maps to those of a temperature, image by image."""
        # A temperature changes no rank: the instability of matched maps is that of the sharp ones.
        other = "sharp" if quantity.metric == "instability" else "matched"
        kinds = (quantity._replace(variant=kind) for kind in ("used", other))
        # One network, its maps as they are and otherwise: paired by seed as well.
        a, b = (replace(self.sample(kind, model), runs=()) for kind in kinds)
        return _effect(a, b, quantity, (model, TEMPERATURE), decides, same_seeds=True)

    def alone(self, quantity: Quantity, model: str, decides: bool) -> Effect | None:
        """Return a rank correlation over seeds beside none at all; None where there is none."""
        condition, _, level = quantity.group.rpartition(" ")
        kept = self.table[
            (self.table["suite"] == quantity.suite)
            & (self.table["model"] == model)
            & (self.table["dataset"] == self.dataset)
            & (self.table["metric"] == quantity.metric)
            & (self.table["variant"] == quantity.variant)
            & (self.table["condition"] == condition)
            & np.isclose(self.table["level"], float(level))
        ]
        if kept.empty:
            return None
        n = int(kept["n"].min())
        rho = mean_correlation(kept["value"], n)
        return Effect(model, "", quantity, *rho, seeds=len(kept), images=n, decides=decides)


def _effect(
    a: Sample,
    b: Sample,
    quantity: Quantity,
    names: tuple[str, str],
    decides: bool,
    same_seeds: bool = False,
) -> Effect:
    d = difference(a, b, same_seeds=same_seeds)
    for_better = -d if METRICS[quantity.metric].sign < 0 else d
    return Effect(
        *names,
        quantity,
        value=a.value - b.value,
        low=float(d.low),
        high=float(d.high),
        p=float(d.p),
        seeds=min(a.seeds, b.seeds),
        images=min(a.n, b.n),
        decides=decides,
        p_gain=float(for_better.p_worse(-ENOUGH)),
        p_loss=1 - float(for_better.p_worse(ENOUGH)),
        other=b.value,
    )


def phrase(effect: Effect, against: bool = True) -> str:
    """Return "+1.3 points [0.2, 2.4] against resnet18", from the numbers that are stored."""
    stored = effect.store()
    text = signed(stored.metric, stored.effect)
    if math.isfinite(stored.low):
        text += f" {bounds(stored.metric, stored.low, stored.high)}"
    return f"{text} against {stored.against}" if against else text


def scale(effects: Sequence[Effect]) -> str:
    seeds, images = effects[0].seeds, effects[0].images
    return f"{seeds} seed{'s' * (seeds > 1)}, {images:,} images"
