"""The answers of a study as they are written: results/DATASET/study.json.

    {"study": "study", "design": {"1": SHA-256 of the question, ...}, "scale": "digits, 3 seeds",
     "dataset": "digits", "command": "harness study", "commit": "c0",
     "notes": ["The study was changed after its first run."], "looks": [3, 5],
     "questions": [
        {"number": "1", "question": "Does a diffusion layer on feature maps improve accuracy?",
         "answer": "One sentence: the difference, its interval, on what.",
         "verdict": one of `claims.VERDICTS`, "margin": "a point", "checks": [],
         "effects": [{"model": "pde_layer", "against": "gaussian_blur_layer", "further": "",
                      "suite": "robustness", "metric": "accuracy", "group": "clean", "variant": "",
                      "effect": 0.004, "low": -0.001, "high": 0.009, "p": 0.12, "beats": 0.8,
                      "mde": 0.005, "seeds": 5, "images": 10000, "decides": true}, ...],
         "runs": ["digits/robustness/pde_layer/seed0.csv", ...]}, ...],
     "runs": {"digits/robustness/pde_layer/seed0.csv": SHA-256 of the file's bytes, ...},
     "sha256": of all else}

That of a study in another file is study-NAME.json. A number that is not known is null. A file may
come from anybody, so that all of it is checked.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path, PurePosixPath
from typing import Any

from harness.refusal import Refusal
from harness.storage.json_files import read_json, write_json
from harness.storage.spelling import problem_of_name
from harness.study.claims import VERDICTS
from harness.study.stored import CURE, StoredAnswer, StoredEffect, Study

LONGEST = 2000  # characters of a text
MAY_BE_EMPTY = ("variant", "against", "further")  # an effect may stand alone
MOST = 1000  # effects of a study, and files of an answer; more are no answer


def read_study(path: Path) -> Study:
    """Return the study in a file.

    Raises:
        Refusal: There is none, it is damaged, or no study; says which question and effect.
    """
    content = read_json(path, CURE)
    try:
        study = Study(**_fields(content, STUDY, Study))
        if sum(len(answer.effects) for answer in study.questions) > MOST:
            raise _Problem(f"it has more than {MOST} effects")
        if missing := {r for answer in study.questions for r in answer.runs} - study.runs.keys():
            raise _Problem(f"`runs` lacks {min(missing)!a}")
    except _Problem as problem:
        raise Refusal(f"{path} is no study: {problem}. {CURE}") from None
    return study


def write_study(path: Path, study: Study) -> None:
    """Write a study; `read_study` returns an equal one."""

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: known(of) for name, of in value.items()}
        if isinstance(value, list | tuple):
            return [known(of) for of in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_json(path, known(asdict(study)))


class _Problem(Exception):
    """What is wrong with a file, as a part of a sentence."""


Check = Callable[[str, Any], Any]


def _fields(content: Any, checks: Mapping[str, Check], kind: type) -> dict[str, Any]:
    """The fields of a table; those that have a default need not be there."""
    if not isinstance(content, dict):
        raise _Problem("it is no object")
    optional = {f.name for f in fields(kind) if (f.default, f.default_factory) != (MISSING,) * 2}
    for name in checks:
        if name not in content and name not in optional:
            raise _Problem(f"it lacks `{name}`")
    return {name: check(name, content[name]) for name, check in checks.items() if name in content}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Problem(f"`{name}` must be text")
    if len(value) > LONGEST:
        raise _Problem(f"`{name}` has {len(value)} characters, more than {LONGEST}")
    return value


def _name(name: str, value: Any) -> str:
    problem = problem_of_name(_text(name, value))
    if problem and (name in MAY_BE_EMPTY, value) != (True, ""):
        raise _Problem(f"`{name}` {problem}")
    return value


def _verdict(name: str, value: Any) -> str:
    if _text(name, value) not in VERDICTS:
        raise _Problem(f"`{name}` must be one of {', '.join(VERDICTS)}; got {value!a}")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise _Problem(f"`{name}` must be a number or null")
    if value is None:
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**12:
        raise _Problem(f"`{name}` must be a whole number >= 0")
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Problem(f"`{name}` must be true or false")
    return value


def _hashes(name: str, value: Any) -> dict[str, str]:
    """What each of the runs was."""
    if not isinstance(value, dict):
        raise _Problem(f"`{name}` must be an object")
    if len(value) > 10 * MOST:
        raise _Problem(f"it has more than {10 * MOST} {name}")
    for path, known in value.items():
        place = PurePosixPath(path)
        if place.is_absolute() or ".." in place.parts or place.suffix != ".csv":
            raise _Problem(f"`{name}` has {path!a}, which is no CSV of the results")
        if not (isinstance(known, str) and re.fullmatch("[0-9a-f]{64}", known)):
            raise _Problem(f"`{name}` has no SHA-256 of {path!a}")
    return value


def _digests(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MOST:
        raise _Problem(f"`{name}` must be an object of at most {MOST} questions")
    return {_text(name, number): _text(name, known) for number, known in value.items()}


def _several(kind: str, make: Callable[[Any], Any]) -> Check:
    """Return the check of a list, which says which of its entries is wrong."""

    def check(name: str, value: Any) -> tuple:
        if not isinstance(value, list):
            raise _Problem(f"`{name}` must be a list")
        if len(value) > MOST:
            raise _Problem(f"it has more than {MOST} {name}")
        made = []
        for i, entry in enumerate(value, 1):
            try:
                made.append(make(entry))
            except _Problem as problem:
                raise _Problem(f"{kind} {i}: {problem}") from None
        return tuple(made)

    return check


def _effect(content: Any) -> StoredEffect:
    if isinstance(content, dict):
        content = {"variant": ""} | content  # metrics without families need not have it
    effect = StoredEffect(**_fields(content, EFFECT, StoredEffect))
    if effect.low > effect.high:
        raise _Problem(f"`low` exceeds `high`: {effect.low:g}, {effect.high:g}")
    if effect.p < 0 or effect.p > 1:
        raise _Problem(f"`p` must lie in [0, 1]; got {effect.p:g}")
    return effect


def _answer(content: Any) -> StoredAnswer:
    return StoredAnswer(**_fields(content, ANSWER, StoredAnswer))


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST:
        raise _Problem(f"`{name}` must be a list of at most {MOST} texts")
    return tuple(_text(name, entry) for entry in value)


def _counts(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MOST:
        raise _Problem(f"`{name}` must be a list of at most {MOST} numbers")
    return tuple(_count(name, entry) for entry in value)


EFFECT: Mapping[str, Check] = (
    dict.fromkeys(("model", "against", "suite", "metric", "group", "variant", "further"), _name)
    | dict.fromkeys(("effect", "low", "high", "p", "beats", "mde"), _number)
    | {"seeds": _count, "images": _count, "decides": _truth}
)
ANSWER: Mapping[str, Check] = {
    **dict.fromkeys(("number", "question", "answer", "margin", "power", "change"), _text),
    "verdict": _verdict,
    "effects": _several("effect", _effect),
    "runs": _texts,
    "checks": _texts,
}
STUDY: Mapping[str, Check] = {
    **dict.fromkeys(("scale", "dataset", "command", "commit"), _text),
    "questions": _several("question", _answer),
    "runs": _hashes,
    "study": _name,
    "design": _digests,
    "notes": _texts,
    "looks": _counts,
}
