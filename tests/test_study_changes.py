"""What would change a verdict, and how sure it was: sentences that the claims bear out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.collect import Key
from harness.analysis.power import Parts, detectable_with, seeds_needed
from harness.analysis.sample import RATE, Sample, from_outcomes
from harness.plots.questions import question_figure
from harness.refusal import Refusal
from harness.study import history
from harness.study.answers import find_all, verdicts
from harness.study.changes import say_change, say_power
from harness.study.claims import NO, UNCLEAR, YES, judge
from harness.study.design import Quantity, Question
from harness.study.design_files import built_in
from harness.study.effects import Numbers
from harness.study.figures import draw_answers, margin_in
from harness.study.findings import Finding
from harness.study.markdown import answer_table
from harness.study.power import Power
from harness.study.schema import read_study, write_study
from harness.study.stored import StoredAnswer, StoredEffect, Study

CLEAN = Quantity("robustness", "accuracy")
QUESTION = Question("1", "Is it better?", "gain", "idea", CLEAN, "plain", ("null",))
N = 2000


def sample(accuracy: float, spread: float = 0.0, seeds: int = 3, n: int = N) -> Sample:
    """Networks with the same images wrong, as far as they go; seeds `spread` apart."""
    shift = spread * np.linspace(-1, 1, seeds)
    rank = np.random.default_rng(0).permutation(n)
    hits = np.stack([rank < round(n * (accuracy + s)) for s in shift]).astype(float)
    return from_outcomes(hits, "images", RATE, keep=True, seed_names=tuple(range(seeds)))


def numbers(idea: Sample, **others: Sample) -> Numbers:
    found = {Key("d", *CLEAN[:2], "", "clean", n): s for n, s in {"idea": idea, **others}.items()}
    return Numbers(found, {}, pd.DataFrame(), "d", 10, idea.seeds)


def judged(found: Numbers, question: Question = QUESTION) -> list[tuple[Finding, str]]:
    return verdicts(find_all([question], found, [question.number]))


def shifted(finding: Finding, by: float) -> str:
    assert finding.at is not None
    return judge([finding.at(by)], 1)[0]


@pytest.mark.parametrize("idea, verdict", [(0.810, UNCLEAR), (0.870, YES), (0.795, NO)])
def test_the_verdict_changes_where_the_sentence_says(idea: float, verdict: str) -> None:
    found = numbers(sample(idea, 0.01), plain=sample(0.80), null=sample(0.805))
    made = judged(found)
    ((finding, said),) = made
    assert said == verdict or (verdict == NO and said in (NO, "worse", UNCLEAR))
    text = say_change(0, made, 1, found)
    word = "It would be no yes below" if said == YES else "A yes needs"
    assert text.startswith(word) and "against null" in text
    points = float(text.split(word)[1].split()[0])
    by = points / 100 - (idea - 0.805)
    assert shifted(finding, by - 0.001) != YES and shifted(finding, by + 0.001) == YES


def test_more_seeds_are_asked_for_where_nothing_can_be_told() -> None:
    found = numbers(sample(0.81, 0.02), plain=sample(0.80), null=sample(0.805))
    made = judged(found)
    text = say_change(0, made, 1, found)
    assert made[0][1] == UNCLEAR and "more seeds (" in text and "a difference of a point" in text
    few = numbers(
        sample(0.81, 0.02, 3, 40), plain=sample(0.8, 0, 3, 40), null=sample(0.8, 0, 3, 40)
    )
    assert "seeds" in say_change(0, judged(few), 1, few)


def test_what_no_accuracy_can_give_is_said() -> None:
    found = numbers(sample(0.985, 0.012), plain=sample(0.985), null=sample(0.985))
    assert "Even 100 % would not be" in say_change(0, judged(found), 1, found)
    guess = numbers(sample(0.1), plain=sample(0.1), null=sample(0.1))
    assert say_change(0, judged(guess), 1, guess).startswith("Nothing, as long as `plain` is not")


def test_what_may_differ_either_way_goes_on_as_it_went() -> None:
    quantity = Quantity("attention", "total_variation", "clean", "level")
    question = Question("2", "?", "learned", "idea", quantity, nulls=("null",), margin=0.05)
    random = np.random.default_rng(3)

    def maps(mean: float) -> Sample:
        values = mean + 0.05 * random.normal(size=(3, 400))
        span = (-np.inf, np.inf)
        return from_outcomes(values, "images", span, keep=True, seed_names=(0, 1, 2))

    def of(idea: float) -> dict[Key, Sample]:
        key = Key("d", *quantity[:2], "level", "clean", "idea")
        return {key: maps(idea), replace(key, model="null"): maps(0.4)}

    found = Numbers(of(0.398), of(0.4), pd.DataFrame(), "d", 10, 3)
    made = judged(found, question)
    measured = made[0][0].deciding[0].value
    text = say_change(0, made, 1, found)
    needed = float(text.split("A yes needs ")[1].split()[0])
    assert needed / measured > 1 and "less the same of untrained networks; " in text
    assert shifted(made[0][0], abs(needed) - abs(measured) + 1e-4) != UNCLEAR


def test_the_chance_of_the_detectable_difference_is_four_in_five() -> None:
    found = numbers(sample(0.81, 0.01), plain=sample(0.80), null=sample(0.805))
    ((finding, _),) = judged(found)
    for effect in finding.deciding:
        assert effect.power(effect.mde) == pytest.approx(0.8, abs=1e-6)
        assert effect.power(0) < 0.03 < effect.power(effect.mde / 2) < 0.8
    plan = {"seeds": 2, "needed": 12, "planned": 3, "detectable": 0.021}
    said = say_power(finding, plan)
    assert said.startswith("The chance of finding a difference of a point was ")
    expected = "asked for 12; of 3 it expected to find 2.1 points in 4 of 5 studies; here are 3."
    assert said.endswith(f"The plan, from 2 seeds, {expected}")
    assert say_power(finding, {}).endswith("No plan from pilot seeds was made before.")
    assert "that no number suffices; of 3" in say_power(finding, plan | {"needed": None})


def test_a_plan_is_kept_as_it_was_first_made(tmp_path: Path) -> None:
    design = built_in()
    power = Power(QUESTION, "null", 0.01, 0.3, 0.1, seeds=2, images=N, needed=12)
    first, later = power.noted(5), replace(power, seeds=4, needed=9).noted(5)
    assert first["seeds"] == 2 and first["needed"] == 12 and 0.01 < first["detectable"] < 0.1
    assert replace(power, needed=np.inf).noted(5)["needed"] is None
    assert power.noted(1)["detectable"] is None
    assert history.plan_of(design, "1", tmp_path, "d", 5) == {}
    history.note_plan(design, {"1": first}, tmp_path, "d")
    history.start(design, ["1"], tmp_path, "d")
    history.note_plan(design, {"1": later}, tmp_path, "d")
    assert history.plan_of(design, "1", tmp_path, "d", 5) == first
    assert history.plan_of(design, "1", tmp_path, "d", 2) == {}  # not made before
    assert history.start(design, ["3"], tmp_path, "d").keys() == {"1", "3"}
    history.note_plan(design, {"2a": {"seeds": "two"}}, tmp_path, "d")
    with pytest.raises(Refusal, match="is no plan of a study"):
        history.plan_of(design, "2a", tmp_path, "d", 5)


def test_the_detectable_difference_of_a_plan_is_that_which_its_seeds_find() -> None:
    parts = Parts(0.01, 0.3, 0.1)
    for seeds in (2, 5, 12):
        size = detectable_with(parts, seeds, N)
        assert seeds_needed(parts.sd_seed, parts.sd_image, N, size * 1.001, parts.sd_rest) == seeds
    assert detectable_with(parts, 1, N) == np.inf


QUESTIONS = (*built_in().questions, *built_in("solvers").questions)


def answers() -> Study:
    """An answer to every question of the built-in studies, with numbers of no meaning."""
    made = []
    for q in QUESTIONS:
        against = q.solvers or q.against or ("",)
        effects = [
            StoredEffect(q.model, name, *w, 0.01 * i, 0.01 * i - 0.02, 0.01 * i + 0.02, 0.3, 3, N,
                         w == q.decides)
            for w in (q.decides, *q.also)
            for i, name in enumerate(against)
        ]  # fmt: skip
        effects += [
            replace(effects[0], model=part, against=q.baseline, decides=False) for part in q.parts
        ]
        said = {"power": "Some.", "change": "A yes needs more."}
        made.append(StoredAnswer(q.number, q.text, "So.", UNCLEAR, tuple(effects), (), **said))
    return Study("d, 3 seeds", "d", "harness study", "", tuple(made))


def test_answers_are_read_as_written_and_without_what_older_versions_lack(tmp_path: Path) -> None:
    write_study(tmp_path / "study.json", answers())
    found = read_study(tmp_path / "study.json")
    assert found.questions[0].change == "A yes needs more." and found.questions[0].power == "Some."
    published = Path(__file__).resolve().parent.parent / "results" / "published"
    assert read_study(published / "digits" / "study.json").questions


def test_the_table_has_a_row_for_each_question() -> None:
    lines = answer_table(answers()).splitlines()
    assert len(lines) == 2 + len(QUESTIONS) + 2 and lines[0].startswith("| | question")
    assert lines[2].endswith("against `resnet18` | A yes needs more. |")
    assert "3 seeds, n = 2,000 behind what decides" in lines[-1]


def test_every_question_has_a_figure(tmp_path: Path) -> None:
    write_study(tmp_path / "d" / "study.json", answers())
    drawn = draw_answers(tmp_path, ["d", "d"], numbers=["2a", "5", "10a"])
    names = [f"d-question-{number}.png" for number in ("2a", "5", "10a")]
    assert [path.name for path in drawn] == names
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in drawn)


def test_a_figure_has_a_panel_for_each_quantity_and_a_row_for_each_rival() -> None:
    (sums,) = [a for a in answers().questions if a.number == "5"]
    effects = pd.DataFrame([vars(e) for e in sums.effects])
    figure = question_figure(effects, "Caption.", 0.01)
    assert figure.get_supxlabel().startswith("diffusifynet less the model at the left")
    first, second = figure.axes
    labels = [text.get_text().replace("\n", " ") for text in first.get_yticklabels()]
    assert len(labels) == len(set(labels)) == 6 + 4
    assert "gain of diffusifynet(attention=off, augmentation=off, block=off)" in labels
    assert "noise and blur" in first.get_title().replace("\n", " ")
    assert "clean" in second.get_title() and figure.get_label() == "Caption."
    with pytest.raises(ValueError, match="no differences to draw"):
        question_figure(effects.iloc[:0], "")


def test_a_figure_of_one_model_says_which_conditions_it_compares() -> None:
    (solvers,) = [a for a in answers().questions if a.number == "10a"]
    figure = question_figure(pd.DataFrame([vars(e) for e in solvers.effects]), "Caption.")
    assert figure.get_supxlabel().startswith(
        "DPM-Solver++(2M), 9 evaluations less the condition at the left"
    )
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "Euler, 9 evaluations",
        "Heun, 9 evaluations",
    ]
    assert axis.get_title().startswith("path error of exact_score")


def test_margins_in_words_are_numbers_again() -> None:
    assert margin_in("a point") == 0.01 and margin_in("0.5 points") == pytest.approx(0.005)
    assert margin_in("0.1") == 0.1 and np.isnan(margin_in("5 %"))
