"""Whether a robust accuracy can be believed: checks of the attack against their limits.

A robust accuracy is what an attack did not break. It is believed if every check that can show a
blind attack was made and none failed, and is an upper bound otherwise. The numbers are those of
`harness.suites.belief`; each has a limit, and fails

    exact     where it is above the limit (below it, for the positive control),
    certain   where it is above by more than the choice of images explains: so many images or more
              have a probability below 2.5 % if the true share is the limit.

The masking gap counts images on which one attack fails and another one succeeds, never the other
way round; it fails where its 95 % interval, that of a paired difference (Bonett and Price), lies
above the limit. A single image of a hundred fails nothing but what is exact.

    limit    zero_gradient 0, probabilities 0, random 0, below_bound 0, control >= 95 %: exact
             wrong_gradient 1 %, not_rising 5 %, black_box, transfer and noise_gain 0.2 %,
             fgsm_gain, more_gain and masking_gap 0.5 %, left_at_half 1 %: certain

`random` does not fail where every attack took expected gradients, means over draws.

Reference: R. S. Zimmermann, W. Brendel, F. Tramer and N. Carlini, Increasing confidence in
adversarial robustness evaluations, NeurIPS 2022, https://arxiv.org/abs/2206.13991 (95 %);
F. Croce et al., RobustBench, NeurIPS 2021 datasets, https://arxiv.org/abs/2010.09670 (0.2 %, 0).
Deviations: the other limits are ours, and so are the intervals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import bdtrc

from harness.analysis.intervals import Bounds, wilson
from harness.analysis.pairs import bonett_price
from harness.suites.belief import Share

BELIEVED, BOUND = "believed", "upper bound: "
GAP = "masking_gap"
CHANCE = 0.025  # probability of failing a check whose true share is the limit, at most


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        says: What a failure means, with {value} in per cent.
        limit: Largest share that passes; the smallest where `least`.
        certain: Whether it must be beyond the limit by more than the choice of images explains.
        least: Whether it fails below the limit.
    """

    says: str
    limit: float
    certain: bool = True
    least: bool = False

    def fails(self, name: str, number: Share) -> bool:
        """Return whether the number fails; one that is NaN does."""
        value, n = number
        if self.certain and n and name == GAP:
            return bounds(name, number)[0] > self.limit
        if self.certain and n:
            return float(bdtrc(round(value * n) - 1, n, self.limit)) < CHANCE
        return not (value >= self.limit if self.least else value <= self.limit)


CHECKS: Mapping[str, Check] = {
    "random": Check("{value} of the outputs change from call to call", 0, False),
    "zero_gradient": Check("the gradient of {value} of the images is exactly 0", 0, False),
    "wrong_gradient": Check("gradients of {value} of the images contradict the loss", 0.01),
    "not_rising": Check("the loss of {value} of the images does not rise along its gradient", 0.05),
    "probabilities": Check("{value} of the outputs are probabilities, not logits", 0, False),
    "black_box": Check("an attack without gradients breaks {value} more", 0.002),
    "transfer": Check("images made on another model break {value} more", 0.002),
    "noise_gain": Check("random noise breaks {value} more", 0.002),
    "fgsm_gain": Check("a single step breaks {value} more", 0.005),
    "more_gain": Check("five times the steps break {value} more", 0.005),
    "masking_gap": Check("attacks through other solvers break {value} more", 0.005),
    "left_at_half": Check("{value} are right where all images can be made alike", 0.01),
    "control": Check("of planted adversarial points the attack finds {value}", 0.95, False, True),
    "below_bound": Check("{value} are broken below their certificate, which is wrong", 0, False),
}
NEEDED = ("zero_gradient", "random", "black_box", "more_gain", "left_at_half", "control")


def bounds(name: str, number: Share) -> Bounds:
    """Return the 95 % interval of a share, of the masking gap as of a paired difference.

    Raises:
        ValueError: There is no image behind it.
    """
    value, n = number
    if name == GAP and n:
        return bonett_price(round(value * n), 0, n)
    return wilson(value * n, n)


def failures(
    numbers: Mapping[str, Share], needed: Sequence[str] = NEEDED, *, expected: bool = False
) -> list[str]:
    """Return why a robust accuracy cannot be believed, a phrase for each failed check.

    Args:
        numbers: Of `harness.suites.belief.numbers`; others are left alone.
        needed: Checks without which nothing is believed.
        expected: Whether gradients were means over draws, and verdicts by most of fresh draws.
    """
    found = []
    for name, check in CHECKS.items():
        if name not in numbers or (name == "random" and expected):
            continue
        number = numbers[name]
        if check.fails(name, number):
            n = "no image" if not number.n else f"{number.n} images"
            value = "none" if math.isnan(number.value) else f"{100 * number.value:.1f} %"
            found.append(
                f"{check.says.format(value=value)} (of {n}; limit {100 * check.limit:g} %)"
            )
    missing = [name.replace("_", " ") for name in needed if name not in numbers]
    if missing:
        found.append(f"not checked: {', '.join(missing)}")
    return found


def verdict(
    numbers: Mapping[str, Share], needed: Sequence[str] = NEEDED, *, expected: bool = False
) -> str:
    """Return "believed", or "upper bound: WHY", the first failure and the number of others.

    The arguments are those of `failures`.
    """
    why = failures(numbers, needed, expected=expected)
    if not why:
        return BELIEVED
    others = {1: "", 2: "; 1 more check failed"}
    return BOUND + why[0] + others.get(len(why), f"; {len(why) - 1} more checks failed")
