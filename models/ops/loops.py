"""Loops that numba compiles at their first call, and keeps beside their file, or in a cache.

Numba takes a second to import. So loops stand in modules of their own, which are imported where
`has_loops` says that they are of use.
"""

from collections.abc import Callable
from typing import Any

import torch

from harness.models.ops import nvrtc


def has_loops() -> bool:
    """Return whether compiled loops may be used on a CPU: HARNESS_OPS=reference does without."""
    return not torch.compiler.is_compiling() and nvrtc.choice() != "reference"


def compiled(function: Callable[..., Any]) -> Any:
    """Return a loop over arrays, compiled; other threads run meanwhile.

    Nothing is reassociated or contracted: numbers do not depend on the machine's vector unit.
    """
    from numba import njit

    return njit(nogil=True, cache=True, error_model="numpy")(function)
