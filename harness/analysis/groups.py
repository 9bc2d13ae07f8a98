"""Groups of conditions: what is averaged into one number, in any suite's table.

A group's name says which cells it holds, so that rows of one name can be compared:

    clean               the untouched test set
    noise, blur, ...    a family of corruptions, all of its kinds at severities 1 to 5
    noise+blur          its seven kinds together; `common`: all 15 common corruptions
    gaussian_noise      one kind, its severities; a user's corruption likewise
    noise@3             at severity 3 alone; `noise@1,3`: at two of them
    euler 4             any other condition at one level: only severities are averaged

A family that is not complete has no row; its kinds have theirs. Means that stand for a model as a
whole hold common corruptions alone, never those of validation or of a user.
"""

from collections.abc import Iterable
from functools import lru_cache

from harness.suites import catalog
from harness.suites.catalog import SEVERITIES
from harness.suites.radii import GRIDS, size_in_words, summary_of

Where = tuple[str, float]  # condition and level
KINDS = tuple(kind for kinds in catalog.FAMILIES.values() for kind in kinds)
FAMILIES = catalog.FAMILIES | {
    "noise+blur": catalog.FAMILIES["noise"] + catalog.FAMILIES["blur"],
    "common": catalog.COMMON,
}
ORDER = ("clean", *FAMILIES, *KINDS)
PHRASES = {
    "clean": "on clean images",
    "noise+blur": "under noise and blur",
    "common": "under the 15 common corruptions",
    "digital": "under digital corruptions",
    "validation": "under the validation corruptions",
}


@lru_cache(maxsize=4096)
def groups_of(cells: frozenset[Where]) -> dict[str, tuple[Where, ...]]:
    """Return the groups that these cells make, in the order of tables."""
    found: dict[str, tuple[Where, ...]] = {}
    levels = {k: tuple(sorted(lv for c, lv in cells if c == k)) for k in _kinds(cells)}
    for name, kinds in (FAMILIES | {k: (k,) for k in levels}).items():
        at = {levels.get(k, ()) for k in kinds}
        if len(at) == 1 and (here := at.pop()):
            found[name + _at(here)] = tuple((k, lv) for k in kinds for lv in here)
    for condition, level in sorted(cells):
        if condition not in levels:
            plain = level == 0 and condition not in FAMILIES
            name = condition if plain else f"{condition} {level:g}"
            found[name] = ((condition, level),)
    return dict(sorted(found.items(), key=lambda item: place(item[0])))


def _kinds(cells: frozenset[Where]) -> list[str]:
    """The corruptions: built-in ones, and others that have severities, all or as those have."""
    levels: dict[str, tuple[float, ...]] = {}
    for condition, level in sorted(cells):
        levels[condition] = (*levels.get(condition, ()), level)
    own = [k for k in KINDS if k in levels]
    severities = {SEVERITIES, *(levels[k] for k in own if len(levels[k]) > 1)}
    return own + [c for c in levels if c not in own and levels[c] in severities]


def name_of(cells: Iterable[Where]) -> str:
    """Return the group that holds just these cells; "" where there is none."""
    found = groups_of(frozenset(cells))
    return next((name for name, inside in found.items() if len(inside) == len(set(cells))), "")


CORRUPTED = "corrupted"  # of `with_corrupted`: no name says which cells these are


def with_corrupted(cells: frozenset[Where]) -> dict[str, tuple[Where, ...]]:
    """Return the groups of `groups_of`, and all common corruptions together that are there.

    Two models may have other cells in it, so that it is for one model's summary, not for a
    leaderboard.
    """
    mean = tuple(sorted(w for w in cells if w[0] in catalog.COMMON))
    return groups_of(cells) | ({CORRUPTED: mean} if mean else {})


def with_cells(cells: frozenset[Where]) -> dict[str, tuple[Where, ...]]:
    """Return the groups of `groups_of`, and every single cell of a corruption: `fog 3`."""
    kinds = _kinds(cells)
    single = {f"{c} {lv:g}": ((c, lv),) for c, lv in sorted(cells) if c in kinds}
    return groups_of(cells) | single


def single_cells(groups: Iterable[str]) -> set[str]:
    """Return those that are a single cell of a corruption, a part of its group."""
    names = set(groups)
    kinds = {*KINDS, *(g.partition("@")[0] for g in names)}
    return {g for g in names if g.rpartition(" ")[0] in kinds}


def _at(levels: tuple[float, ...]) -> str:
    return "" if levels == SEVERITIES else "@" + ",".join(f"{lv:g}" for lv in levels)


def place(group: str) -> tuple:
    """Return what sorts groups: clean, families, kinds, then the others by name and level."""
    name, _, level = group.partition("@")
    if name in ORDER:
        return (0, ORDER.index(name), level, 0.0)
    condition, _, number = group.rpartition(" ")
    try:
        which = KINDS.index(condition) if condition in KINDS else len(KINDS)
        return (1, which, condition, float(number))
    except ValueError:
        return (1, len(KINDS), group, -1.0)


def headline(groups: Iterable[str]) -> list[str]:
    """Return the groups without the parts of others.

    These are the single kinds of a family, and of attacks the steps of a sequence.
    """
    names = list(groups)
    plain = {g.partition("@")[0] for g in names}
    inside = {kind for family in FAMILIES if family in plain for kind in FAMILIES[family]}
    cells = single_cells(names)
    steps = {g for g in names if (whole := summary_of(g)) and whole in names}
    return [
        g for g in names if g.partition("@")[0] not in inside and g not in cells and g not in steps
    ]


def describe_group(group: str) -> str:
    """Return a group as part of a sentence."""
    norm, _, level = group.partition(" ")
    if norm in GRIDS and level.replace(".", "", 1).isdigit():
        return f"at eps {size_in_words(norm, float(level))} ({norm})"
    name, _, levels = group.partition("@")
    plain = name.replace("_", " ") if name in FAMILIES or name in KINDS else name
    words = PHRASES.get(name, f"under {plain}")
    return f"{words} at severity {levels.replace(',', ', ')}" if levels else words
