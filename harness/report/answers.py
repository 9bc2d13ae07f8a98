"""The answers of a study, from results/DATASET/study.json:

    {"scale": "digits, 3 seeds", "dataset": "digits", "command": "harness study", "commit": "c0",
     "questions": [
        {"question": "Does a diffusion layer on feature maps improve classification?",
         "answer":   "One sentence: the difference, its interval, on what.",
         "verdict":  "yes", "no" or "cannot tell",
         "effects":  [{"model": "pde_layer", "against": "gaussian_blur_layer",
                       "metric": "accuracy", "group": "clean", "effect": 0.004, "low": -0.001,
                       "high": 0.009, "p": 0.12, "seeds": 5, "images": 10000}, ...]}, ...]}

An effect is the number of `model` minus that of `against`; `low` to `high` is its 95 % interval. Of
its numbers those that are not known are null. All of it may come from anybody.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from harness.report.board import SPOKEN
from harness.report.glossary import Metric, decimals, metric, rounded, shown
from harness.storage.rows import problem_of_name

FILE = "study.json"
VERDICTS = ("yes", "no", "cannot tell")
MADE = "Make it again with `harness study`."
TOLD = ("scale", "dataset", "command", "commit")
NAMES = ("model", "against", "metric", "group")
NUMBERS = ("effect", "low", "high")
COUNTS = ("seeds", "images")
LONGEST = 2000  # characters of a text
FEWER = 1  # digits of a difference than of a number
MOST = 1000  # effects of a study; more are no answer


def read(results: Path) -> list[dict[str, Any]]:
    """Return the studies of a results folder, their effects as text, that of most images first.

    Raises:
        ValueError: One is damaged, or no study; says which question and effect.
    """
    studies = [_read(path) for path in sorted(results.glob(f"*/{FILE}"))]
    return sorted(studies, key=lambda study: -study["images"])


def _read(path: Path) -> dict[str, Any]:
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. {MADE}") from None
    problem = _problem(study)
    if problem:
        raise ValueError(f"{path} is no study: {problem}. {MADE}")
    images = [e["images"] for question in study["questions"] for e in question["effects"]]
    return {name: study[name] for name in TOLD} | {
        "images": max(images, default=0),
        "questions": [_question(question) for question in study["questions"]],
    }


def _problem(study: Any) -> str | None:
    if not isinstance(study, dict):
        return "it holds no object"
    if problem := _of_text(study, TOLD):
        return problem
    if not isinstance(study.get("questions"), list):
        return "`questions` must be a list"
    for i, question in enumerate(study["questions"], 1):
        if problem := _of_question(question):
            return f"question {i}: {problem}"
    if sum(len(question["effects"]) for question in study["questions"]) > MOST:
        return f"it has more than {MOST} effects"
    return None


def _of_question(question: Any) -> str | None:
    if not isinstance(question, dict):
        return "it is no object"
    if problem := _of_text(question, ("question", "answer", "verdict")):
        return problem
    if question["verdict"] not in VERDICTS:
        return f"`verdict` must be one of {', '.join(VERDICTS)}; got {ascii(question['verdict'])}"
    if not isinstance(question.get("effects"), list):
        return "`effects` must be a list"
    for i, effect in enumerate(question["effects"], 1):
        if problem := _of_effect(effect):
            return f"effect {i}: {problem}"
    return None


def _of_effect(effect: Any) -> str | None:
    if not isinstance(effect, dict):
        return "it is no object"
    if problem := _of_text(effect, NAMES):
        return problem
    for name in NAMES:
        if problem := problem_of_name(effect[name]):
            return f"`{name}` {problem}"
    for name in (*NUMBERS, "p", *COUNTS):
        if name not in effect:
            return f"it lacks `{name}`"
        value = effect[name]
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            return f"`{name}` must be a number or null"
    low, high, p = (_number(effect[name]) for name in ("low", "high", "p"))
    if low > high:
        return f"`low` exceeds `high`: {low:g}, {high:g}"
    if p < 0 or p > 1:
        return f"`p` must lie in [0, 1]; got {p:g}"
    for name in COUNTS:
        if not isinstance(effect[name], int) or not 0 <= effect[name] < 10**12:
            return f"`{name}` must be a whole number >= 0"
    return None


def _of_text(content: Mapping[str, Any], names: Sequence[str]) -> str | None:
    for name in names:
        if not isinstance(content.get(name), str):
            return f"`{name}` must be text"
        if len(content[name]) > LONGEST:
            return f"`{name}` has {len(content[name])} characters, more than {LONGEST}"
    return None


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value is not None and value > 0 else -math.inf


def _question(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question with its effects as they are shown; effects of one metric share a scale."""
    effects = [dict(e) | {k: _number(e[k]) for k in NUMBERS} for e in question["effects"]]
    scales = {}
    for name in dict.fromkeys(effect["metric"] for effect in effects):
        about = metric(name)
        values = [e[k] for e in effects if e["metric"] == name for k in NUMBERS]
        places = max(0, decimals(about, values) - (0 if about.rate else FEWER))
        scales[name] = (about, places, _axis(about, values, places))
    return {
        "question": question["question"],
        "answer": question["answer"],
        "verdict": question["verdict"],
        "effects": [_effect(effect, *scales[effect["metric"]]) for effect in effects],
    }


def _axis(about: Metric, values: Sequence[float], places: int) -> tuple[float, float]:
    """Ends of the scale of some effects, at round numbers; 0 is on it."""
    known = [v for value in values if isinstance(v := rounded(about, value, places), float)]
    ticks = MaxNLocator(4).tick_values(min(0.0, *known, 0.0), max(0.0, *known, 0.0))
    return float(ticks[0]), float(ticks[-1])


def _effect(
    effect: Mapping[str, Any], about: Metric, places: int, axis: tuple[float, float]
) -> dict[str, Any]:
    value, low, high = (rounded(about, effect[name], places) for name in NUMBERS)
    p = _number(effect["p"])
    unit = "points" if about.rate else ""
    told = {
        "model": effect["model"],
        "against": effect["against"],
        "metric": about.title,
        "better": about.better,
        "group": SPOKEN.get(effect["group"], effect["group"].replace("_", " ")),
        "unit": unit,
        "value": signed(value, places),
        "interval": f"{signed(low, places)} to {signed(high, places)}",
        "p": "–" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}",
        "seeds": effect["seeds"],
        "images": effect["images"],
        "axis": axis,
        "drawn": (value, low, high),
    }
    if low is None and high is None:
        told["interval"] = "–"
    told["says"] = (
        f"{about.title}, {told['group']}: {effect['model']} minus {effect['against']} is "
        f"{' '.join(filter(None, (told['value'], unit)))} (95 %: {told['interval']}; "
        f"p {told['p'] if p < 1e-4 else '= ' + told['p']}), over {effect['seeds']} training seeds "
        f"and {effect['images']:,} images."
    )
    return told


def signed(value: float | str | None, places: int) -> str:
    """Return a difference as text: +1.2, −0.3, 0.0."""
    if isinstance(value, str):
        return value if value.startswith("−") else f"+{value}"
    text = shown(None if value is None else abs(value), places)
    if value is None or not text.strip("0."):
        return text
    return f"+{text}" if value > 0 else f"−{text}"
