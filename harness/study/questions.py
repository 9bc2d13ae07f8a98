"""What the study asks, and at which scale.

A question names a model, what it stands beside, and the one comparison that decides. A gain counts
only over the baseline *and* every null: what is not better than blur was not gained by diffusion.
"""

from dataclasses import dataclass
from typing import Literal

from harness.models.registry import unknown

ENOUGH = 0.01  # the smallest gain in accuracy that matters: one point
WEAK = 0.1  # a rank correlation that does not matter
SLIGHT = 0.05  # a relative change of a statistic that does not matter

Quantity = tuple[str, str, str]  # suite, metric, group of conditions
Kind = Literal["gain", "change", "match", "cost"]


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
        suite: Whose `metric` decides, under the conditions of `group`.
        also: Further (suite, metric, group) that are told, and decide nothing.
    """

    number: str
    text: str
    kind: Kind
    model: str
    baseline: str
    nulls: tuple[str, ...]
    suite: str
    metric: str
    group: str
    also: tuple[Quantity, ...] = ()

    @property
    def quantity(self) -> Quantity:
        return self.suite, self.metric, self.group

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.baseline, *self.nulls)


CLEAN = ("robustness", "accuracy", "clean")
CORRUPTED = ("robustness", "accuracy", "noise+blur")

QUESTIONS = (
    Question(
        "1",
        "Does a diffusion layer on feature maps improve classification?",
        "gain",
        "pde_layer",
        "resnet18",
        ("gaussian_blur_layer", "depthwise_conv_layer"),
        *CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "2a",
        "Does diffusing attention maps change them, beyond what a temperature would?",
        "change",
        "pde_attention",
        "",
        (),
        "attention",
        "total_variation",
        "clean",
        also=(
            ("attention", "gini", "clean"),
            ("attention", "distance", "clean"),
            ("attention", "instability", "noise@1,3,5"),
            ("attention", "instability", "blur@1,3,5"),
        ),
    ),
    Question(
        "2b",
        "Does diffusing attention maps help?",
        "gain",
        "pde_attention",
        "plain_attention",
        ("temperature_attention",),
        *CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "3",
        "Does anisotropic-diffusion augmentation make a classifier robust to noise and blur?",
        "gain",
        "pde_aug",
        "resnet18",
        ("gaussian_blur_aug",),
        *CORRUPTED,
        also=(("robustness", "accuracy", "noise"), ("robustness", "accuracy", "blur"), CLEAN),
    ),
    Question(
        "4a",
        "Can an ODE block match fixed layers, and at how many function evaluations?",
        "match",
        "ode_block",
        "resnet18_slot4",
        ("tied_resnet",),
        *CLEAN,
        also=(CORRUPTED,),
    ),
    Question(
        "4b",
        "Do hard images cost an ODE block more function evaluations?",
        "cost",
        "ode_block",
        "",
        (),
        "nfe",
        "nfe_rho_loss",
        "dopri5 0.001",
        also=(
            ("nfe", "nfe_rho_margin", "dopri5 0.001"),
            ("nfe", "nfe_rho_loss_dealt", "dopri5 0.001"),
            ("nfe", "nfe_rho_severity", "dopri5, gaussian_noise 0-5 0.001"),
        ),
    ),
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
        LookupError: There is no such preset.
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
            for suite in (question.suite, *(suite for suite, _, _ in question.also)):
                if suite != "robustness" and name != question.model:
                    continue  # what looks inside is asked of the idea alone
                found.setdefault(name, {})[suite] = None
        if question.kind == "match":  # where fixed layers stand on the axis of evaluations
            for name in (question.model, question.baseline):
                found[name]["nfe"] = None
    order = ("robustness", "attention", "nfe")
    return {name: tuple(s for s in order if s in suites) for name, suites in found.items()}
