"""What the study asks, and at which scale.

A question names a model, what it stands beside, and the one comparison that decides. A gain counts
only over the baseline *and* every null: what is not better than blur was not gained by diffusion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.refusal import unknown

ENOUGH = 0.01  # the smallest gain in accuracy that matters: one point
WEAK = 0.1  # a rank correlation that does not matter
SLIGHT = 0.05  # a relative change of a statistic that does not matter

Kind = Literal["gain", "change", "match", "cost"]


class Quantity(NamedTuple):
    """What is measured: a suite's metric under a group of conditions, of one variant."""

    suite: str
    metric: str
    group: str
    variant: str = ""


@dataclass(frozen=True)
class Question:
    """One question with a yes or a no.

    Args:
        number: Such as "2a".
        text: As a person asks it.
        kind: "gain": is the model better than all its rivals? "change": do its maps differ from
            those that a temperature gives? "match": is it as good as its baseline, but for
            `ENOUGH`? "cost": do its evaluations grow with an image's loss?
        model: Whom it is about.
        baseline: The same network without the idea.
        nulls: Trivial models that would explain the same gain.
        quantity: What decides.
        also: Further quantities that are reported, and decide nothing.
    """

    number: str
    text: str
    kind: Kind
    model: str
    baseline: str
    nulls: tuple[str, ...]
    quantity: Quantity
    also: tuple[Quantity, ...] = ()

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.baseline, *self.nulls)


CLEAN = Quantity("robustness", "accuracy", "clean")
CORRUPTED = Quantity("robustness", "accuracy", "noise+blur")

QUESTIONS = (
    Question(
        "1",
        "Does a diffusion layer on feature maps improve classification?",
        "gain",
        "pde_layer",
        "resnet18",
        ("gaussian_blur_layer", "depthwise_conv_layer"),
        CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "2a",
        "Does diffusing attention maps change them, beyond what a temperature would?",
        "change",
        "pde_attention",
        "",
        (),
        Quantity("attention", "total_variation", "clean"),
        also=(
            Quantity("attention", "gini", "clean"),
            Quantity("attention", "distance", "clean"),
            Quantity("attention", "instability", "noise@1,3,5"),
            Quantity("attention", "instability", "blur@1,3,5"),
        ),
    ),
    Question(
        "2b",
        "Does diffusing attention maps help?",
        "gain",
        "pde_attention",
        "plain_attention",
        ("temperature_attention",),
        CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "3",
        "Does anisotropic-diffusion augmentation make a classifier robust to noise and blur?",
        "gain",
        "pde_aug",
        "resnet18",
        ("gaussian_blur_aug",),
        CORRUPTED,
        also=(
            Quantity("robustness", "accuracy", "noise"),
            Quantity("robustness", "accuracy", "blur"),
            CLEAN,
        ),
    ),
    Question(
        "4a",
        "Can an ODE block match fixed layers, and at how many function evaluations?",
        "match",
        "ode_block",
        "resnet18_slot4",
        ("tied_resnet",),
        CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "4b",
        "Do hard images cost an ODE block more function evaluations?",
        "cost",
        "ode_block",
        "",
        (),
        Quantity("nfe", "nfe_rho", "dopri5 0.001", "loss"),
        also=(
            Quantity("nfe", "nfe_rho", "dopri5 0.001", "margin"),
            Quantity("nfe", "nfe_rho", "dopri5 0.001", "dealt loss"),
            Quantity("nfe", "nfe_rho", "dopri5, gaussian_noise 0-5 0.001", "severity"),
        ),
    ),
)


def select_questions(numbers: Sequence[str]) -> tuple[Question, ...]:
    """Return the questions of these numbers, all for none; "2" means 2a and 2b.

    Raises:
        Refusal: There is no such question.
    """
    known = [q.number for q in QUESTIONS]
    for number in numbers:
        if not any(number in (q, q.rstrip("ab")) for q in known):
            raise unknown("question", number, known)
    return tuple(
        q
        for q in QUESTIONS
        if not numbers or q.number in numbers or q.number.rstrip("ab") in numbers
    )


@dataclass(frozen=True)
class Preset:
    """At which scale the questions are asked.

    Args:
        seeds: How many, from 0 on.
    """

    dataset: str
    seeds: int


PRESETS = {"quick": Preset("digits", 3), "cifar10": Preset("cifar10", 5)}


def preset_for(name: str | None, dataset: str | None) -> Preset:
    """Return the preset of this name; without one that of the data set, or `quick`.

    Raises:
        Refusal: There is no such preset.
    """
    if name is None:
        name = next((k for k, preset in PRESETS.items() if preset.dataset == dataset), "quick")
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def suites_of(questions: tuple[Question, ...]) -> dict[str, tuple[str, ...]]:
    """Return the suites that each model must have run, the cheap ones first."""
    found: dict[str, dict[str, None]] = {}
    for question in questions:
        for name in (question.model, *filter(None, question.rivals)):
            for suite in (q.suite for q in (question.quantity, *question.also)):
                if suite != "robustness" and name != question.model:
                    continue  # what looks inside is asked of the idea alone
                found.setdefault(name, {})[suite] = None
        if question.kind == "match":  # where fixed layers stand on the axis of evaluations
            for name in (question.model, question.baseline):
                found[name]["nfe"] = None
    order = ("robustness", "attention", "nfe")
    return {name: tuple(s for s in order if s in suites) for name, suites in found.items()}
