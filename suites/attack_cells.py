"""The conditions of the suite `adversarial`: a norm and eps with an attack, each after another.

What they are called, and which attacks there are, say `suites.adversarial` and
`suites.attacks.schedule`. What a cell builds on stands in its key, by name and by all settings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from harness.models.registry import unknown
from harness.suites.attacks import suite_checks
from harness.suites.attacks.authors import version
from harness.suites.attacks.ensembles import Entry
from harness.suites.attacks.schedule import NEAREST, rand, short, standard
from harness.suites.base import Cell, Setting, Surrogate, Where
from harness.suites.radii import (
    GRIDS,
    certificate_of,
    checks_of,
    chosen,
    distance_of,
    solvers_of,
    transfer_of,
)

SOURCES = ("harness", "pyautoattack")
CLEAN = ("clean", 0.0)
FIXED = "fixed noise"
CHECKED = "linf"  # the norm whose attacks are checked


@dataclass(frozen=True)
class AttackCell(Cell):
    """A norm and eps with an attack.

    Args:
        norm: "linf" or "l2"; "" for the clean images.
        eps: In units of images in [0, 1].
        entry: The attack; None where what those before it found is only put together.
        source: Whose attack it is.
        fixed: Whether a random network keeps one draw.
        asks: "certificate", "checks", "solvers" or "transfer" of a cell that makes no attack of the
            suite.
        levels: Of checks: eps of each level with the cell whose images are left by gradients.
        surrogates: Of "transfer": the networks that images are made on.
        random: Of checks: whether the network draws random numbers.
    """

    norm: str = ""
    eps: float = 0.0
    entry: Entry | None = None
    source: str = "harness"
    fixed: bool = False
    asks: str = ""
    levels: "Mapping[float, Where]" = field(default_factory=dict)
    random: bool = False
    surrogates: tuple[Surrogate, ...] = ()


def cells(setting: Setting) -> tuple[AttackCell, ...]:
    if setting.attack_source not in SOURCES:
        raise unknown("source of attacks", setting.attack_source, SOURCES)
    if "transductive" in setting.can:
        raise ValueError(
            "The suite `adversarial` attacks single images, and the answers of this model depend "
            "on the other images of their batch. Choose a model without this."
        )
    if is_random(setting) and setting.attack_source != "harness":
        raise ValueError(
            "The package pyautoattack cannot key a model's random draws by image. Leave out "
            "`--attack-source`."
        )
    if setting.num_classes < 2:
        raise ValueError("One class leaves nothing to attack. Choose a data set of two or more.")
    asked = _asked(setting)
    made = (_of_norm(norm, asked[norm], setting) for norm in GRIDS if norm in asked)
    return AttackCell(*CLEAN), *chain.from_iterable(made)


def _asked(setting: Setting) -> dict[str, tuple[float, ...]]:
    """The levels of each norm to be attacked at; none for its whole curve."""
    found: dict[str, set[float]] = {}
    for norm, level in map(chosen, setting.attack or GRIDS):
        found.setdefault(norm, set()).update(() if level is None else (level,))
    curves = {norm for norm, level in map(chosen, setting.attack) if level is None}
    return {norm: () if norm in curves else tuple(sorted(lv)) for norm, lv in found.items()}


def is_random(setting: Setting) -> bool:
    """Return whether the model draws random numbers in evaluation."""
    return not setting.can.isdisjoint({"stochastic", "random"})


def variant(setting: Setting) -> str:
    """Return "[pyautoattack]" where attacks are the authors', "[linf 8]" where few are made."""
    source = "" if setting.attack_source == "harness" else f"[{setting.attack_source}]"
    few = [
        " ".join([norm, *(f"{level:g}" for level in levels)])
        for norm, levels in sorted(_asked(setting).items())
    ]
    return source + (f"[{', '.join(few)}]" if setting.attack else "")


def _of_norm(norm: str, levels: tuple[float, ...], setting: Setting) -> Iterator[AttackCell]:
    """The cells of one norm, each after the one before it.

    Args:
        levels: Those of AutoAttack's `standard`; none for the curve.
    """
    grid, random = GRIDS[norm], is_random(setting)
    headline = max(levels, default=grid.reported(setting.image_size))
    whole = rand(setting.num_classes) if random else standard(setting.num_classes)
    last = CLEAN

    def cell(entry: Entry | None, level: float, eps: float, fixed: bool = False) -> AttackCell:
        if entry is None:
            condition = norm if level else distance_of(norm)
        else:
            condition = f"{norm} {FIXED if fixed else entry.attack}"
        source = setting.attack_source
        told = _constants(entry, norm, eps, source, last)
        return AttackCell(
            condition, level, constants=told, after=(last, *bounds(level, entry)), norm=norm,
            eps=eps, entry=entry, source=source, fixed=fixed,
        )  # fmt: skip

    def bounds(level: float, entry: Entry | None) -> tuple[Where, ...]:
        return () if entry or not level else ((certificate_of(norm), 0.0),)

    made = [AttackCell(certificate_of(norm), 0, norm=norm, asks="certificate")]
    if not random and not levels:
        made.append(cell(NEAREST, 0, grid.farthest))
        last = made[-1].condition, made[-1].level
    for level in levels or grid.levels:
        for entry in whole if levels or level == headline else (short(random),):
            made.append(cell(entry, level, level * grid.unit))
            last = made[-1].condition, made[-1].level
        made.append(cell(None, level, level * grid.unit))
    if not levels:
        made.append(cell(None, 0, 0.0))
    yield from made
    if "stochastic" in setting.can:  # its draws have numbers
        last = CLEAN
        fixed = Entry("apgd_ce", {"iterations": 100})
        yield cell(fixed, headline, headline * grid.unit, fixed=True)
    if norm == CHECKED:
        yield from _checks(norm, made, headline, setting)


def _checks(
    norm: str, made: list[AttackCell], headline: float, setting: Setting
) -> Iterator[AttackCell]:
    """The cells that say whether the numbers of a norm can be believed."""
    after: dict[Where, None] = {CLEAN: None, (certificate_of(norm), 0.0): None}
    levels: dict[float, Where] = {}
    for cell in made:
        where = cell.condition, cell.level
        if 0 < cell.level <= headline and (cell.entry is None or cell.entry.attack != "square"):
            if cell.entry is not None:
                levels[cell.level] = where
            after[where] = None
    told = {"norm": norm, "headline": f"{headline:g}"}
    told |= {name.lower(): str(getattr(suite_checks, name)) for name in suite_checks.CONSTANTS}
    asked = [(checks_of(norm), "checks")]
    if "solver" in setting.can:
        asked.append((solvers_of(norm), "solvers"))
    if setting.surrogates:
        asked.append((transfer_of(norm), "transfer"))
    for condition, asks in asked:
        others = setting.surrogates if asks == "transfer" else ()
        made_on = {f"made on {one.name}": one.weights for one in others}
        yield AttackCell(
            condition, 0, constants=told | made_on, after=tuple(after), norm=norm, eps=headline,
            asks=asks, levels=levels, random=is_random(setting), surrogates=others,
        )  # fmt: skip


def _constants(
    entry: Entry | None, norm: str, eps: float, source: str, last: Where
) -> dict[str, str]:
    """All that determines an attack's points but the model and the seed."""
    told = {"norm": norm, "eps": f"{eps!r}", "after": f"{last[0]} {last[1]:g}"}
    if entry is not None:
        told |= {"attack": entry.attack}
        told |= {f"attack {name}": str(value) for name, value in entry.settings.items()}
        told["source"] = source if source == "harness" else version()
    return told
