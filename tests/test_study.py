"""Questions to verdicts, on networks whose answers are planted."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from harness.analysis import Sample
from harness.analysis.collect import Key
from harness.analysis.sample import RATE, from_outcomes
from harness.models.catalog import CATALOG
from harness.progress import Progress
from harness.refusal import Failure, Refusal
from harness.running.options import Options
from harness.storage.results import COLUMNS
from harness.study import history, making
from harness.study import run as study_run
from harness.study.answers import find, find_all, verdicts
from harness.study.changes import say_change
from harness.study.checks import of_clone, of_shuffled, of_untrained
from harness.study.claims import NO, SLIGHT, UNCLEAR, WORSE, YES, Claims, judge, say
from harness.study.design import Quantity, Question, needs_of
from harness.study.design_files import built_in
from harness.study.effects import Numbers
from harness.study.findings import Finding
from harness.study.power import power_of
from harness.study.schema import read_study, write_study
from harness.suites.catalog import SUITES

DESIGN = built_in()
BY_NUMBER = {q.number: q for q in DESIGN.questions}
CLEAN = Quantity("robustness", "accuracy", "clean")
GAIN = Question("1", "Is it better?", "gain", "idea", CLEAN, "plain", ("blur",))
N = 4000
NOTHING = pd.DataFrame(columns=list(COLUMNS))


def hits(accuracy: float, seeds: int = 3, n: int = N, luck: int = 0) -> np.ndarray:
    """Outcomes (S, n): all networks find the same images hard, but for some luck."""
    hard = np.random.default_rng(0).random(n)
    noise = np.random.default_rng(luck + 1).random((seeds, n))
    # The sum is uniform but for its ends: P(0.9 hard + 0.1 noise < 0.9 a + 0.05) = a.
    return (0.9 * hard + 0.1 * noise < 0.9 * accuracy + 0.05).astype(float)


def sample(outcomes: np.ndarray, rate: bool = True) -> Sample:
    span = RATE if rate else (-np.inf, np.inf)
    names = tuple(range(len(outcomes)))
    return from_outcomes(outcomes, "images", span, keep=True, seed_names=names)


def key(quantity: Quantity, model: str) -> Key:
    suite, metric, group, variant = quantity
    return Key("d", suite, metric, variant, group, model)


def numbers(
    trained: dict[Key, Sample], untrained: dict[Key, Sample] | None = None, seeds: int = 3
) -> Numbers:
    return Numbers(trained, untrained or {}, NOTHING, "d", 10, seeds)


def accurate(question: Question, n: int = N, seeds: int = 3, **values: float) -> Numbers:
    """Networks of a question with these accuracies."""
    return numbers(
        {
            key(question.decides, model): sample(hits(value, seeds, n, luck=i))
            for i, (model, value) in enumerate(values.items())
        },
        seeds=seeds,
    )


def verdict(question: Question, found: Numbers) -> tuple[str, Finding]:
    ((finding, said),) = verdicts([find(question, found)])
    return said, finding


def test_the_built_in_study_names_models_nulls_and_suites_that_are_there() -> None:
    for question in DESIGN.questions:
        named = study_run.names_of([question])
        own = CATALOG[question.model.partition("(")[0]]
        for spec in question.models:
            assert spec == named[spec], "one model, one name"
            assert spec.partition("(")[0] in CATALOG
        plain = {name.partition("(")[0] for name in question.nulls}
        assert plain <= {*own.nulls, "resnet18", question.model.partition("(")[0], "parabolic"}, (
            "a null is one of the model's card"
        )
    suites = {suite for need in needs_of(DESIGN.questions) for suite in need.suites}
    assert suites <= set(SUITES)
    assert [p.dataset for p in DESIGN.presets.values()] == ["digits", "cifar10", "fashion_mnist"]
    assert DESIGN.preset_for(None, "cifar10") is DESIGN.presets["cifar10"]
    assert DESIGN.preset_for(None, "svhn") is DESIGN.presets["quick"]


def test_what_must_have_been_run() -> None:
    needs = {(need.model, need.untrained): need.suites for need in needs_of(DESIGN.questions)}
    assert needs["pde_attention", False] == ("robustness", "attention", "adversarial")
    assert needs["temperature_attention", True] == ("attention",)
    assert needs["resnet18_slot4", False] == ("robustness", "nfe", "adversarial")
    assert needs["ode_block(atol=0.01, rtol=0.01, solver='bosh3')", True] == ("nfe",)
    assert ("resnet18", True) not in needs
    checked = {(need.model, need.untrained) for need in needs_of([BY_NUMBER["1"]], check=True)}
    assert ("pde_layer_frozen", True) in checked


def test_questions_are_chosen_by_number() -> None:
    assert [q.number for q in DESIGN.select(["2", "1"])] == ["1", "2a", "2b"]
    assert len(DESIGN.select([])) == len(DESIGN.questions)
    with pytest.raises(Refusal, match="no question called `99`"):
        DESIGN.select(["99"])


@pytest.mark.parametrize(
    "yes, little, worse, expected",
    [
        (0.001, 1, 1, YES),
        (0.001, 0.001, 1, SLIGHT),
        (1, 0.001, 1, NO),
        (1, 0.001, 0.001, WORSE),
        (0.2, 0.2, 1, UNCLEAR),
        (0.04, 1, 1, UNCLEAR),  # of a family of three
        (0.04, 0.001, 1, NO),  # a "yes" that does not survive is judged again
    ],
)
def test_a_verdict_is_what_stands(yes: float, little: float, worse: float, expected: str) -> None:
    claims = Claims({"yes": yes, "little": little, "worse": worse})
    assert judge([claims], 1) == [expected]


def test_all_claims_of_all_questions_are_one_family() -> None:
    weak, strong = Claims({"yes": 0.012}), Claims({"little": 1e-6})
    assert judge([weak], 1) == [YES]
    assert judge([weak, strong], 2) == [UNCLEAR, NO]
    assert judge([weak], 2) == [UNCLEAR], "a question that is not asked yet counts as well"
    held = Claims({"yes": 1e-6}, empty={"yes": "ceiling"})
    assert judge([held], 1) == [UNCLEAR]
    assert judge([Claims({"little": 1e-6}, alone=False)], 1) == [UNCLEAR]
    assert say(SLIGHT, "5 %") == "yes, by less than 5 %" and say(YES, "5 %") == "yes"


@pytest.mark.parametrize(
    "idea, plain, blur, expected",
    [
        (0.90, 0.85, 0.84, YES),
        (0.90, 0.85, 0.93, NO),  # the null gains more: what the idea gains is not its own
        (0.849, 0.85, 0.80, NO),
        (0.80, 0.85, 0.70, WORSE),
    ],
)
def test_a_gain_is_one_over_the_baseline_and_every_null(
    idea: float, plain: float, blur: float, expected: str
) -> None:
    found = accurate(GAIN, n=20_000, idea=idea, plain=plain, blur=blur)
    said, finding = verdict(GAIN, found)
    assert said == expected, finding.sentence(said)
    deciding = [e for e in finding.effects if e.decides]
    assert [e.against for e in deciding] == ["plain", "blur"]
    for effect, other in zip(deciding, (plain, blur), strict=True):
        assert effect.value == pytest.approx(idea - other, abs=0.01)
        assert effect.low < effect.value < effect.high and 0 <= effect.beats <= 1
    sentence = finding.sentence(said)
    assert "3 seeds, 20,000 images" in sentence and "would have been found" in sentence


@pytest.mark.parametrize(
    "idea, plain, blur, expected",
    [
        (0.90, 0.85, 0.84, UNCLEAR),  # the other null might gain as much
        (0.90, 0.85, 0.93, NO),  # whatever it gains
        (0.80, 0.85, 0.70, WORSE),
    ],
)
def test_before_all_nulls_are_measured_there_is_no_yes(
    idea: float, plain: float, blur: float, expected: str
) -> None:
    wider = replace(GAIN, nulls=("blur", "median"), rivals=("augmix",))
    found = accurate(wider, n=20_000, idea=idea, plain=plain, blur=blur)
    said, finding = verdict(wider, found)
    assert said == expected, finding.sentence(said)
    reason = "median, which a yes needs, is not measured yet"
    assert f"Not decided: {reason}." in finding.sentence(said)
    assert say_change(0, [(finding, said)], 1, found) == f"Nothing, as long as {reason}."
    assert {effect.against for effect in finding.effects} == {"plain", "blur"}
    assert find_all([wider], found, []) == [None], "only where it is asked for"
    (asked,) = find_all([wider], found, ["1"])
    assert asked is not None and asked.claims == finding.claims


def test_a_small_gain_is_yes_by_less_than_a_point() -> None:
    base = hits(0.85, n=20_000)
    better = base.copy()
    better[:, np.flatnonzero(base[0] == 0)[:60]] = 1  # 0.3 points, of the same images
    found = {"idea": better, "plain": base, "blur": base}
    said, finding = verdict(GAIN, numbers({key(CLEAN, m): sample(o) for m, o in found.items()}))
    assert said == SLIGHT, finding.sentence(said)
    assert "a gain of a point over plain and blur is ruled out" in finding.sentence(said)


def test_few_images_cannot_tell() -> None:
    said, finding = verdict(GAIN, accurate(GAIN, n=60, idea=0.9, plain=0.88, blur=0.885))
    assert said == UNCLEAR and "Inconclusive" in finding.sentence(said)


def test_what_does_not_stand_among_all_claims_is_said() -> None:
    finding = find(GAIN, accurate(GAIN, idea=0.9, plain=0.8, blur=0.8))
    assert "Asked alone it would be `yes`" in finding.sentence(UNCLEAR)
    assert "Asked alone" not in finding.sentence(YES)


def test_one_seed_speaks_of_weights() -> None:
    _, finding = verdict(GAIN, accurate(GAIN, seeds=1, idea=0.9, plain=0.8, blur=0.8))
    assert "speaks of these weights of idea alone" in finding.sentence(YES)


def test_no_is_refused_at_a_ceiling() -> None:
    wrong = {"idea": 44, "plain": 50, "blur": 40}  # of 10,000 images
    values = {m: np.tile(np.arange(10_000) >= count, (3, 1)) * 1.0 for m, count in wrong.items()}
    found = numbers({key(CLEAN, m): sample(v) for m, v in values.items()})
    said, finding = verdict(GAIN, found)
    assert said == UNCLEAR and "nothing can gain a point on 99.6 %" in finding.sentence(said)


def test_networks_that_know_nothing_answer_nothing() -> None:
    match = replace(GAIN, kind="match")
    for question in (GAIN, match):
        said, finding = verdict(question, accurate(question, idea=0.1, plain=0.1, blur=0.1))
        assert said == UNCLEAR and "not shown to be better than chance" in finding.sentence(said)


@pytest.mark.parametrize("value, expected", [(0.9, YES), (0.93, YES), (0.80, WORSE)])
def test_a_match_is_no_loss_of_a_point(value: float, expected: str) -> None:
    question = replace(GAIN, kind="match")
    said, finding = verdict(question, accurate(question, idea=value, plain=0.9, blur=0.8))
    assert said == expected, finding.sentence(said)
    assert "Beside its nulls" in finding.sentence(said)


def test_the_fewest_evaluations_that_come_within_a_point() -> None:
    question = replace(GAIN, kind="match", curves=True)
    rows = [
        (model, "nfe", "d", seed, condition, level, metric, "", value, N, "run")
        for model, condition, level, accuracy, nfe, macs in (
            ("plain", "depth", 0, 0.9, 8, 5e8),
            ("idea", "euler", 1, 0.5, 1, 2e8),
            ("idea", "heun", 1, 0.895, 2, 3e8),
            ("idea", "rk4", 2, 0.9, 8, 9e8),
        )
        for metric, value in (("accuracy", accuracy), ("evaluations", nfe), ("macs", macs))
        for seed in range(3)
    ]
    found = accurate(question, idea=0.9, plain=0.9, blur=0.9)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    sentence = find(question, replace(found, table=table)).sentence(YES)
    assert "With 2 evaluations an image (heun 1) it reaches 89.5 % at 300 million" in sentence
    assert "where the fixed layers have 90.0 % at 500 million multiply-adds" in sentence


SUM = Question("5", "Do they add up?", "sum", "all", CLEAN, "none", parts=("a", "b"))


@pytest.mark.parametrize(
    "whole, expected",
    [(0.84, YES), (0.88, YES), (0.81, WORSE), (0.79, WORSE)],
)
def test_a_whole_is_compared_with_the_sum_of_its_parts(whole: float, expected: str) -> None:
    found = accurate(SUM, n=20_000, none=0.80, a=0.82, b=0.82, all=whole)
    said, finding = verdict(SUM, found)
    assert said == expected, finding.sentence(said)
    short = finding.effects[1]
    assert short.value == pytest.approx(whole - 0.84, abs=0.01) and "sum" in short.further


def test_nothing_adds_up_to_nothing() -> None:
    said, finding = verdict(SUM, accurate(SUM, n=20_000, none=0.8, a=0.8, b=0.8, all=0.8))
    assert said == NO, finding.sentence(said)


TV = Quantity("attention", "total_variation", "clean", "level")
LEARNED = Question("2a", "Do they differ?", "learned", "idea", TV, nulls=("warm",), margin=0.05)


def maps(trained: float, untrained: float, noise: float = 0.02) -> Numbers:
    """Networks whose statistic is `trained` times that of the null; images vary alike."""
    generator = np.random.default_rng(0)
    base = generator.normal(1, 0.3, (3, N))

    def of(scale: float) -> dict[Key, Sample]:
        values = {"idea": scale * base, "warm": base}
        return {
            key(TV, m): sample(v + generator.normal(0, noise, v.shape), False)
            for m, v in values.items()
        }

    return numbers(of(trained), of(untrained))


@pytest.mark.parametrize(
    "trained, untrained, expected",
    [(0.7, 1.0, YES), (1.0, 1.0, NO), (0.6, 0.6, NO), (0.98, 1.0, SLIGHT), (1.3, 1.0, YES)],
)
def test_what_is_learned_is_not_there_in_untrained_networks(
    trained: float, untrained: float, expected: str
) -> None:
    said, finding = verdict(LEARNED, maps(trained, untrained))
    assert said == expected, finding.sentence(said)
    assert finding.margin == "5 %" and "less the same of untrained networks" in finding.sentence(
        said
    )


DOPRI5 = Quantity("nfe", "nfe", "dopri5")
COST = Question("4b", "Do hard images cost more?", "cost", "ode", DOPRI5, margin=0.1)


def solved(
    relation: float, ties: float = 0.2, common: bool = False, before: float = 0.0
) -> Numbers:
    """Evaluations of 3 networks that rise with difficulty, at two tolerances.

    Args:
        ties: Share of images that all cost 14 evaluations.
        common: Whether evaluations rise only with what is one network's own.
    """
    generator = np.random.default_rng(1)
    hard, own = generator.normal(size=N), generator.normal(size=(3, N))
    losses = np.exp(hard + own)

    def spent(strength: float) -> np.ndarray:
        cause = own if common else hard + 0 * own
        raw = strength * cause + generator.normal(size=(3, N))
        nfe = 20 + 6 * np.round(raw - raw.min(axis=1, keepdims=True))
        return np.where(np.arange(N) < ties * N, 14.0, nfe)

    def of(strength: float) -> dict[Key, Sample]:
        made = {}
        for level in ("0.01", "0.001"):
            for metric, values in (("nfe", spent(strength)), ("nll", losses)):
                place = Quantity("nfe", metric, f"dopri5 {level}")
                made[key(place, "ode")] = sample(values, False)
        return made

    return numbers(of(relation), of(before))


def test_hard_images_cost_more_where_they_do() -> None:
    said, finding = verdict(COST, solved(0.5))
    assert said == YES and "at 0.01, 0.001" in finding.sentence(said), finding.sentence(said)
    assert verdict(COST, solved(0.0))[0] == NO
    assert verdict(COST, solved(-0.5))[0] == WORSE
    assert verdict(COST, solved(0.5, before=0.5))[0] != YES, "untrained networks have it too"


def test_where_most_images_tie_nothing_is_decided() -> None:
    said, finding = verdict(COST, solved(0.5, ties=0.6))
    assert said == UNCLEAR and "60 % of the images or more cost the same" in finding.sentence(said)


def test_difficulty_comes_from_other_networks() -> None:
    assert verdict(COST, solved(2.0, common=True))[0] == NO
    one = solved(0.5)
    few = {k: sample(np.asarray(s.outcomes)[:1], False) for k, s in one.trained.items()}
    said, finding = verdict(COST, numbers(few, seeds=1))
    assert said == UNCLEAR and "needs two" in finding.sentence(said)


def test_controls_find_a_question_that_cannot_fail(tmp_path: Path) -> None:
    assert verdict(LEARNED, of_untrained(LEARNED, maps(0.6, 0.6)))[0] in (NO, UNCLEAR)
    shuffled = of_shuffled(LEARNED, maps(0.6, 1.0), tmp_path)
    assert shuffled is not None and verdict(LEARNED, shuffled)[0] in (NO, UNCLEAR)
    clone = of_clone(LEARNED, maps(0.6, 1.0))
    assert clone is not None and verdict(LEARNED, clone)[0] in (NO, UNCLEAR)
    dealt = of_shuffled(COST, solved(0.5), tmp_path)
    assert dealt is not None and verdict(COST, dealt)[0] == NO
    assert verdict(COST, of_untrained(COST, solved(0.5)))[0] == NO
    better = accurate(GAIN, idea=0.9, plain=0.8, blur=0.8)
    clone = of_clone(GAIN, better)
    assert clone is not None and verdict(GAIN, clone)[0] in (NO, UNCLEAR)
    # One that looks at a property of the stencil is answered alike before training.
    stencil = replace(GAIN, decides=TV, nulls=())
    values = {"idea": 2.0, "plain": 1.0}
    noise = np.random.default_rng(0).normal(0, 0.1, (3, N))
    same = {key(TV, m): sample(v + noise * v, False) for m, v in values.items()}
    assert verdict(stencil, of_untrained(stencil, numbers(same, same)))[0] == YES


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Refusal, match="no accuracy of `idea` on clean images on d.*0 are there"):
        find(GAIN, numbers({}))
    assert find_all([GAIN], numbers({}), []) == [None]
    with pytest.raises(Refusal, match="of 5 seeds \\(3 are there\\)"):
        find(GAIN, replace(accurate(GAIN, idea=0.9, plain=0.9, blur=0.9), seeds=5))


def test_seeds_added_after_a_look_widen_intervals(tmp_path: Path) -> None:
    found = accurate(GAIN, seeds=5, idea=0.9, plain=0.89, blur=0.89)
    fixed, later = (find(GAIN, replace(found, planned=p)).effects[0] for p in (0, 3))
    assert later.high - later.low > 1.2 * (fixed.high - fixed.low)
    assert history.planned_seeds((3,)) == 0 and history.planned_seeds((3, 5)) == 3
    path = tmp_path / "study.json"
    assert history.looks_with(path, 3) == (3,)
    study = replace(_stored(tmp_path), looks=(3,))
    write_study(path, study)
    assert history.looks_with(path, 3) == (3,) and history.looks_with(path, 5) == (3, 5)
    assert read_study(path) == study


def _stored(folder: Path) -> "making.Study":
    return making.Study("s", "d", "harness study", "c0", ())


def test_a_study_that_was_changed_says_so(tmp_path: Path) -> None:
    noted = history.start(DESIGN, ["1"], tmp_path, "d")
    assert noted == {"1": DESIGN.digests["1"]} and history.notes(DESIGN, noted, (3,)) == ()
    changed = replace(DESIGN, digests=dict(DESIGN.digests) | dict.fromkeys("123", "f" * 64))
    noted = history.start(changed, ["1", "3"], tmp_path, "d")
    assert noted == {"1": DESIGN.digests["1"], "3": "f" * 64}
    (said,) = history.notes(changed, noted, (3,))
    assert said.startswith("Question 1 was changed after its first run") and said.endswith(
        "ffffffffffff now."
    )


def test_a_plan_says_how_many_seeds_are_enough(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    luck = generator.normal(0, 0.02, (2, 3, 1))
    hard = generator.random((1, N))
    made = {
        key(CLEAN, name): sample((hard < 0.8 + luck[i]).astype(float))
        for i, name in enumerate(("idea", "plain"))
    }
    question = replace(GAIN, model="resnet18", baseline="resnet18_slot4", nulls=())
    names = {"idea": "resnet18", "plain": "resnet18_slot4"}
    found = numbers({replace(k, model=names[k.model]): s for k, s in made.items()}, seeds=1)
    options = Options(tmp_path, tmp_path)
    power = power_of(question, question, found, "digits", options, 3)
    assert power.against == "resnet18_slot4" and power.seeds == 3
    sd = float(np.std((luck[0] - luck[1])[:, 0], ddof=1))
    assert power.sd_seed == pytest.approx(sd, rel=0.1)
    assert power.needed > 3 and power.networks == 2 * (power.needed - 3)
    blank = power_of(question, question, numbers({}, seeds=1), "digits", options, 3)
    assert blank.against == "" and blank.networks == 6 and math.isnan(blank.needed)


@pytest.mark.parametrize(
    "found, said",
    [(("c0ffee", False), "c0ffee"), (("c0ffee", True), "c0ffee, changed"), ((None, None), "")],
)
def test_answers_say_whether_their_source_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple, said: str
) -> None:
    monkeypatch.setattr(making, "commit", lambda: found)
    made = making.Making(DESIGN, (), "d", 1, Options(tmp_path, tmp_path), {})
    assert made._study("", (), (1,)).commit == said


def test_a_network_that_fails_leaves_the_others_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = []

    def one(network: study_run.Network, options: Options, progress: Progress, place: str) -> None:
        if network.seed == 0:
            raise Failure(f"{network.model}: Training diverged.")
        done.append((network.model, network.seed))

    monkeypatch.setattr(study_run, "_one", one)
    work = [study_run.Network("a", "d", seed, ()) for seed in (0, 1, 2)]
    with pytest.raises(Failure, match="a: Training diverged"):
        study_run.run_study(work, Options(tmp_path, tmp_path), Progress(Console(quiet=True)))
    assert done == [("a", 1), ("a", 2)]


def test_a_study_of_nothing_claims_nothing_but_in_one_of_twenty() -> None:
    """Four questions about networks that are all alike: a seed is good or bad for all of them."""
    rng, repeats, wrong = np.random.default_rng(0), 300, 0
    names = [f"m{i}" for i in range(8)]
    questions = [replace(GAIN, model=m, baseline=names[-1], nulls=names[:1]) for m in names[1:5]]
    for _ in range(repeats):
        hard, shared = rng.normal(size=(1, 2000)), rng.normal(0, 0.03, (3, 1))
        made = {}
        for name in names:
            own = rng.normal(0, 0.03, (3, 1))
            skill = 1.3 + shared + own + 0.6 * rng.normal(size=(3, 2000))
            made[key(CLEAN, name)] = sample((hard < skill).astype(float))
        said = [verdict for _, verdict in verdicts([find(q, numbers(made)) for q in questions])]
        wrong += any(v in (YES, SLIGHT, WORSE) for v in said)
    # Binomial: 24 or more of 300 at 5 % come once in a hundred such tests.
    assert wrong < 24, wrong
