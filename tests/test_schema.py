"""study.json: what is written comes back, and what is no study is refused with its place."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.refusal import Refusal
from harness.storage.json_files import as_bytes
from harness.study.schema import read_study, write_study
from harness.study.stored import FILE, StoredAnswer, StoredEffect, Study, hash_runs, say_stale

RESULTS = Path(__file__).resolve().parent.parent / "results" / "published"
EFFECT = {
    "model": "a",
    "against": "b",
    "suite": "robustness",
    "metric": "accuracy",
    "group": "noise+blur",
    "variant": "",
    "effect": 0.034,
    "low": 0.021,
    "high": 0.047,
    "p": 0.012,
    "seeds": 5,
    "images": 10_000,
    "decides": True,
}
ANSWER: dict[str, object] = {
    "number": "1",
    "question": "Is it?",
    "answer": "So.",
    "verdict": "worse",
}
ANSWER |= {"effects": [], "runs": ["a.csv"]}
STUDY: dict[str, object] = {"scale": "d, 5 seeds", "dataset": "d", "command": "harness study"}
STUDY |= {"commit": "c0", "runs": {"a.csv": "0" * 64}}


def signed(content: dict[str, object]) -> str:
    """A file with a checksum that is right, as a program may write any."""
    return as_bytes(content).decode()


def study_of(*questions: object, **changed: object) -> str:
    return signed(STUDY | {"questions": questions} | changed)


def with_effect(**changed: object) -> str:
    return study_of(ANSWER | {"effects": [EFFECT | changed]})


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    effect = StoredEffect(**EFFECT)
    answer = StoredAnswer("1", "Is it?", "So.", "worse", (effect,), ("a.csv",))
    study = Study("d, 5 seeds", "d", "harness study", "c0", (answer,), {"a.csv": "0" * 64})
    write_study(tmp_path / FILE, study)
    assert read_study(tmp_path / FILE) == study and study.images == 10_000


def test_answers_whose_runs_have_changed_are_older_than_them(tmp_path: Path) -> None:
    answer = StoredAnswer("1", "Is it?", "So.", "worse", (), ("s/m/seed0.csv", "s/m/seed1.csv"))
    for path in map(tmp_path.joinpath, answer.runs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    study = Study("", "digits", "", "", (answer,), hash_runs(tmp_path, [answer]))
    assert study.stale(tmp_path) == say_stale(study, []) == []
    (tmp_path / "s/m/seed0.csv").unlink()
    (tmp_path / "s/m/seed1.csv").write_text("again")
    assert study.stale(tmp_path) == list(answer.runs)
    (said,) = say_stale(study, study.stale(tmp_path))
    assert said.startswith(
        "The answers on digits are older than their results: 2 of 2 runs are not those that the "
        "answers are of (s/m/seed0.csv and 1 more)."
    )


def test_a_number_that_is_not_known_is_null(tmp_path: Path) -> None:
    effect = replace(StoredEffect(**EFFECT), p=math.nan, low=math.nan)
    answer = StoredAnswer("1", "Is it?", "So.", "worse", (effect,), ())
    write_study(tmp_path / FILE, Study("", "d", "", "", (answer,)))
    content = json.loads((tmp_path / FILE).read_text())["questions"][0]["effects"][0]
    assert content["p"] is None and content["low"] is None and content["high"] == 0.047
    again = read_study(tmp_path / FILE).questions[0].effects[0]
    assert math.isnan(again.p) and math.isnan(again.low) and again.effect == 0.034


def test_the_committed_studies_are_written_as_they_are(tmp_path: Path) -> None:
    paths = sorted(p for p in RESULTS.glob("*/study*.json") if ".plan" not in p.name)
    assert paths
    for path in paths:
        study = read_study(path)
        assert study.stale(RESULTS) == []
        write_study(tmp_path / FILE, study)
        assert (tmp_path / FILE).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is damaged: .*line 1 column 2"),
        ("[" * 100_000, "is damaged"),
        ("[]", "it is no JSON object"),
        (signed({}), "it lacks `scale`"),
        (json.dumps(STUDY | {"questions": []}), "has no checksum: an older version wrote it"),
        (study_of(ANSWER).replace("So.", "No."), "it does not match its checksum"),
        (signed(STUDY | {"questions": {}}), "`questions` must be a list"),
        (signed(STUDY | {"scale": 3, "questions": []}), "`scale` must be text"),
        (study_of(ANSWER | {"runs": ["b.csv"]}), "`runs` lacks 'b.csv'"),
        (study_of(runs=["a.csv"]), "`runs` must be an object"),
        (study_of(runs={"../a.csv": "0" * 64}), "'../a.csv', which is no CSV of the results"),
        (study_of(runs={"a.csv": "yes"}), "`runs` has no SHA-256 of 'a.csv'"),
        (study_of("yes"), "question 1: it is no object"),
        (study_of({"number": "1", "question": "q"}), "question 1: it lacks `answer`"),
        (
            study_of(ANSWER | {"verdict": "maybe"}),
            "must be one of yes, yes, by less than a point, no relevant gain, worse, cannot tell",
        ),
        (study_of(ANSWER | {"question": "q" * 3000}), "3000 characters, more than"),
        (study_of(ANSWER | {"effects": ""}), "`effects` must be a list"),
        (study_of(ANSWER | {"effects": [1]}), "question 1: effect 1: it is no object"),
        (study_of(ANSWER | {"runs": [3]}), "question 1: `runs` must be text"),
        (study_of(ANSWER | {"effects": [EFFECT] * 1001}), "it has more than 1000 effects"),
        (study_of(*[ANSWER | {"effects": [EFFECT] * 501}] * 2), "it has more than 1000 effects"),
        (with_effect(model=["a"]), "effect 1: `model` must be text"),
        (with_effect(model="=1+1"), "effect 1: `model` starts like a spreadsheet formula"),
        (with_effect(group=""), "effect 1: `group` is empty"),
        (with_effect(variant="@x"), "effect 1: `variant` starts like a spreadsheet formula"),
        (with_effect(effect="much"), "effect 1: `effect` must be a number or null"),
        (with_effect(effect=True), "effect 1: `effect` must be a number or null"),
        (with_effect(low=0.5), "`low` exceeds `high`: 0.5, 0.047"),
        (with_effect(low=10**400), "`low` exceeds `high`: inf, 0.047"),
        (with_effect(p=1.5), r"`p` must lie in \[0, 1\]; got 1.5"),
        (with_effect(seeds=2.5), "`seeds` must be a whole number >= 0"),
        (with_effect(seeds=True), "`seeds` must be a whole number >= 0"),
        (with_effect(images=None), "`images` must be a whole number >= 0"),
        (with_effect(decides="yes"), "`decides` must be true or false"),
    ],
)
def test_a_study_of_another_shape_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(Refusal, match=f"study.json.*{message}.*Make it again with `harness study`"):
        read_study(tmp_path / FILE)
