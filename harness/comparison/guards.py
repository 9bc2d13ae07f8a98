"""Guards: whether one number is worse than its baseline by more than a margin.

With d = new - baseline, positive where new is better, [L, U] its 95 % interval and m >= 0 the
margin of a guard, one metric in one group of conditions:

    pass          L >= -m, or equal outcomes
    worse         U < -m: one-sided at 2.5 %, after Holm over all guards
    inconclusive  neither
    missing       the baseline has it, and new has not, or not on the same images

"Worse" though d >= -m comes in at most 2.5 % of all checks for each guard. Passing needs every
guard to pass, so that it is not made easier by many of them, and is not adjusted.

A model of one name and seed in both is the same model trained again with the same order of images
and the same initialization, so that its seeds are paired. With other seeds images alone are paired.
Which margin is within reach of new results, `planning` says before there are any.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.analysis import (
    Differences,
    Sample,
    difference,
    holm,
    images_needed,
    parts_of_difference,
    quantile,
    seeds_needed,
)
from harness.analysis.collect import Key
from harness.analysis.families import LEVEL
from harness.analysis.groups import describe_group, headline
from harness.analysis.pairs import POWER
from harness.comparison.names import UNSAID, Better, Name, select_names, sign_of, write_name
from harness.refusal import Refusal, unknown

PASS, WORSE, INCONCLUSIVE, MISSING = "pass", "worse", "inconclusive", "missing"
CODES = {PASS: 0, WORSE: 1, INCONCLUSIVE: 3, MISSING: 4}  # 2 is misuse
PRECEDENCE = (WORSE, MISSING, INCONCLUSIVE, PASS)
Margins = Mapping[tuple[str, str, str], float]  # (metric, variant, group or ""), >= 0


@dataclass(frozen=True)
class Guard:
    """One metric of one model in one group, the verdict on it and why.

    Args:
        difference: New less baseline, positive where new is better.
        mde: The difference that would be found with power 80 %.
        needed: Images at which "pass" has power 80 % if nothing changed; 0 where no number of
            images is enough.
        needed_seeds: Seeds of either side at which it has; 0 likewise, and with one seed.
    """

    key: Key
    margin: float
    verdict: str
    reason: str = ""
    baseline: float = math.nan
    new: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_worse: float = math.nan
    mde: float = math.nan
    images: int = 0
    needed: int = 0
    needed_seeds: int = 0
    seeds: tuple[int, int] = (0, 0)
    paired: bool = False
    identical: bool = False

    @property
    def name(self) -> str:
        """As `--margin` writes it."""
        return write_name(*self.key.name, self.key.group)

    @property
    def reachable(self) -> bool:
        """Whether "pass" is likely if nothing changed."""
        return self.identical or self.mde <= self.margin


def select_guards(
    baseline: Mapping[Key, Sample], margins: Margins, better: Better = UNSAID
) -> dict[Key, float]:
    """Return what is guarded, with its margin: a metric's headline groups, or those that are named.

    Raises:
        Refusal: The baseline has no such metric or group, or the metric has no better side.
    """
    of_name: dict[Name, dict[tuple, list[Key]]] = {}
    for key in baseline:
        runs = of_name.setdefault(key.name, {})
        runs.setdefault((key.dataset, key.suite, key.model), []).append(key)
    found: dict[Key, float] = {}
    # A named group comes after its whole metric, and takes its place.
    for (metric, variant, group), margin in sorted(margins.items()):
        text = write_name(metric, variant)
        select_names(of_name, [text], "the baseline")
        if sign_of(metric, better) == 0:
            raise Refusal(
                f"`{metric}` has no better side, so that it cannot become worse. Guard another "
                f"one, or say which side is better: `--better {metric}=up`."
            )
        runs = of_name[metric, variant]
        groups = dict.fromkeys(key.group for keys in runs.values() for key in keys)
        if group and group not in groups:
            raise unknown(f"group of {text} in the baseline", group, groups)
        for keys in runs.values():
            wanted = [group] if group else headline([key.group for key in keys])
            found |= {key: margin for key in keys if key.group in wanted}
    return found


def judge(
    new: Mapping[Key, Sample],
    baseline: Mapping[Key, Sample],
    guards: Mapping[Key, float],
    others: Mapping[Key, str],
    better: Better = UNSAID,
) -> list[Guard]:
    """Return the verdicts, in the order of the leaderboard.

    Args:
        others: Why a guarded mean of `new` cannot be compared although it is there.
        better: Which way is better, of metrics that do not say it themselves.
    """
    found = []
    for key, margin in sorted(guards.items(), key=lambda item: item[0].order):
        found.append(
            _measure(key, margin, new.get(key), baseline[key], others.get(key, ""), better)
        )
    open_ = [i for i, guard in enumerate(found) if guard.verdict == INCONCLUSIVE]
    p = holm([found[i].p_worse for i in open_])
    for i, adjusted in zip(open_, p, strict=True):
        guard = found[i]
        if guard.identical or guard.low >= -guard.margin:
            found[i] = replace(guard, verdict=PASS)
        elif adjusted <= LEVEL / 2:
            found[i] = replace(guard, verdict=WORSE)
        else:
            found[i] = replace(guard, reason=_short(guard))
    return found


def overall(guards: list[Guard]) -> str:
    """Return the verdict on all: worse before missing before inconclusive before pass."""
    verdicts = {guard.verdict for guard in guards}
    return next(v for v in PRECEDENCE if v in verdicts)


def _measure(
    key: Key, margin: float, new: Sample | None, baseline: Sample, other: str, better: Better
) -> Guard:
    """A guard with its numbers, and its verdict if it is missing."""
    guard = Guard(key, margin, MISSING, baseline=baseline.value)
    if not math.isfinite(baseline.value):
        return replace(guard, reason="the baseline's value is not a number")
    if new is None:
        return replace(guard, reason="the new results do not have it")
    guard = replace(guard, new=new.value, images=new.n, seeds=(new.seeds, baseline.seeds))
    if not math.isfinite(new.value):
        return replace(guard, reason="the new value is not a number")
    if other:
        return replace(guard, reason=other)
    if new.n != baseline.n:
        return replace(guard, reason=f"it is of {new.n} images, the baseline of {baseline.n}")
    if new.on and baseline.on and new.on != baseline.on:
        return replace(guard, reason="it was measured on other images than the baseline")
    d = difference(new, baseline, same_seeds=True)
    if math.isnan(float(d.below)):
        reason = "single means without their images have no interval"
        return replace(guard, verdict=INCONCLUSIVE, reason=reason, p_worse=1.0)
    d = d if sign_of(key.metric, better) > 0 else -d
    return replace(
        guard,
        verdict=INCONCLUSIVE,
        difference=float(d.value),
        low=float(d.low),
        high=float(d.high),
        p_worse=float(d.p_worse(margin)),
        mde=float(d.detectable),
        needed=_needed(d, new.n, margin),
        needed_seeds=_needed_seeds(new, baseline, margin),
        paired=bool(d.paired),
        identical=bool(d.identical),
    )


def _needed(d: Differences, n: int, margin: float) -> int:
    """Images at which a pass has power 80 % if nothing changed; 0 if seeds alone vary too much."""
    se = float(max(d.below, d.above))
    if margin == 0:
        return 0
    of_images = min(float(d.psi) / n, se**2) if math.isfinite(float(d.psi)) else se**2
    # What is left to images of the variance at which the margin is just detectable.
    reach = margin / float(quantile(d.df) + quantile(d.df, POWER))
    left = reach**2 - (se**2 - of_images)
    if left <= 0:
        return 0
    if se**2 == of_images and math.isinf(float(d.df)):
        return int(images_needed(0.0, math.sqrt(of_images * n), 1, margin))
    return math.ceil(of_images * n / left)


def _needed_seeds(new: Sample, baseline: Sample, margin: float) -> int:
    """Seeds at which a pass has power 80 % if nothing changed; 0 if no number does, or unknown."""
    parts = parts_of_difference(new, baseline)
    if margin == 0 or not math.isfinite(parts.sd_seed):
        return 0
    found = seeds_needed(parts.sd_seed, parts.sd_image, new.n, margin, parts.sd_rest)
    return int(found) if math.isfinite(found) else 0


def _short(guard: Guard) -> str:
    if guard.reason:
        return guard.reason
    if guard.margin == 0:
        return "at a margin of 0 only equal outcomes pass"
    if guard.reachable:
        return "the difference lies too near to the margin"
    if guard.needed_seeds > min(guard.seeds):
        few = f"{min(guard.seeds)} seeds are too few"
        return f"{few}; about {guard.needed_seeds:,} of either side would do, or a larger margin"
    if guard.needed:
        return f"{guard.images} images are too few; about {guard.needed:,} would do"
    return "the seeds differ too much; more of them are needed, or a larger margin"


def expectation(guard: Guard) -> str:
    """Say whether "pass" can be expected, before the verdict is known."""
    key = guard.key
    where = f"{write_name(*key.name)} {describe_group(key.group)}"
    what = f"{key.model} on {key.dataset}, {key.suite}: {where}"
    if guard.verdict == MISSING:
        return f"{what}: {guard.reason}"
    if guard.identical:
        return f"{what}: equal outcomes, which pass at any margin"
    if math.isnan(guard.mde):
        return f"{what}: {guard.reason}"
    found = f"changes of {guard.mde:.4f} are found in 4 of 5 checks"
    if guard.reachable:
        return f"{what}: a pass at a margin of {guard.margin:g} is within reach: {found}"
    return (
        f"{what}: a pass at a margin of {guard.margin:g} is out of reach: {_short(guard)}; {found}"
    )


def remarks(guards: list[Guard]) -> list[str]:
    """Return what the verdicts speak of, and what makes their intervals wide."""
    known = [g for g in guards if not g.identical and math.isfinite(g.difference)]
    said = []
    if any(g.seeds == (1, 1) for g in known):
        said.append(
            "With one training seed each the verdicts speak of these weights, not of the method."
        )
    unpaired = sum(not g.paired for g in known)
    if unpaired:
        said.append(
            f"{unpaired} of {len(guards)} guards are not paired: without per-image answers of both "
            "on the same images, intervals are as wide as for different images."
        )
    return said
