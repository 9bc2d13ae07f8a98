"""Samples to answers: what was found on each question, then the verdicts, one family for all."""

from collections.abc import Sequence

from harness.refusal import Refusal
from harness.study.claims import judge
from harness.study.design import Question
from harness.study.effects import Numbers
from harness.study.findings import Finding
from harness.study.gains import gain, match, total
from harness.study.inside import cost, learned
from harness.study.solvers import solver

KINDS = {
    "gain": gain,
    "match": match,
    "sum": total,
    "learned": learned,
    "cost": cost,
    "solver": solver,
}


def find(question: Question, numbers: Numbers) -> Finding:
    """Return what was found on a question.

    Raises:
        Refusal: A number is missing.
    """
    return KINDS[question.kind](question, numbers)


def find_all(
    questions: Sequence[Question], numbers: Numbers, wanted: Sequence[str]
) -> list[Finding | None]:
    """Return what was found on each question, None where something was not measured.

    Args:
        wanted: Numbers of the questions that must have an answer, of a gain also before all nulls
            are measured.

    Raises:
        Refusal: What one of these needs is missing.
    """
    made: list[Finding | None] = []
    for question in questions:
        asked = question.number in wanted
        try:
            whole = asked or not numbers.missing(question.decides, question.against)
            made.append(find(question, numbers) if whole else None)
        except Refusal:
            if asked:
                raise
            made.append(None)
    return made


def verdicts(made: Sequence[Finding | None]) -> list[tuple[Finding, str]]:
    """Return the findings with their verdicts; what is not there yet counts in the family."""
    there = [finding for finding in made if finding is not None]
    found = judge([finding.claims for finding in there], len(made))
    return list(zip(there, found, strict=True))
