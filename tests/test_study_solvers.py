"""Questions about one model under several solvers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.analysis import seeds_needed
from harness.analysis.collect import Key
from harness.analysis.sample import Sample, from_outcomes
from harness.cli import app
from harness.models.cards import MODELS
from harness.refusal import Refusal
from harness.storage.results import COLUMNS
from harness.study.answers import find, verdicts
from harness.study.checks import check
from harness.study.claims import NO, SLIGHT, WORSE, YES
from harness.study.design import Quantity, Question, needs_of
from harness.study.design_files import built_in, read_design
from harness.study.effects import Numbers
from harness.study.power import variance_of
from harness.suites.generation import BUDGETS, evaluations
from harness.suites.generation_metrics import PATH_RMS

PLACE = Quantity("generation", "path_rms", "multi 9")
QUESTION = Question(
    "1", "Is it nearer?", "solver", "exact", PLACE, solvers=("euler 9", "heun 9"), margin=0.1
)
TEXT = """
[[question]]
number = "1"
text = "Is it nearer?"
kind = "solver"
model = "exact_score"
solvers = ["euler 9"]
decides = { suite = "generation", metric = "path_rms", group = "heun 9" }
"""


def numbers(**means: float) -> Numbers:
    """Path errors of 400 samples under solvers, alike from sample to sample; three equal seeds."""
    size = np.random.default_rng(0).uniform(0.5, 1.5, 400)
    found: dict[Key, Sample] = {}
    for i, (name, mean) in enumerate(means.items()):
        values = mean * size + 0.005 * np.random.default_rng(i + 1).standard_normal(400)
        key = Key("d", "generation", "path_rms", "", f"{name} 9", "exact")
        rows = np.stack([values] * 3)
        found[key] = from_outcomes(rows, "i", (-np.inf, np.inf), keep=True, seed_names=(0, 1, 2))
    return Numbers(found, {}, pd.DataFrame(columns=list(COLUMNS)), "d", 10, 3)


@pytest.mark.parametrize(
    "euler, heun, expected",
    [(0.14, 0.25, YES), (0.105, 0.25, SLIGHT), (0.1, 0.25, NO), (0.08, 0.25, WORSE)],
)
def test_a_solver_must_beat_each_of_the_others(euler: float, heun: float, expected: str) -> None:
    ((finding, verdict),) = verdicts([find(QUESTION, numbers(multi=0.1, euler=euler, heun=heun))])
    assert verdict == expected
    first, second = finding.effects
    assert (first.against, second.against) == ("euler 9", "heun 9") and first.decides
    assert first.value == pytest.approx(0.1 - euler, abs=2e-3)
    assert second.low < second.value < second.high < 0
    assert finding.margin == "10 %" and "path error of exact" in finding.sentence(verdict)


def test_errors_dealt_to_either_solver_are_no_answer(tmp_path: Path) -> None:
    found = {
        c.control: c for c in check(QUESTION, numbers(multi=0.1, euler=0.2, heun=0.3), tmp_path)
    }
    shuffled = found["shuffled errors"]
    assert shuffled.verdict not in ("", YES, SLIGHT) and not shuffled.bad
    assert not found["untrained networks"].verdict and not found["a clone of the baseline"].verdict


def test_a_solver_that_was_not_measured_is_missing() -> None:
    with pytest.raises(Refusal, match="no path_rms of `exact` .*heun 9"):
        find(QUESTION, numbers(multi=0.1, euler=0.2))


def test_nothing_untrained_is_needed() -> None:
    (need,) = needs_of([QUESTION], check=True)
    assert (need.model, need.suites, need.untrained) == ("exact", ("generation",), False)
    (need, bare) = needs_of([replace(QUESTION, kind="gain")], check=True)
    assert bare.untrained


def test_its_file_names_the_other_solvers(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(TEXT)
    (question,) = read_design(path).questions
    assert question.solvers == ("euler 9",) and question.margin == 0.1
    path.write_text(TEXT.replace('solvers = ["euler 9"]', ""))
    with pytest.raises(Refusal, match="a question of the kind `solver` needs `solvers`"):
        read_design(path)


def test_the_built_in_ones_compare_equal_numbers_of_evaluations_that_are_measured() -> None:
    own = built_in("solvers").questions
    assert [q.number for q in own] == ["10a", "10b"]
    for question in own:
        assert question.model in MODELS and question.decides.metric == PATH_RMS.name
        spent = set()
        for group in (question.decides.group, *question.solvers):
            method, _, level = group.rpartition(" ")
            assert int(level) in {evaluations(method, budget) for budget in BUDGETS[method]}
            spent.add(level)
        assert len(spent) == 1
    assert built_in("solvers").name == "solvers" and built_in("solvers").preset.seeds == 20
    assert not {"10a", "10b"} & {question.number for question in built_in().questions}


@pytest.mark.parametrize(
    "words, said",
    [
        (("solver",), "There is no study called `solver`. Did you mean `solvers`?"),
        (("--question", "10"), "Question 10 is one of `harness study solvers`."),
        (("solvers", "--question", "2a"), "Question 2a is one of `harness study`."),
        (("--question", "99"), "There is no question called `99`."),
    ],
)
def test_a_study_or_question_elsewhere_is_named(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["study", *words])
    assert done.exit_code == 2 and said in done.output


def test_a_plan_says_which_solver_needs_most_seeds() -> None:
    of = numbers(multi=0.1, euler=0.2, heun=0.12)
    found = variance_of(QUESTION, of)
    assert found is not None and found.against == "euler 9" and found.seeds == 3
    multi, euler = (found_of(of, name) for name in ("multi", "euler"))
    assert multi.outcomes is not None and euler.outcomes is not None
    difference = multi.outcomes[0] - euler.outcomes[0]  # of the same samples, in equal seeds
    assert found.sd_seed < 1e-9
    assert found.sd_image == pytest.approx(difference.std(ddof=1), rel=1e-6)
    margin = 0.1 * euler.value
    assert found.needed == seeds_needed(found.sd_seed, found.sd_image, 400, margin, found.sd_rest)


def found_of(of: Numbers, name: str) -> Sample:
    return of.trained[Key("d", "generation", "path_rms", "", f"{name} 9", "exact")]


def test_two_solvers_are_compared_sample_by_sample() -> None:
    """Where each condition is of other images, as corruptions are, and of the same runs."""
    of = numbers(multi=0.1, euler=0.12, heun=0.3)
    apart = {key: replace(s, on=key.group) for key, s in of.trained.items()}
    paired, other = (
        find(QUESTION, replace(of, trained=trained)).effects[0] for trained in (of.trained, apart)
    )
    assert (paired.value, paired.low, paired.high) == (other.value, other.low, other.high)
    assert paired.high - paired.low < 0.01
