"""What is said of effects, from the numbers that are stored."""

import math
from collections.abc import Sequence

from harness.comparison.wording import bounds, signed
from harness.study.effects import Effect


def phrase(effect: Effect, against: bool = True) -> str:
    """Return "+1.3 points [0.2, 2.4] against resnet18"."""
    stored = effect.store()
    text = signed(stored.metric, stored.effect)
    if math.isfinite(stored.low):
        text += f" {bounds(stored.metric, stored.low, stored.high)}"
    return f"{text} against {stored.against}" if against else text


def beats(effect: Effect) -> str:
    """Say how often one retraining of the model beats one of the other; "" where not known."""
    if not math.isfinite(effect.beats):
        return ""
    return (
        f"One retraining of {effect.model} beats one of {effect.against} with probability "
        f"{effect.beats:.2f}."
    )


def found(effects: Sequence[Effect]) -> str:
    """Say which difference would have been found."""
    sizes = [e.mde for e in effects if math.isfinite(e.mde)]
    if not sizes:
        return ""
    size = signed(effects[0].quantity.metric, max(sizes)).lstrip("+")
    return f"A difference of {size} would have been found in 4 of 5 such studies."


def scale(effects: Sequence[Effect]) -> str:
    """Return what stands behind effects; one seed speaks of weights, not of a method."""
    seeds, images = effects[0].seeds, effects[0].images
    whose = f", which speaks of these weights of {effects[0].model} alone" if seeds == 1 else ""
    return f"{seeds} seed{'s' * (seeds > 1)}, {images:,} images{whose}"
