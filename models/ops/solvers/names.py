"""Solvers by name: `solver("rk4", num_steps=4)`, `solver("dopri5", rtol=1e-4, atol=1e-4)`."""

import difflib
from typing import Any

from harness.models.ops.solvers.adaptive import Adaptive
from harness.models.ops.solvers.fixed import FixedGrid, Leapfrog
from harness.models.ops.solvers.solution import Solver
from harness.models.ops.solvers.tableau import ADAPTIVE, FIXED

FIXED_NAMES = (*(t.name for t in FIXED), "leapfrog")
ADAPTIVE_NAMES = tuple(t.name for t in ADAPTIVE)


def solver(name: str, **settings: Any) -> Solver:
    """Return the solver called `name`.

    Args:
        settings: `num_steps`, and `checkpointed`, of a fixed one; `rtol`, `atol` and `max_nfe` of
            an adaptive one.

    Raises:
        LookupError: There is no such solver.
        ValueError: A setting is unknown, missing or out of range.
    """
    known = (*FIXED_NAMES, *ADAPTIVE_NAMES)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        cure = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}."
        raise LookupError(f"There is no solver called `{name}`. {cure}")
    takes = {"rtol", "atol", "max_nfe"} if name in ADAPTIVE_NAMES else {"num_steps"}
    if name in FIXED_NAMES and name != "leapfrog":
        takes.add("checkpointed")
    for setting in settings:
        if setting not in takes:
            raise ValueError(f"`{name}` takes no `{setting}`. It takes {', '.join(sorted(takes))}.")
    if name in FIXED_NAMES and "num_steps" not in settings:
        raise ValueError(f"`{name}` needs a number of steps. Give for example `num_steps=4`.")
    if name == "leapfrog":
        return Leapfrog(**settings)
    tableau = next(t for t in (*FIXED, *ADAPTIVE) if t.name == name)
    make = Adaptive if name in ADAPTIVE_NAMES else FixedGrid
    return make(tableau, **settings)
