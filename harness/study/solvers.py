"""Questions about one model under several solvers, of the same images or samples.

    solver    yes: better with its solver than with each of the others. little: better than one of
              them by less than the margin, a share of what that one has. worse: worse than with
              the first of the others.

Nothing is trained between the two sides: what differs from seed to seed is the network that is
solved, and the noise that samples start from.
"""

from harness.analysis import holm
from harness.analysis.groups import describe_group
from harness.study.claims import NO, SLIGHT, WORSE, YES, Claim, Claims
from harness.study.design import Question
from harness.study.effects import Numbers
from harness.study.findings import Finding, margin_of, several
from harness.study.sentences import found
from harness.suites.metrics import METRICS


def solver(question: Question, numbers: Numbers) -> Finding:
    """Is a model better with one solver than with others?"""
    model, quantity = question.model, question.decides
    deciding = [numbers.within(quantity, model, group, True) for group in question.solvers]
    shown = [
        numbers.within(place, model, group, False)
        for place in question.also
        for group in question.solvers
    ]

    def claims(by: float) -> Claims:
        moved = [e.moved(by) for e in deciding]
        little = holm([e.p_below(question.margin * abs(e.other)) for e in moved])
        p: dict[Claim, float] = {
            "yes": max(e.p_above(0) for e in moved),
            "little": float(min(little)),
            "worse": moved[0].p_below(0),
        }
        return Claims(p)

    margin = margin_of(question)
    own = f"the {METRICS[quantity.metric].title} of {model} {describe_group(quantity.group)}"
    said = several(deciding)
    words = {
        YES: f"It is better: {own}: {said}",
        SLIGHT: f"It is better, by less than {margin}: {own}: {said}",
        NO: f"It is not better by {margin}: {own}: {said}",
        WORSE: f"It is worse: {own}: {said}",
        "": f"Inconclusive: {own}: {said}",
    }
    facts = tuple(filter(None, (found(deciding),)))
    return Finding(question, claims(0), (*deciding, *shown), words, facts, margin, claims)
