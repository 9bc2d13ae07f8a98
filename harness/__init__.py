"""Evaluate image classifiers inspired by differential equations, and compare them.

    evaluate      a model in memory, a builder or a name, to a table of measurements
    compare       two tables or results folders, to effects with intervals
    leaderboard   a table or a results folder, to means with intervals and ranks
    load_results  what `harness run` wrote, to a table of measurements

The command `harness` does the same with folders.
"""

from harness.front import compare, evaluate, leaderboard, load_results

__all__ = ["compare", "evaluate", "leaderboard", "load_results"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.storage.provenance import version

    return version()
