"""What a study needs: the seeds and images that find a difference of the margin, and the hours.

From the variances of networks that are there, two pilot seeds or more: of the deciding differences
of each question, paired as they will be, the one that varies most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.analysis import images_needed, parts_of_difference, seeds_needed
from harness.analysis.power import Parts, detectable_with
from harness.analysis.sample import Sample, from_outcomes
from harness.refusal import Refusal
from harness.running.forecast import forecast
from harness.running.options import Options
from harness.study.design import Question, needs_of
from harness.study.effects import Numbers
from harness.study.run import Network

PILOT = 2  # seeds that show a variance between seeds


@dataclass(frozen=True)
class Power:
    """What one question needs for 80 % power at its margin.

    Args:
        against: Whose difference varies most; "" where nothing is known yet.
        sd_seed: Standard deviation of the difference between seeds, `sd_image` between images,
            `sd_rest` of one image under one seed.
        seeds: There are; `needed` seeds on these `images`; math.inf where no number suffices.
        images_needed: With the seeds that are there.
        networks: To train until then.
        hours: That they take here; NaN where it is not known.
    """

    question: Question
    against: str = ""
    sd_seed: float = math.nan
    sd_image: float = math.nan
    sd_rest: float = math.nan
    seeds: int = 0
    images: int = 0
    needed: float = math.nan
    images_needed: float = math.nan
    networks: int = 0
    hours: float = math.nan

    def noted(self, planned: int) -> dict[str, Any]:
        """Return what is noted of it before anything more is run, for `planned` seeds.

        `needed` is None where no number of seeds suffices; `detectable` the difference that
        `planned` seeds find with 80 % power, in the metric's unit, None where one is too few.
        """
        parts = Parts(self.sd_seed, self.sd_image, self.sd_rest)
        found = detectable_with(parts, planned, self.images)
        return {
            "seeds": self.seeds,
            "needed": int(self.needed) if math.isfinite(self.needed) else None,
            "planned": planned,
            "detectable": round(found, 6) if math.isfinite(found) else None,
        }


def power_of(
    question: Question,
    asked: Question,
    numbers: Numbers,
    dataset: str,
    options: Options,
    planned: int,
) -> Power:
    """Return what a question needs.

    Args:
        question: Its models named as in tables; `asked` as for `--model`.
        dataset: As it was asked for.
        planned: Seeds to train where nothing is known yet.
    """
    worst = variance_of(question, numbers)
    if worst is None:
        networks, hours = _cost(asked, dataset, options, 0, planned)
        return Power(question, networks=networks, hours=hours)
    most = int(worst.needed) if math.isfinite(worst.needed) else worst.seeds
    networks, hours = _cost(asked, dataset, options, worst.seeds, most)
    return replace(worst, networks=networks, hours=hours)


def variance_of(question: Question, numbers: Numbers) -> Power | None:
    """Return what the deciding difference that varies most needs; None where too little is there.

    Args:
        question: Its models named as in tables.
    """
    others = question.solvers if question.kind == "solver" else question.against
    pairs = [pair for name in others if (pair := _pair(question, numbers, name))]
    pairs = [pair for pair in pairs if pair[1].seeds >= PILOT]
    found = []
    for name, a, b, margin in pairs:
        sd_seed, sd_image, sd_rest = parts_of_difference(a, b)
        found.append(
            Power(
                question,
                name,
                sd_seed,
                sd_image,
                sd_rest,
                a.seeds,
                a.n,
                seeds_needed(sd_seed, sd_image, a.n, margin, sd_rest),
                images_needed(sd_seed, sd_image, a.seeds, margin, sd_rest),
            )
        )
    return max(found, key=lambda p: (p.needed, p.sd_seed), default=None)


Pair = tuple[str, Sample, Sample, float]  # against whom, the two sides, the margin


def _pair(question: Question, numbers: Numbers, name: str) -> Pair | None:
    """The two sides of a deciding difference; of a difference of differences each is one."""
    try:
        model, margin = numbers.sample(question.decides, question.model), question.margin
        other: Sample | None
        if question.kind == "solver":
            model, other = numbers.pair_within(question.decides, question.model, name)
            margin *= abs(other.value)
        else:
            other = numbers.sample(question.decides, name)
        if question.kind == "sum":
            other = _combined(
                numbers,
                question,
                {
                    **dict.fromkeys(question.parts, 1.0),
                    question.baseline: 1.0 - len(question.parts),
                },
            )
        if question.kind == "learned":
            sides = [_learned(numbers, question, n) for n in (question.model, name)]
            if sides[0] is None or sides[1] is None:
                return None
            return (
                name,
                sides[0],
                sides[1],
                question.margin * abs(numbers.sample(question.decides, name).value),
            )
    except Refusal:
        return None
    if other is None or model.outcomes is None or other.outcomes is None:
        return None
    return name, model, other, margin


def _combined(numbers: Numbers, question: Question, weights: dict[str, float]) -> Sample | None:
    samples = [numbers.sample(question.decides, name) for name in weights]
    return _sum(samples, list(weights.values()))


def _learned(numbers: Numbers, question: Question, name: str) -> Sample | None:
    samples = [numbers.sample(question.decides, name, untrained) for untrained in (False, True)]
    return _sum(samples, [1.0, -1.0])


def _sum(samples: Sequence[Sample], weights: Sequence[float]) -> Sample | None:
    """The weighted sum of samples, network by network and image by image."""
    outcomes = [s.outcomes for s in samples]
    if any(o is None or o.shape != outcomes[0].shape for o in outcomes):  # type: ignore[union-attr]
        return None
    total = np.tensordot(np.asarray(weights), np.stack(outcomes), axes=1)  # type: ignore[arg-type]
    first = samples[0]
    span = (-math.inf, math.inf)
    return from_outcomes(total, first.on, span, keep=True, seed_names=first.seed_names)


def _cost(
    question: Question, dataset: str, options: Options, there: int, wanted: int
) -> tuple[int, float]:
    """Networks to train until there are `wanted` seeds, and the hours that they take here."""
    if wanted <= there:
        return 0, 0.0
    seconds, count = 0.0, 0
    for need in needs_of((question,)):
        network = Network(need.model, dataset, wanted - 1, need.suites, need.untrained)
        planned = forecast([network.plan(options)], network.options(options))
        steps = [step.seconds for step in planned]
        seconds += sum(math.nan if s is None else s for s in steps)
        count += not need.untrained
    more = wanted - there
    return count * more, seconds * more / 3600
