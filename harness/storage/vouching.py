"""What a run's JSON must say to vouch for the CSV beside it."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.json_files import parse_json, read_raw
from harness.storage.rows import AGAIN
from harness.storage.spelling import problem_of_metric, problem_of_name
from harness.suites.metrics import METRICS

KEY = ("dataset", "suite", "model", "seed")  # of a run

OPTIONAL: dict[str, type] = {"behavior": list, "metrics": list}
OPTIONAL |= dict.fromkeys(("training", "environment", "code", "origin", "labels"), dict)
OPTIONAL |= dict.fromkeys(("classes", "test_images"), int)


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what the JSON beside a CSV says.

    Raises:
        Refusal: It is not there, damaged or edited.
    """
    content = dict(_parse(path, read_raw(path, AGAIN)))
    for described in content.get("metrics", []):
        try:
            METRICS.declare(described)
        except ValueError as error:
            raise Refusal(f"{path}: {error}. Run both again, or rename one metric.") from None
    return content


@lru_cache(maxsize=2048)  # a table asks several times what made its runs
def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    content = parse_json(path, raw, AGAIN)
    check_provenance(path, content, AGAIN)
    return content


def check_provenance(path: Path, content: dict[str, Any], cure: str) -> None:
    """Refuse what does not say what a run's JSON must.

    Raises:
        Refusal: Says what is wrong, and `cure`.
    """
    kinds = {"cells": dict, "seed": int, "limit": int, "version": int}
    kinds |= dict.fromkeys((*KEY, "run", "csv", "data"), str) | {"seed": int}
    for name, kind in kinds.items():
        value = content.get(name)
        if not isinstance(value, kind) or (kind is str and problem_of_name(str(value))):
            raise Refusal(f"{path} is damaged: it is not what `harness run` writes. {cure}")
    for name, kind in OPTIONAL.items():
        if not isinstance(content.get(name, kind()), kind):
            raise Refusal(f"{path} is damaged: `{name}` is no {kind.__name__}. {cure}")
    if not re.fullmatch("[0-9a-f]{64}|", str(content.get("bits", ""))):
        raise Refusal(f"{path} is damaged: `bits` is no SHA-256. {cure}")
    for described in content.get("metrics", []):
        if problem := problem_of_metric(described):
            raise Refusal(f"{path} is damaged: one of `metrics` {problem}. {cure}")
    for name, key in content["cells"].items():
        if not (isinstance(key, str) and re.fullmatch("[0-9a-f]{64}", key)):
            raise Refusal(f"{path} is damaged: {name!a} has no cell's key. {cure}")
