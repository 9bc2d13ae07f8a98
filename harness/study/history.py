"""How a study came about: what was planned at its first run, and when it was looked at.

results/DATASET/study.plan.json (study-NAME.plan.json of a study in another file) holds the digest
of each question when its first run started, and what `harness study plan` said of it from seeds
that were there. Answers say if a question is another now, and what was planned; also at how
many seeds they were made: whoever looks, adds seeds and looks again finds a difference by chance
more often than an interval says, so that from then on it is one that holds at any number of seeds
(`analysis.always_valid`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.refusal import Refusal
from harness.storage.files import safe
from harness.storage.json_files import read_json, write_json
from harness.study.design import Design
from harness.study.schema import read_study
from harness.study.stored import file_of

CURE = "Move it elsewhere to begin the study anew."


def start(design: Design, numbers: Sequence[str], root: Path, dataset: str) -> dict[str, str]:
    """Note what is asked before the first run; return the digests that were noted then."""
    path = _place(design, root, dataset)
    before, power = _read(path, "questions"), _read(path, "power")
    noted = {number: design.digests[number] for number in numbers} | before
    if noted != before:
        _write(path, design, noted, power)
    return noted


def note_plan(
    design: Design, plans: Mapping[str, Mapping[str, Any]], root: Path, dataset: str
) -> None:
    """Note what a plan says of each question; what an earlier one said of it stays.

    Args:
        plans: By the question's number, as of `power.Power.noted`.
    """
    path = _place(design, root, dataset)
    before = _read(path, "power")
    noted = {number: dict(plan) for number, plan in plans.items()} | before
    if noted != before:
        _write(path, design, _read(path, "questions"), noted)


def plan_of(design: Design, number: str, root: Path, dataset: str, seeds: int) -> dict[str, Any]:
    """Return what was planned for a question from fewer seeds than there are; empty for nothing."""
    path = _place(design, root, dataset)
    found = _read(path, "power").get(number, {})
    if not found:
        return {}
    try:
        known = {name: found[name] for name in ("seeds", "needed", "planned", "detectable")}
        before = 0 < known["seeds"] < seeds
        good = known["planned"] > 0
        good &= all(known[k] is None or known[k] >= 0 for k in ("needed", "detectable"))
    except (KeyError, TypeError):
        good = False
    if not good:
        raise Refusal(f"{path} is no plan of a study. {CURE}")
    return known if before else {}


def _place(design: Design, root: Path, dataset: str) -> Path:
    return (root / safe(dataset) / file_of(design.name)).with_suffix(".plan.json")


def _read(path: Path, part: str) -> dict[str, Any]:
    found = read_json(path, CURE).get(part, {}) if path.is_file() else {}
    if not isinstance(found, dict):
        raise Refusal(f"{path} is no plan of a study. {CURE}")
    return found


def _write(
    path: Path, design: Design, questions: Mapping[str, str], power: Mapping[str, Any]
) -> None:
    planned = {"power": power} if power else {}
    write_json(path, {"study": design.name, "questions": questions} | planned)


def looks_with(path: Path, seeds: int) -> tuple[int, ...]:
    """Return the numbers of seeds at which answers were made, this time's among them."""
    before = read_study(path).looks if path.is_file() else ()
    return before if before and before[-1] == seeds else (*before, seeds)


def planned_seeds(looks: Sequence[int]) -> int:
    """Return the seeds at the first look where more were added since, else 0."""
    return looks[0] if looks and looks[-1] > looks[0] else 0


def notes(design: Design, noted: Mapping[str, str], looks: Sequence[int]) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each."""
    now = design.digests
    said = [
        f"Question {number} was changed after its first run: {before[:12]} then, "
        f"{now[number][:12]} now."
        for number, before in noted.items()
        if number in now and now[number] != before
    ]
    if planned_seeds(looks):
        said.append(
            f"Answers were made with {' and then '.join(map(str, looks))} seeds: intervals hold "
            "at any number of seeds, and are wider for it."
        )
    return tuple(said)
