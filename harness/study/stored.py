"""A study's answers as they are stored: numbers rounded once, words, and the runs behind them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.storage.files import safe

STUDY_NAME = "study"  # of the built-in one
FILE, FILES = "study.json", "study*.json"
CURE = "Make it again with `harness study`."


@dataclass(frozen=True)
class StoredEffect:
    """The number of `model` less that of `against`, in the metric's unit; rates are fractions.

    Whoever prints it rounds the numbers here, which have six decimals, and no others.

    Args:
        further: What else was subtracted, in words.
        effect: The difference; `low` to `high` is its 95 % interval. NaN where not known.
        p: p value of no difference, two-sided, unadjusted.
        beats: Probability that one retraining of `model` beats one of `against`.
        mde: The difference that would be found at 5 % with power 80 %.
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
    further: str = ""
    beats: float = math.nan
    mde: float = math.nan


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to one question.

    Args:
        number: Number of the question, such as "2a".
        answer: The answer in a sentence or two.
        margin: The smallest difference that matters, in words.
        checks: What `harness study check` found, a sentence each.
        power: The chance that a difference of the margin was found, and what was planned.
        change: What would change the verdict.
        runs: CSV files that its numbers come from, relative to the results folder.
    """

    number: str
    question: str
    answer: str
    verdict: str
    effects: tuple[StoredEffect, ...]
    runs: tuple[str, ...]
    margin: str = "a point"
    checks: tuple[str, ...] = ()
    power: str = ""
    change: str = ""


@dataclass(frozen=True)
class Study:
    """All answers on one data set.

    Args:
        scale: Data set, seeds, width, epochs and images, in words.
        command: Command that made it; `commit` likewise.
        runs: SHA-256 of each CSV that its numbers come from, by its path in the results folder.
        study: Its name; `design` the SHA-256 of each question, by its number.
        notes: What a reader must know of how it came about, a sentence each.
        looks: Seeds at which answers were made, in order.
    """

    scale: str
    dataset: str
    command: str
    commit: str
    questions: tuple[StoredAnswer, ...]
    runs: Mapping[str, str] = field(default_factory=dict)
    study: str = STUDY_NAME
    design: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()

    @property
    def images(self) -> int:
        """The most images behind an effect."""
        return max((e.images for answer in self.questions for e in answer.effects), default=0)

    def stale(self, results: Path) -> list[str]:
        """Return the runs in a results folder that are no longer those that the answers are of."""
        return [path for path, known in self.runs.items() if _hash(results / path) != known]


def file_of(study: str) -> str:
    """Return the file name of a study's answers."""
    return FILE if study == STUDY_NAME else f"study-{safe(study)}.json"


def hash_runs(results: Path, answers: Sequence[StoredAnswer]) -> dict[str, str]:
    """Return the SHA-256 of the CSVs that answers come from, which lie below `results`."""
    paths = dict.fromkeys(path for answer in answers for path in answer.runs)
    return {path: _hash(results / path) for path in paths}


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
