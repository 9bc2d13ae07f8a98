"""The registry of builders, and what a person wants to know of each: nothing here computes.

A builder is a function `(num_classes: int = 10, width: int = 64) -> nn.Module`, registered under
its own name by a decorator, with its card below; one of fixed size takes no `width`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from harness.models.catalog import CATALOG, MODULES
from harness.models.papers import Paper
from harness.models.registry import Registry

Builder = Callable[..., nn.Module]
MODELS: Registry[Builder] = Registry(
    "model", {name: entry.module for name, entry in CATALOG.items()}, MODULES, "harness.models"
)


@dataclass(frozen=True)
class Card:
    """What a person wants to know of a model before running it.

    Args:
        family: "baseline", "touchpoint", "partial differential equation", "review",
            "convection-diffusion", "generative", "null" or "rival".
        equation: The update in one line, in the letters of the paper.
        papers: Papers that it comes from; none for what is ours alone.
        nulls: Names of the trivial models that would explain the same gain.
        matched: Of a null, in what it equals its idea; a test measures each.
    """

    family: str
    equation: str
    papers: tuple[Paper, ...] = ()
    nulls: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other images of its batch; the equation says so."""
        return self.equation.startswith("transductive:")


B = TypeVar("B", bound=Callable[..., nn.Module])


def card(
    family: str,
    equation: str,
    papers: tuple[Paper, ...] = (),
    nulls: tuple[str, ...] = (),
    matched: tuple[str, ...] = (),
) -> Callable[[B], B]:
    """Give a builder its `Card`; stands below `@MODELS.register`."""

    def describe(builder: B) -> B:
        builder.card = Card(family, equation, papers, nulls, matched)  # type: ignore[attr-defined]
        return builder

    return describe


def takes_width(builder: Builder) -> bool:
    """Return whether a builder has a width to choose."""
    return "width" in inspect.signature(builder).parameters


def card_of(builder: Builder) -> Card:
    """Return the card of a builder; a blank one for a builder that has none."""
    return getattr(builder, "card", Card("other", ""))
