"""results/DATASET/study.json, the answers of a study: how they are written, and read again.

    {"scale": "digits, 3 seeds", "dataset": "digits", "command": "harness study", "commit": "c0",
     "questions": [
        {"number": "1", "question": "Does a diffusion layer on feature maps improve accuracy?",
         "answer": "One sentence: the difference, its interval, on what.",
         "verdict": "yes", "no" or "cannot tell",
         "effects": [{"model": "pde_layer", "against": "gaussian_blur_layer", "suite": "robustness",
                      "metric": "accuracy", "group": "clean", "variant": "", "effect": 0.004,
                      "low": -0.001, "high": 0.009, "p": 0.12, "seeds": 5, "images": 10000,
                      "decides": true}, ...],
         "runs": ["robustness/pde_layer/seed0.csv", ...]}, ...],
     "runs": {"robustness/pde_layer/seed0.csv": SHA-256 of the file's bytes, ...},
     "sha256": of all else}

A number that is not known is null. A file may come from anybody, so that all of it is checked.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harness.refusal import Refusal
from harness.storage.json_files import read_json, write_json
from harness.storage.rows import problem_of_name

FILE = "study.json"
VERDICTS = ("yes", "no", "cannot tell")
CURE = "Make it again with `harness study`."
LONGEST = 2000  # characters of a text
MAY_BE_EMPTY = ("variant", "against")  # of metrics without families; of an effect on its own
MOST = 1000  # effects of a study, and files of an answer; more are no answer


@dataclass(frozen=True)
class StoredEffect:
    """The number of `model` less that of `against`, in the metric's unit; rates are fractions.

    Whoever prints it rounds the numbers here, which have six decimals, and no others.

    Args:
        effect: The difference; `low` to `high` is its 95 % interval. NaN where not known.
        p: p value of no difference, two-sided, unadjusted.
        decides: Whether the verdict rests on it.
    """

    model: str
    against: str
    suite: str
    metric: str
    group: str
    variant: str
    effect: float
    low: float
    high: float
    p: float
    seeds: int
    images: int
    decides: bool


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to one question.

    Args:
        number: Number of the question, such as "2a".
        answer: The answer in a sentence or two.
        runs: CSV files that its numbers come from, relative to the study.
    """

    number: str
    question: str
    answer: str
    verdict: str
    effects: tuple[StoredEffect, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """All answers on one data set.

    Args:
        scale: Data set, seeds, width, epochs and images, in words.
        command: Command that made it; `commit` likewise.
        runs: SHA-256 of each CSV that its numbers come from, by its path relative to the study.
    """

    scale: str
    dataset: str
    command: str
    commit: str
    questions: tuple[StoredAnswer, ...]
    runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """The most images behind an effect."""
        return max((e.images for answer in self.questions for e in answer.effects), default=0)

    def stale(self, folder: Path) -> list[str]:
        """Return the runs in a folder that are no longer those that the answers are of."""
        return [path for path, known in self.runs.items() if _hash(folder / path) != known]


def hash_runs(folder: Path, answers: Sequence[StoredAnswer]) -> dict[str, str]:
    """Return the SHA-256 of the CSVs that answers come from, which lie below `folder`."""
    paths = dict.fromkeys(path for answer in answers for path in answer.runs)
    return {path: _hash(folder / path) for path in paths}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def say_stale(study: Study, stale: Sequence[str]) -> list[str]:
    """Say that answers are older than the runs `stale` that they come from, if there are any."""
    if not stale:
        return []
    more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
    return [
        f"The answers on {study.dataset} are older than their results: {len(stale)} of "
        f"{len(study.runs)} runs are not those that the answers are of ({stale[0]}{more}). {CURE}"
    ]


def read_study(path: Path) -> Study:
    """Return the study in a file.

    Raises:
        Refusal: There is none, it is damaged, or no study; says which question and effect.
    """
    content = read_json(path, CURE)
    try:
        study = Study(**_fields(content, STUDY))
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


def _fields(content: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _Problem("it is no object")
    content = {"variant": ""} | content  # effects of metrics without families need not have it
    for name in checks:
        if name not in content:
            raise _Problem(f"it lacks `{name}`")
    return {name: check(name, content[name]) for name, check in checks.items()}


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
            raise _Problem(f"`{name}` has {path!a}, which is no CSV beside it")
        if not (isinstance(known, str) and re.fullmatch("[0-9a-f]{64}", known)):
            raise _Problem(f"`{name}` has no SHA-256 of {path!a}")
    return value


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
    effect = StoredEffect(**_fields(content, EFFECT))
    if effect.low > effect.high:
        raise _Problem(f"`low` exceeds `high`: {effect.low:g}, {effect.high:g}")
    if effect.p < 0 or effect.p > 1:
        raise _Problem(f"`p` must lie in [0, 1]; got {effect.p:g}")
    return effect


EFFECT = (
    dict.fromkeys(("model", "against", "suite", "metric", "group", "variant"), _name)
    | dict.fromkeys(("effect", "low", "high", "p"), _number)
    | {"seeds": _count, "images": _count, "decides": _truth}
)
ANSWER = {"number": _text, "question": _text, "answer": _text, "verdict": _verdict} | {
    "effects": _several("effect", _effect),
    "runs": _several("run", lambda entry: _text("path", entry)),
}
STUDY = dict.fromkeys(("scale", "dataset", "command", "commit"), _text) | {
    "questions": _several("question", lambda entry: StoredAnswer(**_fields(entry, ANSWER))),
    "runs": _hashes,
}
