"""Metrics of the suite `adversarial`: what attacks leave, and whether they could see.

Formulas are in `harness.suites.adversarial` and `harness.suites.belief`.

References: F. Croce and M. Hein, Reliable evaluation of adversarial robustness with an ensemble of
diverse parameter-free attacks, ICML 2020; Y. Tsuzuku, I. Sato and M. Sugiyama, Lipschitz-margin
training, NeurIPS 2018, https://arxiv.org/abs/1802.04034.
"""

from dataclasses import replace

from harness.suites.metric import RATE, Better, Metric

ROBUST_ACCURACY = Metric(
    "robust_accuracy",
    "robust accuracy",
    "Share of images that are classified correctly, clean and at every point within eps that an "
    "attack tried; an upper bound.",
    "up",
    RATE,
    0,
    1,
    reference="Croce and Hein 2020",
    by_image=True,
)
ATTACK_SUCCESS = Metric(
    "attack_success",
    "attack success",
    "Share of the images that an attack was given for which it found a misclassified point; they "
    "are those that the attacks before it left.",
    unit=RATE,
    low=0,
    high=1,
    by_image=True,
)
MINIMAL_DISTANCE = Metric(
    "minimal_distance",
    "median distance",
    "Median over images of the distance to the nearest misclassified point that was found, in "
    "units of images in [0, 1]; 0 for images that are misclassified; an upper bound.",
    "up",
    low=0,
    reference="Croce and Hein 2020",
)


def _share(name: str, title: str, meaning: str, better: Better = "down", low: float = 0) -> Metric:
    """A share of the images that were checked."""
    return Metric(name, title, meaning, better, RATE, low, 1, by_image=True)


CERTIFIED = replace(
    _share(
        "certified_accuracy",
        "certified accuracy",
        "Share of images that are classified correctly and that no change within eps can break, by "
        "a bound on the Lipschitz constant of the network; a lower bound.",
        "up",
    ),
    reference="Tsuzuku et al. 2018",
)
CHECKED_EPS = Metric(
    "checked_eps",
    "checked eps",
    "Size of the attacks that were checked, in units of 1 / 255 in the maximum norm.",
    low=0,
)
CHECKED_LEFT = _share(
    "checked_left",
    "checked and left",
    "Share of the checked images that the attacks left: where they may have missed something.",
    "neither",
)
SOLVED = _share(
    "accuracy_through",
    "accuracy through solvers",
    "Share of images that are classified correctly after an attack through one solver (the first "
    "of the variant) by the network with another one (the second).",
    "neither",
)
GAP = _share(
    "masking_gap",
    "masking gap",
    "Share of images that withstand an attack through the solver that is deployed and not one "
    "through another solver, or without gradients.",
)
TRANSFER = _share(
    "transfer",
    "transfer gain",
    "Share of images that those made on other networks break, or on the one that the variant "
    "names, and no attack with gradients did.",
)
BELIEF = (
    TRANSFER,
    _share("zero_gradient", "zero gradients", "Share of images whose gradient is exactly 0."),
    _share(
        "wrong_gradient",
        "wrong gradients",
        "Share of images with a derivative that is not the difference quotient of the loss.",
    ),
    _share(
        "not_rising",
        "loss not rising",
        "Share of images whose loss does not rise along its gradient.",
    ),
    _share("probabilities", "probabilities", "Share of outputs that are no logits.", "neither"),
    _share(
        "random",
        "random answers",
        "Share of images with other answers, or other scaled logits, in one of five calls.",
        "neither",
    ),
    _share(
        "control",
        "positive control",
        "Share of images with a planted adversarial point in which the attack finds one.",
        "up",
    ),
    _share(
        "by_chance",
        "control by chance",
        "The same of ten random moves in place of the attack.",
        "neither",
    ),
    _share("planted", "planted points", "Share of images that have a positive control.", "neither"),
    _share(
        "black_box",
        "black box gain",
        "Share of images that Square breaks and no attack with gradients did.",
    ),
    _share(
        "noise_gain",
        "noise gain",
        "Share of images that random moves break and no attack with gradients did.",
    ),
    _share(
        "fgsm_gain",
        "one-step gain",
        "Share of images that one step breaks and attacks of many steps did not.",
    ),
    _share(
        "more_gain",
        "more-steps gain",
        "Share of images that more steps break and the attacks did not.",
    ),
    _share(
        "left_at_half",
        "left at 1/2",
        "Share of images that are right where all images can be made the same gray one.",
    ),
    _share(
        "below_bound",
        "below the bound",
        "Share of images that are broken although a certificate says that they cannot be.",
    ),
    _share(
        "fixed_less_eot",
        "randomness share",
        "Robust accuracy with the randomness fixed, less that with fresh draws.",
        "neither",
        -1,
    ),
)

OF_ATTACKS = (
    ROBUST_ACCURACY, ATTACK_SUCCESS, MINIMAL_DISTANCE, CERTIFIED, CHECKED_EPS, CHECKED_LEFT, SOLVED,
    GAP, *BELIEF,
)  # fmt: skip
