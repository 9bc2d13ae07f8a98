import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from harness.analysis import Sample
from harness.analysis.collect import Key
from harness.analysis.sample import RATE, from_outcomes
from harness.cli import main
from harness.models.catalog import CATALOG
from harness.progress import Progress
from harness.refusal import Failure, Refusal
from harness.running.options import Options
from harness.storage.results import COLUMNS
from harness.study import run as study_run
from harness.study.answers import NO, UNCLEAR, YES, Answer, answer_questions
from harness.study.questions import (
    PRESETS,
    QUESTIONS,
    Question,
    preset_for,
    select_questions,
    suites_of,
)
from harness.study.schema import read_study
from harness.suites.catalog import SUITES

BY_NUMBER = {q.number: q for q in QUESTIONS}
N = 4000
NOTHING = pd.DataFrame(columns=list(COLUMNS))


def hits(accuracy: float, seeds: int = 3, n: int = N, luck: int = 0) -> np.ndarray:
    """Outcomes (S, n): all networks find the same images hard, but for some luck."""
    hard = np.random.default_rng(0).random(n)
    noise = np.random.default_rng(luck + 1).random((seeds, n))
    # The sum is uniform but for its ends: P(0.9 hard + 0.1 noise < 0.9 a + 0.05) = a.
    return (0.9 * hard + 0.1 * noise < 0.9 * accuracy + 0.05).astype(float)


def sample(outcomes: np.ndarray, rate: bool = True) -> Sample:
    seeds = range(len(outcomes))
    span = RATE if rate else (-np.inf, np.inf)
    return from_outcomes(outcomes, "images", span, keep=True, seed_names=tuple(seeds))


def found(question: Question, accuracies: dict[str, float], n: int = N) -> dict[Key, Sample]:
    """Samples of accuracy for a question's networks, by group."""
    groups = {q.group for q in (question.quantity, *question.also)}
    return {
        Key("d", "robustness", "accuracy", "", group, model): sample(hits(value, n=n, luck=i))
        for i, (model, value) in enumerate(accuracies.items())
        for group in groups
    }


def answer(question: Question, samples: dict[Key, Sample], table: pd.DataFrame = NOTHING) -> Answer:
    (made,) = answer_questions([question], samples, table, "d")
    return made


def test_the_study_names_models_nulls_and_suites_that_are_there() -> None:
    for question in QUESTIONS:
        for name in (question.model, *filter(None, question.rivals)):
            assert name in CATALOG
        known = {*CATALOG[question.model].nulls, "resnet18"}
        assert set(filter(None, question.rivals)) <= known, "a rival is a null of its card"
    needed = suites_of(QUESTIONS)
    assert {suite for suites in needed.values() for suite in suites} <= set(SUITES)
    assert needed["pde_attention"] == ("robustness", "attention")
    assert needed["ode_block"] == ("robustness", "nfe")
    assert needed["resnet18_slot4"] == ("robustness", "nfe")
    assert needed["tied_resnet"] == ("robustness",)


def test_questions_are_chosen_by_number() -> None:
    assert [q.number for q in select_questions([])] == ["1", "2a", "2b", "3", "4a", "4b"]
    assert [q.number for q in select_questions(["4", "1"])] == ["1", "4a", "4b"]
    with pytest.raises(Refusal, match="no question called `5`"):
        select_questions(["5"])


@pytest.mark.parametrize(
    "accuracies, verdict",
    [
        ((0.90, 0.85, 0.84), YES),
        ((0.90, 0.85, 0.93), NO),  # the null gains more: what the idea gains is not its own
        ((0.90, 0.905, 0.85), NO),  # no more than the baseline
        ((0.80, 0.85, 0.70), NO),
    ],
)
def test_a_gain_is_one_over_the_baseline_and_every_null(
    accuracies: tuple[float, ...], verdict: str
) -> None:
    question = BY_NUMBER["3"]
    names = (question.model, *question.rivals)
    made = answer(question, found(question, dict(zip(names, accuracies, strict=True))))
    assert made.verdict == verdict, made.sentence
    deciding = [e for e in made.effects if e.decides]
    assert [e.against for e in deciding] == list(question.rivals)
    assert {e.quantity.group for e in deciding} == {"noise+blur"}
    for effect, other in zip(deciding, accuracies[1:], strict=True):
        assert effect.value == pytest.approx(accuracies[0] - other, abs=0.01)
        assert effect.low < effect.value < effect.high
        assert (effect.seeds, effect.images) == (3, N)
    assert "3 seeds, 4,000 images" in made.sentence


def test_few_images_cannot_tell() -> None:
    question = BY_NUMBER["3"]
    names = (question.model, *question.rivals)
    values = dict(zip(names, (0.9, 0.88, 0.885), strict=True))
    made = answer(question, found(question, values, n=60))
    assert made.verdict == UNCLEAR and "Inconclusive" in made.sentence


@pytest.mark.parametrize("value, verdict", [(0.9, YES), (0.93, YES), (0.80, NO)])
def test_a_match_is_no_loss_of_a_point(value: float, verdict: str) -> None:
    question = BY_NUMBER["4a"]
    accuracies = dict(zip((question.model, *question.rivals), (value, 0.9, 0.9), strict=True))
    made = answer(question, found(question, accuracies), NOTHING.assign(suite="nfe"))
    assert made.verdict == verdict, made.sentence


def evaluations(rows: list[tuple[str, str, float, str, float]], seeds: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (model, "nfe", "d", seed, condition, level, *metric.split(":"), value, N, "run")
            for model, condition, level, metric, value in rows
            for seed in range(seeds)
        ],
        columns=list(COLUMNS),
    )


def test_the_fewest_evaluations_that_come_within_a_point() -> None:
    question = BY_NUMBER["4a"]
    table = evaluations(
        [
            (model, condition, level, metric, value)
            for model, condition, level, accuracy, nfe in (
                ("resnet18_slot4", "depth", 0, 0.9, 8),
                ("ode_block", "euler", 1, 0.5, 1),
                ("ode_block", "heun", 1, 0.895, 2),
                ("ode_block", "rk4", 2, 0.9, 8),
            )
            for metric, value in (("accuracy:", accuracy), ("nfe:", nfe))
        ]
    )
    accuracies = dict(zip((question.model, *question.rivals), (0.9, 0.9, 0.9), strict=True))
    made = answer(question, found(question, accuracies), table)
    assert (
        "With 2 evaluations an image (heun 1) it reaches" in made.sentence
        and "89.5 %" in made.sentence
    )


def test_what_hard_images_cost() -> None:
    question = BY_NUMBER["4b"]
    key = Key("d", "nfe", "nfe", "", "dopri5 0.001", "ode_block")
    alike = {key: sample(np.full((3, 9), 14.0), False)}
    made = answer(question, alike, evaluations([("ode_block", "dopri5", 1e-3, "nfe:", 14)]))
    assert made.verdict == NO and "Every image takes the same 14 evaluations" in made.sentence
    for rho, verdict in ((0.4, YES), (0.02, NO), (-0.3, NO)):
        rows = [("ode_block", "dopri5", 1e-3, "nfe_rho:loss", rho)]
        rows += [("ode_block", "dopri5", 1e-3, "nfe_rho:dealt loss", 0.01)]
        made = answer(question, alike, evaluations(rows))
        assert made.verdict == verdict, made.sentence
        (own, *_) = made.effects
        assert own.low < rho < own.high
        # Three equal correlations, of the same N images.
        half = 1.96 * (1 - rho**2) * np.sqrt((1 + rho**2 / 2) / (N - 3))
        assert own.high - own.low == pytest.approx(2 * half, rel=1e-3)
    apart = evaluations([("ode_block", "dopri5", 1e-3, "nfe_rho:loss", 0.4)])
    apart["value"] += 0.5 * (apart["seed"] - 1)
    assert answer(question, alike, apart).verdict == UNCLEAR, "seeds do not agree"


def maps(value: float, other: float) -> dict[Key, Sample]:
    question, found = BY_NUMBER["2a"], {}
    generator = np.random.default_rng(0)
    base = generator.normal(1, 0.3, (3, N))
    groups = {(q.metric, q.group) for q in (question.quantity, *question.also)}
    for metric, group in groups:
        for kind in ("used", "sharp", "matched"):
            scale = value if kind == "used" else other
            noise = generator.normal(0, 0.02, (3, N))
            key = Key("d", "attention", metric, kind, group, question.model)
            found[key] = sample(scale * base + noise, False)
    return found


def test_maps_change_by_more_than_a_temperature_would() -> None:
    made = answer(BY_NUMBER["2a"], maps(0.5, 1.0))
    assert made.verdict == YES and "differs by -50 %" in made.sentence
    assert {e.against for e in made.effects} == {"a temperature of equal entropy"}
    assert answer(BY_NUMBER["2a"], maps(1.0, 1.0)).verdict == NO


def test_a_yes_must_stand_among_the_other_questions() -> None:
    question = BY_NUMBER["3"]
    names = (question.model, *question.rivals)
    weak = found(question, dict(zip(names, (0.90, 0.883, 0.883), strict=True)), n=600)
    made = answer(question, weak)
    assert made.verdict == YES and 0.005 < made.p <= 0.05, made
    again = answer_questions([question] * 12, weak, NOTHING, "d")
    assert {a.verdict for a in again} == {UNCLEAR}
    assert all("over 12 questions" in a.sentence for a in again)


def test_missing_numbers_are_named() -> None:
    with pytest.raises(Refusal, match="no accuracy of `pde_aug` under noise and blur on d"):
        answer(BY_NUMBER["3"], {})


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.out, " ".join(told.err.split())


def test_one_command_runs_answers_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--question", "4", "--seeds", "1", "--width", "8", "--epochs", "1", "--limit", "40")
    asked = ("study", *small, "--workers", "1", "--results", str(tmp_path))
    code, _, err = command(capsys, *asked, "--no-run")
    assert code == 2 and "harness train" in err
    code, out, err = command(capsys, *asked)
    assert code == 0, err
    assert "4b  Do hard images cost" in out and "3 of 3: tied_resnet on digits" in err
    path = tmp_path / "quick" / "digits" / "study.json"
    told = json.loads(path.read_text())
    assert told["scale"] == "digits, 1 seed, width 8, 1 epoch, 40 of 355 test images"
    assert [q["number"] for q in told["questions"]] == ["4a", "4b"]
    assert read_study(path).dataset == "digits"
    runs = {file for question in told["questions"] for file in question["runs"]}
    assert len(runs) == 5 and all((path.parent / file).is_file() for file in runs)
    before = path.read_bytes()
    code, _, err = command(capsys, *asked)
    assert code == 0 and "training" not in err and path.read_bytes() == before
    assert "0 conditions" not in err


@pytest.mark.parametrize(
    "found, said",
    [(("c0ffee", False), "c0ffee"), (("c0ffee", True), "c0ffee, changed"), ((None, None), "")],
)
def test_answers_say_whether_their_source_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple, said: str
) -> None:
    monkeypatch.setattr(study_run, "commit", lambda: found)
    assert study_run.store_answers((), tmp_path, "d", 1, "").commit == said


def test_several_processes_give_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--question", "4b", "--seeds", "2", "--width", "8", "--epochs", "1", "--limit", "20")
    files = []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        code, _, err = command(
            capsys, "study", *small, "--workers", workers, "--results", str(folder)
        )
        assert code == 0, err
        files.append(
            {
                path.relative_to(folder): pd.read_csv(path)
                .query("metric != 'seconds'")
                .drop(columns="run")
                for path in sorted((folder / "quick").rglob("seed*.csv"))
            }
        )
    assert files[0].keys() == files[1].keys() and len(files[0]) == 2
    for path, frame in files[0].items():
        pd.testing.assert_frame_equal(frame, files[1][path])


@pytest.mark.parametrize(
    "name, dataset, expected",
    [
        (None, None, "quick"),
        (None, "digits", "quick"),
        (None, "cifar10", "cifar10"),
        (None, "svhn", "quick"),
        ("quick", "cifar10", "quick"),
    ],
)
def test_a_data_set_brings_its_preset(name: str | None, dataset: str | None, expected: str) -> None:
    assert preset_for(name, dataset) is PRESETS[expected]


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (("--preset", "quik"), "Did you mean `quick`"),
        (("--question", "7"), "no question called `7`"),
        (("--seeds", "-1"), "`--seeds` must be at least 1"),
        (("--dataset", "cifr10"), "cifar10"),
    ):
        code, _, err = command(capsys, "study", *arguments, "--results", str(tmp_path))
        assert code == 2 and sentence in err


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
