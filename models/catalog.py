"""What there is to know of every model without building one: the generated table catalog.json.

`python -m harness.models` makes the table again from the registry; a test compares the two.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.models import papers
from harness.models.papers import Paper
from harness.models.reported import REPORTED, Reported

FILE = Path(__file__).with_name("catalog.json")

# Every family of classifiers, one line each.
MODULES = (
    "harness.models.resnet",
    "harness.models.slots",
    "harness.models.pde_layer",
    "harness.models.pde_attention",
    "harness.models.pde_aug",
    "harness.models.matched_aug",
    "harness.models.augmix",
    "harness.models.ode_block",
    "harness.models.tied_blocks",
    "harness.models.neural_ode",
    "harness.models.diffusifynet",
    "harness.models.s20",
    "harness.models.ruthotto_haber",
    "harness.models.revnet",
    "harness.models.polynet",
    "harness.models.rk_resnet",
    "harness.models.lm_resnet",
    "harness.models.fractalnet",
    "harness.models.stochastic_depth",
    "harness.models.shake_shake",
    "harness.models.neural_sde",
    "harness.models.convection_diffusion",
    "harness.models.exact_score",
    "harness.models.gaussian_fit",
    "harness.models.edm_score",
    "harness.models.flow_matching",
)


@dataclass(frozen=True)
class Entry:
    """One model of the registry.

    Args:
        module: Module that registers it.
        summary: First line of its docstring.
        family: Family as on its card, with `equation`, `papers` and `nulls`.
        parameters: Trainable weights at width 64 for 10 classes.
        macs: Multiply-adds of one image of 32 pixels; None where a solver chooses its steps.
        capabilities: Names of what a suite may ask of it beyond logits.
        matched: Of a null, in what it equals its idea.
    """

    name: str
    module: str
    summary: str
    family: str
    equation: str
    papers: tuple[Paper, ...]
    nulls: tuple[str, ...]
    parameters: int
    macs: int | None
    capabilities: tuple[str, ...]
    matched: tuple[str, ...]

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on the other images of its batch; the equation says so."""
        return self.equation.startswith("transductive:")

    @property
    def reported(self) -> tuple[Reported, ...]:
        """What papers report of it; none where we could read nothing."""
        return REPORTED.get(self.name, ())


def read() -> dict[str, Entry]:
    """Return the table, by name in the order of registration."""
    known = {p.key: p for p in vars(papers).values() if isinstance(p, Paper)}
    rows = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else []
    return {
        row["name"]: Entry(
            **row
            | {"papers": tuple(known[key] for key in row["papers"])}
            | {name: tuple(row[name]) for name in ("nulls", "capabilities", "matched")}
        )
        for row in rows
    }


def rows() -> list[dict[str, Any]]:
    """Return the rows of the table from the registry, building every model."""
    import importlib

    from harness.models.base import capabilities
    from harness.models.cards import MODELS, card_of, takes_width
    from harness.models.size import size_of

    for module in MODULES:
        importlib.import_module(module)
    own = [name for name in MODELS.registered if MODELS[name].__module__ in MODULES]
    found = []
    # In the order of `MODULES`, whichever was imported first.
    for name in sorted(own, key=lambda name: MODULES.index(MODELS[name].__module__)):
        builder = MODELS[name]
        card, size = card_of(builder), size_of(builder)
        small = builder(width=8) if takes_width(builder) else builder()
        found.append(
            {
                "name": name,
                "module": builder.__module__,
                "summary": (builder.__doc__ or "").strip().partition("\n")[0],
                "family": card.family,
                "equation": card.equation,
                "papers": [paper.key for paper in card.papers],
                "nulls": list(card.nulls),
                "parameters": size.parameters,
                "macs": size.macs,
                "capabilities": sorted(capabilities(small.eval())),
                "matched": list(card.matched),
            }
        )
    return found


CATALOG = read()
