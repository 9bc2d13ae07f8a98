"""Which margin a check can pass at, before anything is trained.

Where the baseline keeps each image's outcome under two seeds or more, checks of an unchanged model
are simulated: new seeds are drawn, whose means and images vary as the baseline's do, and the
check's own interval is computed. Within reach is the margin at which 4 of 5 of them pass. How many
seeds or images another margin needs follows from the same variances.

Where the images' outcomes are not there, the interval is that of two unpaired sides.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import Sample, difference, from_outcomes, images_needed, seeds_needed
from harness.analysis.collect import Key
from harness.analysis.pairs import POWER
from harness.comparison.guards import INCONCLUSIVE, PASS
from harness.comparison.names import UNSAID, Better, sign_of, write_name

DRAWS = 200  # simulated checks
LARGEST = 10**7  # outcomes to simulate for one guard
FEWEST = 40
ONE_SEED = "one training seed does not say how much retraining varies; take two or more"
UNPAIRED = "each image's outcome is not stored, so that nothing is paired"


@dataclass(frozen=True)
class Plan:
    """What a check of one number can show.

    Args:
        baseline: The baseline's value.
        reach: Margin at which a check of an unchanged model passes in 4 of 5 cases; NaN where it
            is not known.
        seeds: Of the new results; `images` behind each number.
        needed_seeds: Of either side, for `margin`; math.inf where no number is enough.
        needed_images: With these seeds, for `margin`; likewise.
        paired: Whether images will be compared one by one.
    """

    key: Key
    margin: float
    baseline: float
    reach: float
    seeds: int
    images: int
    needed_seeds: float = math.nan
    needed_images: float = math.nan
    paired: bool = False
    problem: str = ""

    @property
    def verdict(self) -> str:
        """What an unchanged model can expect."""
        return PASS if self.reach <= self.margin else INCONCLUSIVE

    @property
    def reason(self) -> str:
        """Why the margin is out of reach and what would bring it within; empty where it is."""
        if self.verdict == PASS or self.problem:
            return self.problem
        ways = [
            f"{self.needed_seeds:,.0f} seeds of either side" * math.isfinite(self.needed_seeds),
            f"{self.needed_images:,.0f} images" * math.isfinite(self.needed_images),
            f"a margin of {round_up(self.reach):g}",
        ]
        return "it needs about " + ", or ".join(way for way in ways if way)


def plan_checks(
    baseline: Mapping[Key, Sample],
    guards: Mapping[Key, float],
    seeds: int = 0,
    better: Better = UNSAID,
) -> list[Plan]:
    """Return what a check of each guard can show, in the order of the leaderboard.

    Args:
        guards: With their margins, as `guards.select_guards` returns them.
        seeds: Seeds of the new results, other ones than the baseline's; 0 for as many as it has.
    """
    return [
        _plan(key, margin, baseline[key], seeds or baseline[key].seeds, better)
        for key, margin in sorted(guards.items(), key=lambda item: item[0].order)
    ]


def _plan(key: Key, margin: float, sample: Sample, seeds: int, better: Better) -> Plan:
    plan = Plan(key, margin, sample.value, math.nan, seeds, sample.n)
    if not math.isfinite(sample.value):
        return replace(plan, problem="the baseline's value is not a number")
    if min(sample.seeds, seeds) < 2:
        return replace(plan, problem=ONE_SEED)
    if sample.outcomes is None:
        other = replace(sample, on="", images=None, runs=())
        reach = float(difference(other, other).detectable)
        return replace(plan, reach=reach, problem="" if reach <= margin else UNPAIRED)
    reach = _reach(sample, seeds, sign_of(key.metric, better))
    plan = replace(plan, reach=reach, paired=True, needed_seeds=seeds, needed_images=sample.n)
    if reach <= margin:
        return plan
    # Of the difference of two retrainings, whose images' own effects cancel.
    sd_seed, sd_rest = (math.sqrt(2) * sd for sd in _deviations(sample))
    more_seeds = seeds_needed(sd_seed, 0.0, sample.n, margin, sd_rest)
    more_images = images_needed(sd_seed, 0.0, seeds, margin, sd_rest)
    return replace(
        plan,
        needed_seeds=max(more_seeds, seeds + 1),
        needed_images=max(more_images, sample.n + 1),
    )


def _deviations(sample: Sample) -> tuple[float, float]:
    """Standard deviations of one seed's mean beyond its images, and of one image under one seed."""
    seed = math.sqrt(max(0.0, sample.v_seed - sample.v_rest) * sample.seeds)
    return seed, math.sqrt(sample.v_rest * sample.seeds * sample.n)


def _reach(sample: Sample, seeds: int, sign: int) -> float:
    """The margin at which `POWER` of simulated checks of an unchanged model pass.

    How much seeds vary is known from few of them, so that it is drawn as well: from the scaled
    inverse chi-square distribution that the baseline's variance leaves.
    """
    assert sample.outcomes is not None
    old, n = sample.outcomes.shape
    images = sample.outcomes.mean(axis=0, dtype=float)
    rest = sample.outcomes - images - sample.outcomes.mean(axis=1, keepdims=True, dtype=float)
    rest = (rest + images.mean()) * math.sqrt(old / (old - 1))
    deviation, chance = _deviations(sample)[0], np.random.default_rng(0)
    names = range(1 + max(sample.seed_names, default=0), 1 + 10**9)  # other seeds

    def drawn(count: int, spread: float) -> np.ndarray:
        own = rest[chance.integers(old, size=(count, n)), np.arange(n)]
        return own + chance.normal(0, spread, (count, 1))

    lows = []
    for _ in range(int(np.clip(LARGEST // (n * (old + seeds)), FEWEST, DRAWS))):
        spread = deviation * math.sqrt((old - 1) / chance.chisquare(old - 1))
        truth = images - drawn(old, spread).mean(axis=0)
        new = from_outcomes(
            truth + drawn(seeds, spread),
            sample.on,
            sample.span,
            keep=True,
            seed_names=names[:seeds],
        )
        d = difference(new, sample)
        lows.append(float((d if sign > 0 else -d).low))
    return float(np.quantile(np.negative(lows), POWER))


def describe(plans: list[Plan]) -> list[str]:
    """Return what is within reach of all guards of each metric, in a sentence each."""
    of_metric: dict[str, list[Plan]] = {}
    for plan in plans:
        if math.isfinite(plan.reach):
            of_metric.setdefault(write_name(*plan.key.name), []).append(plan)
    said = []
    for name, own in of_metric.items():
        reach, seeds = max(plan.reach for plan in own), min(plan.seeds for plan in own)
        said.append(
            f"`--margin {name}={round_up(reach):g}` is within reach: with {seeds} new seeds, other "
            "ones than the baseline's, an unchanged model passes each guard in 4 of 5 checks."
        )
    return said


def round_up(reach: float) -> float:
    """Return a margin rounded up to two digits."""
    if reach <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(reach)) - 1)
    return round(math.ceil(reach / unit - 1e-9) * unit, 12)
