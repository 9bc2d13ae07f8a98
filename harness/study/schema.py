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
         "runs": ["robustness/pde_layer/seed0.csv", ...]}, ...]}

A number that is not known is null. A file may come from anybody, so that all of it is checked.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.files import write_bytes
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
    """

    scale: str
    dataset: str
    command: str
    commit: str
    questions: tuple[StoredAnswer, ...]

    @property
    def images(self) -> int:
        """The most images behind an effect."""
        return max((e.images for answer in self.questions for e in answer.effects), default=0)


def read_study(path: Path) -> Study:
    """Return the study in a file.

    Raises:
        Refusal: It is damaged, or no study; says which question and effect.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged: {error}. {CURE}") from None
    try:
        study = Study(**_fields(content, STUDY))
        if sum(len(answer.effects) for answer in study.questions) > MOST:
            raise _Problem(f"it has more than {MOST} effects")
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

    content = json.dumps(known(asdict(study)), indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, content.encode())


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
    "questions": _several("question", lambda entry: StoredAnswer(**_fields(entry, ANSWER)))
}
