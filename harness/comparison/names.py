"""How a metric, its variant and a group of conditions are written: `accuracy(class 3)/noise`.

    METRIC [(VARIANT)] [/GROUP]

A name without a variant is that of the metric itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from harness.refusal import Refusal, unknown
from harness.suites.metrics import METRICS

Name = tuple[str, str]  # of a metric, and its variant
Better = Mapping[str, Literal["up", "down"]]  # which way, of metrics that do not say it themselves
UNSAID: Better = MappingProxyType({})
NAME = re.compile(r"([^(/=]+?)\s*(?:\(([^()]*)\))?\s*(?:/(.*))?")


def write_name(metric: str, variant: str = "", group: str = "") -> str:
    """Return a name, with what it has."""
    return metric + f"({variant})" * bool(variant) + f"/{group}" * bool(group)


def read_name(text: str) -> tuple[str, str, str]:
    """Return the metric, variant and group of a name; "" for what it has not.

    Raises:
        Refusal: It is not written so.
    """
    match = NAME.fullmatch(text.strip())
    if match is None:
        raise Refusal(
            f"`{text}` is no metric's name. Write it as in accuracy, accuracy(class 3) or "
            "accuracy(class 3)/noise."
        )
    metric, variant, group = (part.strip() for part in match.groups(""))
    return metric, variant, group


def select_names(there: Iterable[Name], wanted: Sequence[str], where: str) -> list[Name]:
    """Return the names that are wanted.

    Args:
        there: Names of all that is there.
        where: What to call it in an error.

    Raises:
        Refusal: One is not there.
    """
    known = {write_name(*name): name for name in there}
    found = []
    for text in wanted:
        name = write_name(*read_name(text)[:2])
        if name not in known:
            raise unknown(f"metric in {where}", name, known)
        found.append(known[name])
    return found


def read_better(options: Sequence[str]) -> dict[str, Literal["up", "down"]]:
    """Return which way is better, of options METRIC=up and METRIC=down.

    Raises:
        Refusal: One is not written so, or the metric says otherwise.
    """
    found: dict[str, Literal["up", "down"]] = {}
    for text in options:
        metric, _, way = (word.strip() for word in text.rpartition("="))
        if not metric or way not in ("up", "down"):
            raise Refusal(f"`--better {text}` is not of the form auroc=up or fpr95=down.")
        own = METRICS[metric].better
        if own not in ("neither", way):
            raise Refusal(f"`--better {text}`: {metric} is better {own}. Leave it out.")
        found[metric] = way  # type: ignore[assignment]
    return found


def sign_of(metric: str, better: Better) -> int:
    """Return 1 where up is better, -1 where down is, 0 where neither is or nobody says it."""
    return METRICS[metric].sign or {"up": 1, "down": -1}.get(better.get(metric, ""), 0)
