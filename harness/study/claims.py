"""What a question claims, and what of it stands: from p values to verdicts.

Each question makes up to three claims, each with a one-sided p value of its contrary:

    yes      what is asked is so
    little   it is less than the margin
    worse    it is the other way round

All claims of all questions of a study, of both signs, are one family at 5 % after Holm. A verdict
follows from the claims that stand, in one order for all kinds of question:

    worse                        "worse" stands
    yes, by less than a point    "yes" and "little" stand
    yes                          "yes" stands
    no relevant gain             "little" stands alone
    cannot tell                  nothing does: nothing was shown, and nothing was excluded

so that a "yes" that does not survive is a "no relevant gain" where that survives. Of a claim that
the data cannot decide, such as that of a gain at a ceiling, it is said why; it counts as none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.analysis import holm
from harness.analysis.families import LEVEL

YES, SLIGHT, NO = "yes", "yes, by less than a point", "no relevant gain"
WORSE, UNCLEAR = "worse", "cannot tell"
VERDICTS = (YES, SLIGHT, NO, WORSE, UNCLEAR)
Claim = Literal["yes", "little", "worse"]
CLAIMS: tuple[Claim, ...] = ("yes", "little", "worse")


@dataclass(frozen=True)
class Claims:
    """One-sided p values of a question's claims.

    Args:
        alone: Whether "little" says something without a "yes"; it does not where less than the
            margin is what "yes" means.
        empty: Why a claim cannot be made, a clause.
    """

    p: Mapping[Claim, float]
    alone: bool = True
    empty: Mapping[Claim, str] = field(default_factory=dict)

    @property
    def family(self) -> list[float]:
        """The p values that enter the family: 1 for what cannot be claimed."""
        return [1.0 if c in self.empty else self.p.get(c, 1.0) for c in CLAIMS]

    def verdict(self, adjusted: Sequence[float]) -> str:
        """Return the verdict, `adjusted` being the family's p values after Holm."""
        stands = {claim for claim, p in zip(CLAIMS, adjusted, strict=True) if p <= LEVEL}
        if "worse" in stands:
            return WORSE
        if "yes" in stands:
            return SLIGHT if "little" in stands else YES
        return NO if "little" in stands and self.alone else UNCLEAR


def judge(claims: Sequence[Claims], questions: int) -> list[str]:
    """Return the verdict on each question; all claims are one family.

    Args:
        questions: How many the study has; those without an answer yet count with p = 1.
    """
    size = len(CLAIMS)
    family = [p for c in claims for p in c.family]
    adjusted = holm(family + [1.0] * size * (questions - len(claims))).tolist()
    return [c.verdict(adjusted[size * i : size * (i + 1)]) for i, c in enumerate(claims)]


def say(verdict: str, margin: str) -> str:
    """Return a verdict with the margin that was used: "yes, by less than 5 %"."""
    return verdict.replace("a point", margin) if verdict == SLIGHT else verdict
