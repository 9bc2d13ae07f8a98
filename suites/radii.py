"""Sizes of adversarial changes in two norms, as conditions of a suite have them; nothing heavy."""

import math
from dataclasses import dataclass

LARGE = 64  # pixels, above which eps is that of ImageNet


@dataclass(frozen=True)
class Grid:
    """Where a norm's images are attacked.

    Args:
        unit: What a level is in units of images in [0, 1]: 1 / 255 in "linf", 1 in "l2".
        levels: eps in that unit, ascending.
        headline: The one of them at which leaderboards report; `large` that of large images.
        farthest: eps of the search for the nearest point, in units of images: it reaches all.
    """

    unit: float
    levels: tuple[float, ...]
    headline: float
    large: float
    farthest: float

    def reported(self, image_size: int) -> float:
        """Return the level that leaderboards report, for images of this side."""
        return self.large if image_size > LARGE else self.headline


GRIDS = {
    "linf": Grid(1 / 255, (0.25, 0.5, 1, 2, 4, 8, 16), 8, 4, 1),
    "l2": Grid(1, (0.1, 0.25, 0.5, 1), 0.5, 0.5, 1e4),
}

SPELLINGS = "Use `linf` or `l2` for a whole curve, `linf 8` for 8/255, `l2 0.5` for 0.5."
UNKNOWN = "There is no attack `{}`. " + SPELLINGS


def chosen(asked: str) -> tuple[str, float | None]:
    """Return norm and level of "linf 8"; of "linf" the level None, for the whole curve.

    Raises:
        ValueError: There is no such norm, or the level is no positive number.
    """
    norm, *rest = asked.split() or [""]
    if norm not in GRIDS or len(rest) > 1:
        raise ValueError(UNKNOWN.format(asked))
    if not rest:
        return norm, None
    try:
        level = float(rest[0])
    except ValueError:
        raise ValueError(UNKNOWN.format(asked)) from None
    if not 0 < level * GRIDS[norm].unit < math.inf:
        raise ValueError(f"An attack has a radius above 0, not `{rest[0]}`. {SPELLINGS}")
    return norm, level


NO_ATTACKS = (
    "fixed",
    "checks",
    "solvers",
    "transfer",
    "certificate",
)  # first words of other conditions


def size_in_words(norm: str, level: float) -> str:
    """Return the size of a level as papers write it: "8/255" in "linf", "0.5" in "l2"."""
    return f"{level:g}/255" if norm == "linf" else f"{level:g}"


def distance_of(norm: str) -> str:
    """Return the condition that a norm's distances stand under, at level 0."""
    return f"{norm} distance"


def checks_of(norm: str) -> str:
    """Return the condition of the checks of a norm's attacks, at level 0."""
    return f"{norm} checks"


def certificate_of(norm: str) -> str:
    """Return the condition of a norm's certified radii, at level 0."""
    return f"{norm} certificate"


def solvers_of(norm: str) -> str:
    """Return the condition of attacks through several solvers, at level 0."""
    return f"{norm} solvers"


def transfer_of(norm: str) -> str:
    """Return the condition of images that are made on other networks, at level 0."""
    return f"{norm} transfer"


def summary_of(group: str) -> str | None:
    """Return the group that holds what one attack's group is a step of; None for any other.

    "linf apgd_ce 4" is a step of "linf 4", "linf fab_t" of "linf distance".
    """
    norm, _, rest = group.partition(" ")
    name, _, level = rest.rpartition(" ")
    if norm not in GRIDS or not rest or rest.partition(" ")[0] in ("distance", *NO_ATTACKS):
        return None
    if not level.replace(".", "", 1).isdigit():
        return distance_of(norm)
    return f"{norm} {level}" if name else None
