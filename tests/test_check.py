"""The gate: four verdicts, five exit codes, and what it writes."""

import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.analysis import RATE, Sample, from_outcomes, from_row, images_needed
from harness.analysis.collect import Key
from harness.cli import app
from harness.comparison.gate import read_margins
from harness.comparison.guards import (
    CODES,
    INCONCLUSIVE,
    MISSING,
    PASS,
    WORSE,
    Guard,
    expectation,
    judge,
    overall,
    select_guards,
)
from harness.comparison.summaries import junit, markdown
from harness.refusal import Refusal

KEY = Key("d", "s", "accuracy", "", "noise", "m")

Answer = Callable[..., Path]  # writes a run


def check(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["check", *(str(a) for a in arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sample(hits: int, n: int = 1000, lost: int = 0, gained: int = 0, on: str = "x") -> Sample:
    """A network that is right on the first images, less and more some others."""
    outcomes = (np.arange(n) < hits).astype(float)
    outcomes[:lost] = 0
    outcomes[n - gained :] = 1
    return from_outcomes(outcomes[None], on, RATE)


def verdict(new: Sample | None, base: Sample, margin: float) -> Guard:
    (guard,) = judge({KEY: new} if new else {}, {KEY: base}, {KEY: margin}, {})
    return guard


def test_the_four_verdicts() -> None:
    base = sample(900)
    assert verdict(sample(900, lost=5, gained=5), base, 0.01).verdict == PASS
    assert verdict(sample(900, lost=60, gained=10), base, 0.01).verdict == WORSE
    near = verdict(sample(900, lost=15, gained=8), base, 0.005)
    assert near.verdict == INCONCLUSIVE and not near.reachable
    assert near.reason == f"1000 images are too few; about {near.needed:,} would do"
    psi = 25 / 1002  # one more on either side
    assert near.needed == pytest.approx(images_needed(0.0, math.sqrt(psi), 1, 0.005), rel=0.01)
    gone = verdict(None, base, 0.01)
    assert gone.verdict == MISSING and gone.reason == "the new results do not have it"
    assert CODES == {PASS: 0, WORSE: 1, INCONCLUSIVE: 3, MISSING: 4}


def test_equal_outcomes_pass_at_any_margin() -> None:
    guard = verdict(sample(900), sample(900), 0.0)
    assert guard.verdict == PASS and guard.identical and guard.reachable
    assert "equal outcomes, which pass at any margin" in expectation(guard)
    moved = verdict(sample(900, lost=1, gained=1), sample(900), 0.0)
    assert moved.verdict == INCONCLUSIVE and "only equal outcomes pass" in moved.reason


@pytest.mark.parametrize(
    "new, base, reason",
    [
        (sample(900, on="y"), sample(900), "it was measured on other images than the baseline"),
        (sample(450, n=500), sample(900), "it is of 500 images, the baseline of 1000"),
        (from_row(math.nan, 0, 1, 1, 1000, "rates"), sample(900), "the new value is not a number"),
        (sample(900), from_row(math.nan, 0, 1, 1, 1000, "rates"), "baseline's value is not a num"),
    ],
)
def test_what_is_not_the_same_measurement_is_missing(
    new: Sample, base: Sample, reason: str
) -> None:
    guard = verdict(new, base, 0.5)
    assert guard.verdict == MISSING and reason in guard.reason and reason in expectation(guard)


def test_a_mean_without_an_interval_is_inconclusive() -> None:
    alone = from_row(1.0, math.nan, math.nan, 1, 1000, "nothing")
    guard = verdict(alone, alone, 0.5)
    assert guard.verdict == INCONCLUSIVE and "have no interval" in guard.reason


def test_a_loss_is_worse_when_it_grows() -> None:
    key = Key("d", "s", "nll", "", "clean", "m")
    losses = np.random.default_rng(0).gamma(1, size=(1, 1000))
    base, grown = (from_outcomes(x, "x", (0.0, math.inf)) for x in (losses, losses + 0.2))
    noisy = from_outcomes(losses + np.random.default_rng(1).normal(0.2, 0.1, 1000), "x", (0, 9.0))
    assert judge({key: noisy}, {key: base}, {key: 0.1}, {})[0].verdict == WORSE
    better = judge({key: base}, {key: noisy}, {key: 0.1}, {})[0]
    assert better.verdict == PASS and better.difference == pytest.approx(0.2, abs=0.02)
    unknown = replace(key, metric="regret")
    sides = {unknown: noisy}, {unknown: base}, {unknown: 0.1}
    assert judge(*sides, {}, {"regret": "down"})[0].verdict == WORSE
    assert judge(*sides, {}, {"regret": "up"})[0].verdict == PASS
    assert grown.value > base.value


def test_worse_is_adjusted_for_the_number_of_guards_and_pass_is_not() -> None:
    base = sample(900)
    edge = sample(900, lost=26, gained=11)  # one-sided p about 0.7 %
    keys = [Key("d", "s", "accuracy", "", f"euler {k}", "m") for k in range(6)]
    alone = judge({keys[0]: edge}, {keys[0]: base}, {keys[0]: 0.0}, {})
    assert alone[0].verdict == WORSE and 0.025 / 6 < alone[0].p_worse < 0.025
    fine = sample(900, lost=3, gained=4)
    new = {k: edge if k == keys[0] else fine for k in keys}
    many = judge(new, dict.fromkeys(keys, base), dict.fromkeys(keys, 0.0), {})
    assert many[0].verdict == INCONCLUSIVE and overall(many) == INCONCLUSIVE


def test_the_worst_verdict_decides() -> None:
    def of(*verdicts: str) -> str:
        return overall([Guard(KEY, 0.0, v) for v in verdicts])

    assert of(PASS, INCONCLUSIVE, MISSING, WORSE) == WORSE
    assert of(PASS, INCONCLUSIVE, MISSING) == MISSING
    assert of(PASS, INCONCLUSIVE) == INCONCLUSIVE and of(PASS, PASS) == PASS


def test_a_margin_guards_the_headline_groups_or_the_one_that_is_named() -> None:
    groups = ("clean", "noise", "blur", "gaussian_noise", "defocus_blur")
    keys = {Key("d", "s", m, "", g, "m"): sample(9) for m in ("accuracy", "nll") for g in groups}
    found = select_guards(keys, {("accuracy", "", ""): 0.005, ("accuracy", "", "noise"): 0.01})
    assert {k.group: m for k, m in found.items()} == {"clean": 0.005, "noise": 0.01, "blur": 0.005}
    found = select_guards(keys, {("nll", "", "gaussian_noise"): 0.1})
    assert {(k.metric, k.group) for k in found} == {("nll", "gaussian_noise")}
    with pytest.raises(Refusal, match="no metric in the baseline called `acuracy`. Did you"):
        select_guards(keys, {("acuracy", "", ""): 0.1})
    with pytest.raises(Refusal, match="no group of accuracy in the baseline called `nois`"):
        select_guards(keys, {("accuracy", "", "nois"): 0.1})
    by_class = {Key("d", "s", "accuracy", f"class {k}", "clean", "m"): sample(9) for k in (0, 3)}
    found = select_guards(keys | by_class, {("accuracy", "class 3", ""): 0.1})
    assert {(k.variant, k.group) for k in found} == {("class 3", "clean")}
    with pytest.raises(Refusal, match=r"called `accuracy\(class 4\)`. Did you mean `accuracy\(cl"):
        select_guards(keys | by_class, {("accuracy", "class 4", ""): 0.1})
    other = {Key("d", "s", "entropy", "", "clean", "m"): sample(9)}
    with pytest.raises(Refusal, match="`entropy` has no better side"):
        select_guards(other, {("entropy", "", ""): 0.1})
    assert list(select_guards(other, {("entropy", "", ""): 0.1}, {"entropy": "down"}).values()) == [
        0.1
    ]


def test_margins_are_read_from_toml_and_options(tmp_path: Path) -> None:
    config = tmp_path / "check.toml"
    config.write_text('[margin]\naccuracy = 0.01\n"accuracy/noise" = 0.02\n')
    assert read_margins(["accuracy=0.005", "nll/clean = 1"], config) == {
        ("accuracy", "", ""): 0.005, ("accuracy", "", "noise"): 0.02, ("nll", "", "clean"): 1.0,
    }  # fmt: skip
    assert read_margins([], None) == {("accuracy", "", ""): 0.005}
    config.write_text('[margin]\n"accuracy(class 3)/noise" = 0.02\n')
    assert read_margins(["accuracy(class 3)=0.01", "gain(over sharp) / fog 3=0"], config) == {
        ("accuracy", "class 3", "noise"): 0.02,
        ("accuracy", "class 3", ""): 0.01,
        ("gain", "over sharp", "fog 3"): 0.0,
    }
    for content, message in (
        ("margin = 1", "there is no table"),
        ("[margins]\na = 1", "`margins` means nothing"),
        ("[margin]\naccuracy = -1", "`accuracy` must be a number >= 0; got -1"),
        ("[margin]\naccuracy = true", "`accuracy` must be a number >= 0; got True"),
        ("[margin]\naccuracy = nan", "got nan"),
        ("[margin\n", "is no TOML"),
        ("", "there is no table"),
    ):
        config.write_text(content)
        with pytest.raises(Refusal, match=message):
            read_margins([], config)
    for option in ("accuracy", "accuracy=", "=1", "accuracy=-1", "accuracy=nan", "accuracy=x"):
        with pytest.raises(Refusal, match="is not of the form accuracy=0.005, accuracy/noise"):
            read_margins([option], None)
    with pytest.raises(Refusal, match="There is no file .*gone.toml"):
        read_margins([], tmp_path / "gone.toml")


GUARDS = [
    Guard(KEY, 0.01, PASS, "", 0.9, 0.91, 0.01, 0.0, 0.02, mde=0.01, images=100),
    Guard(KEY, 0.01, WORSE, "", 0.9, 0.8, -0.1, -0.12, -0.08, mde=0.01, images=100),
    Guard(KEY, 0.01, INCONCLUSIVE, "too few", 0.9, 0.9, 0.0, -0.1, 0.1, mde=0.2, images=100),
    Guard(Key("d", "s", "nll", "", "clean", "m"), 0.1, MISSING, "gone", baseline=1.0),
]


def test_junit_counts_and_names_every_guard() -> None:
    root = ET.fromstring(junit(GUARDS))
    suite = root[0]
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases][-1] == "nll/clean"
    failure, error = cases[1].find("failure"), cases[3].find("error")
    assert failure is not None and failure.attrib["message"].startswith("0.9000 before, 0.8000 now")
    assert error is not None and error.attrib["type"] == "missing"
    assert cases[0].find("failure") is None


def test_a_variant_is_named_as_its_margin_is() -> None:
    guard = Guard(Key("d", "s", "accuracy", "class 3", "noise", "m"), 0.1, MISSING, "gone")
    (case,) = ET.fromstring(junit([guard]))[0]
    assert case.get("name") == "accuracy(class 3)/noise"
    assert "accuracy&#40;class 3&#41;" in markdown([guard]).decode()
    assert expectation(guard) == "m on d, s: accuracy(class 3) under noise: gone"


def test_names_from_files_are_inert_in_xml_and_markdown() -> None:
    name = "<script>alert(1)</script>|[x](http://y)`&\"'"
    guard = Guard(Key("d", "s", "accuracy", "", "clean", name), 0.0, PASS, name, 1, 1, 0, 0, 0)
    (case,) = ET.fromstring(junit([guard]))[0]
    assert case.get("classname") == f"d.s.{name}"
    text = markdown([guard]).decode()
    row = next(line for line in text.splitlines() if "script" in line)
    assert "<script>" not in text and "](" not in text and row.count("|") == 13


def test_markdown_begins_with_the_verdict() -> None:
    text = markdown(GUARDS).decode()
    assert text.startswith("### ❌ worse\n") and "| ⛔ missing | d | s | m | nll | clean |" in text
    assert text.count("\n| ") == 5


@pytest.fixture
def both(tmp_path: Path, answered: Answer) -> tuple[Path, Path]:
    """A baseline and new results of the same networks, with three seeds."""
    for folder in ("base", "new"):
        for seed in range(3):
            answered(tmp_path / folder, "m", seed, n=400)
    return tmp_path / "base", tmp_path / "new"


def test_the_same_networks_pass_even_without_cells(both: tuple[Path, Path]) -> None:
    base, new = both
    shutil.rmtree(base / "cells")
    result = check("--baseline", base, "--results", new)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().splitlines()[-1] == "pass: 2 of 2 guards."
    assert "accuracy under noise: equal outcomes, which pass at any margin" in result.stdout


def test_worse_results_fail_with_and_without_cells(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path
) -> None:
    base, _ = both
    bad = tmp_path / "bad"
    for seed in range(3):
        answered(bad, "m", seed, n=400, accuracy=0.7)
    outputs = tmp_path / "out/j.xml", tmp_path / "out/m.md"
    files = ("--junit", outputs[0], "--markdown", outputs[1])
    assert check("--baseline", base, "--results", bad, *files).exit_code == 1
    assert ET.parse(outputs[0]).getroot()[0].get("failures") == "2"
    assert outputs[1].read_text().startswith("### ❌ worse")
    paired = check("--baseline", base, "--results", bad)
    shutil.rmtree(base / "cells")
    assert check("--baseline", base, "--results", bad).stdout == paired.stdout
    for path in base.rglob("*.bits"):
        path.unlink()
    result = check("--baseline", base, "--results", bad)
    assert result.exit_code == 1 and "worse: 2 of 2 guards." in result.stdout
    assert "2 of 2 guards are not paired: without per-image answers" in result.stdout
    assert check("--baseline", base, "--results", bad, "--margin", "accuracy=0.4").exit_code == 0


def test_what_else_differs_from_the_baseline_is_said(
    both: tuple[Path, Path], vouch: Callable[..., None]
) -> None:
    base, new = both
    assert "in different ways" not in check("--baseline", base, "--results", new).stdout
    for seed in range(3):
        training = {"recipe": {"epochs": 26}}, {"recipe": {"epochs": 3}}
        for folder, of in zip(both, training, strict=True):
            vouch(folder / f"d/robustness/m/seed{seed}.csv", training=of)
    said = check("--baseline", base, "--results", new).stdout
    assert "m: trained in different ways (d): epochs 26 (before); epochs 3 (now)." in said


def test_too_few_images_are_inconclusive_and_told_beforehand(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path
) -> None:
    base, _ = both
    other = tmp_path / "other"
    for seed in range(3):
        answered(other, "m", seed, n=400, luck=1)
    result = check("--baseline", base, "--results", other, "--margin", "accuracy/clean=0.001")
    assert result.exit_code == 3, result.output
    first, last = (result.stdout.strip().splitlines()[i] for i in (0, -1))
    assert "a pass at a margin of 0.001 is out of reach: " in first
    assert last == "inconclusive: 1 of 1 guards."


def test_what_is_missing_is_its_own_verdict(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path, vouch: Callable[..., None]
) -> None:
    base, new = both
    answered(base, "second", n=400)
    result = check("--baseline", base, "--results", new)
    assert result.exit_code == 4 and "the new results do not have it" in result.stdout
    assert check("--baseline", base, "--results", new, "--model", "m").exit_code == 0
    other = tmp_path / "other"
    answered(other, "m", n=400, data="others")
    result = check("--baseline", base, "--results", other, "--model", "m")
    assert result.exit_code == 4 and "its images or the version of its suite" in result.stdout
    lost = tmp_path / "lost"
    path = answered(lost, "m", n=400)
    path.write_text(re.sub("(clean,0,accuracy,,)[0-9.]+", r"\1nan", path.read_text()))
    vouch(path)
    result = check("--baseline", base, "--results", lost, "--model", "m")
    assert result.exit_code == 4 and "the new value is not a number" in result.stdout


def test_seeds_that_one_side_lacks_are_left_out(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path
) -> None:
    base, _ = both
    one = tmp_path / "one"
    answered(one, "m", 1, n=400)
    result = check("--baseline", base, "--results", one)
    assert result.exit_code == 0, result.output
    left_out = [line.split(" is in")[0] for line in result.stdout.splitlines()[:2]]
    assert left_out == [f"m on d, robustness: seed {seed}" for seed in (0, 2)]


def test_a_plan_says_which_margin_an_unchanged_model_passes_at(
    answered: Answer, tmp_path: Path
) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    for seed in range(4):
        answered(base, "m", seed, n=400)
    shutil.rmtree(base / "cells")  # as in a clone
    result = check("--plan", "--baseline", base, "--margin", "accuracy=0.2", "--json")
    rows = json.loads(result.stdout)
    assert result.exit_code == 0 and {row["group"] for row in rows} == {"clean", "noise"}
    assert all(0 < row["reach"] < 0.1 and row["paired"] for row in rows)
    said = result.stderr.split("`")[1]  # --margin accuracy=M
    for seed in range(4, 8):
        answered(new, "m", seed, n=400)
    assert check("--baseline", base, "--results", new, *said.split()).exit_code == 0
    near = check("--plan", "--baseline", base, "--margin", "accuracy=0.003", "--json")
    (clean, _) = json.loads(near.stdout)
    assert near.exit_code == 3 and clean["verdict"] == "inconclusive"
    assert f"it needs about {clean['needed_seeds']:,.0f} seeds of either side" in clean["reason"]
    many = json.loads(check("--plan", "--baseline", base, "--seeds", 40, "--json").stdout)
    assert all(a["reach"] < b["reach"] for a, b in zip(many, rows, strict=True))


def test_a_plan_says_what_it_lacks(answered: Answer, tmp_path: Path) -> None:
    base = tmp_path / "base"
    answered(base, "m", n=400)
    alone = check("--plan", "--baseline", base)
    assert alone.exit_code == 3 and "one training seed does not say how much" in " ".join(
        alone.stdout.split()
    )
    answered(base, "m", 1, n=400)
    paired = json.loads(check("--plan", "--baseline", base, "--json").stdout)
    CliRunner().invoke(app, ["table", "--write", "--results", str(base)])
    board = check("--plan", "--baseline", base / "leaderboard.csv", "--json")
    rows = json.loads(board.stdout)
    assert board.exit_code == 3 and "nothing is paired" in rows[0]["reason"]
    assert not rows[0]["paired"] and paired[0]["paired"]
    nothing = check("--plan", "--baseline", base, "--suite", "robustness", "--dataset", "e")
    assert nothing.exit_code == 2 and "no dataset" in nothing.stderr


def test_digits_have_a_margin_that_can_be_reached(answered: Answer, tmp_path: Path) -> None:
    for seed in range(2):
        answered(tmp_path / "base", "m", seed, dataset="digits", accuracy=0.97)
    rows = json.loads(check("--plan", "--baseline", tmp_path / "base", "--json").stdout)
    assert {row["margin"] for row in rows} == {0.05}
    said = ("--margin", "accuracy=0.005")  # as by default elsewhere, but asked for
    rows = json.loads(check("--plan", "--baseline", tmp_path / "base", *said, "--json").stdout)
    assert {row["margin"] for row in rows} == {0.005}


def test_too_few_seeds_say_how_many_would_do(answered: Answer, tmp_path: Path) -> None:
    for seed in range(6):
        folder = tmp_path / ("base" if seed < 3 else "new")
        answered(folder, "m", seed, n=400, accuracy=0.9 + 0.02 * (seed % 3 - 1))
    sides = ("--baseline", tmp_path / "base", "--results", tmp_path / "new")
    result = check(*sides, "--margin", "accuracy/noise=0.02")
    text = " ".join(result.stdout.split())
    found = re.search("3 seeds are too few; about ([0-9,]+) of either side would do", text)
    assert result.exit_code == 3 and found and 3 < int(found[1]) < 100


def test_one_seed_speaks_of_its_weights(answered: Answer, tmp_path: Path) -> None:
    answered(tmp_path / "base", "m", n=400)
    answered(tmp_path / "new", "m", n=400, luck=1)
    result = check("--baseline", tmp_path / "base", "--results", tmp_path / "new")
    assert "With one training seed each the verdicts speak of these weights" in result.stdout
    assert "not paired" not in result.stdout
    again = check(
        "--baseline", tmp_path / "base", "--results", tmp_path / "new", "--margin", "accuracy=0.5"
    )
    assert again.exit_code == 0 and "within reach: changes of 0.0" in again.stdout


def test_a_leaderboard_is_a_baseline(both: tuple[Path, Path], answered: Answer) -> None:
    base, new = both
    CliRunner().invoke(app, ["table", "--write", "--results", str(base)])
    board = base / "leaderboard.csv"
    assert board.is_file()
    # The same runs are equal, whatever the margin; without their keys intervals decide.
    result = check("--baseline", board, "--results", base, "--margin", "nll=0")
    assert result.exit_code == 0 and "nll on clean images: equal outcomes" in result.stdout
    assert f"`--baseline {base}`, with the runs beside it" in " ".join(result.stdout.split())
    assert check("--baseline", board, "--results", new, "--margin", "accuracy=0").exit_code == 0
    for seed in range(3):
        answered(new, "m", seed, n=400, luck=1)
    assert check("--baseline", board, "--results", new, "--margin", "accuracy=0.3").exit_code == 0
    assert check("--baseline", board, "--results", new, "--margin", "nll=0.001").exit_code == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--baseline", "none"), "There is nothing at none"),
        (("--baseline", "base", "--results", "base"), "The baseline base is what is checked"),
        (("--baseline", "base", "--results", "none"), "There is nothing at none"),
        (("--baseline", "base", "--margin", "acc=1"), "no metric in .*base called `acc`"),
        (("--baseline", "base", "--margin", "accuracy/nois=1"), "Did you mean `noise`"),
        (("--baseline", "base", "--margin", "accuracy"), "is not of the form accuracy=0.005"),
        (("--baseline", "base", "--better", "auroc=more"), "is not of the form auroc=up or fpr95"),
        (("--baseline", "base", "--better", "nll=up"), "nll is better down. Leave it out"),
        (("--baseline", "base", "--model", "n"), "There is no model in base called `n`"),
        (("--baseline", "base", "--config", "gone"), "There is no file gone"),
        (("--baseline", "base", "--junit", "new/d"), "Is a directory|directory"),
        ((), "Missing option '--baseline'"),
    ],
)
def test_misuse_leaves_with_2(
    both: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(both[0].parent)
    defaults = () if "--results" in arguments else ("--results", "new")
    result = check(*arguments, *defaults)
    text = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2 and re.search(message, text), result.output


def test_a_crash_is_no_verdict(both: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "from harness.cli import main\n"
        "from harness.comparison import gate\n"
        "gate.judge = lambda *args: {}['low']\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "check", "--baseline", "base", "--results", "new"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert done.returncode == 70 and "KeyError: 'low'" in done.stderr
    assert "Traceback" in done.stderr and "This is a bug in harness" in done.stderr


def test_the_exit_code_is_that_of_the_process(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path
) -> None:
    for seed in range(3):
        answered(tmp_path / "bad", "m", seed, n=400, accuracy=0.5)
    code = "from harness.cli import main; main()"
    command = [sys.executable, "-c", code, "check", "--baseline", "base", "--results", "bad"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr


def test_a_leaderboard_that_is_older_than_the_runs_beside_it_is_no_baseline(
    both: tuple[Path, Path], answered: Answer, tmp_path: Path
) -> None:
    base, new = both
    CliRunner().invoke(app, ["table", "--write", "--results", str(base)])
    board = base / "leaderboard.csv"
    alone = tmp_path / "leaderboard.csv"
    alone.write_bytes(board.read_bytes())
    answered(base, "m", 3, n=400)
    result = check("--baseline", board, "--results", new)
    assert result.exit_code == 2
    assert (
        "leaderboard.csv is older than the results beside it: the runs of m on d" in result.stderr
    )
    assert "harness table --write" in result.stderr
    assert check("--baseline", alone, "--results", new).exit_code == 0


def test_files_that_are_damaged_are_named(
    both: tuple[Path, Path], vouch: Callable[..., None]
) -> None:
    base, new = both
    path = base / "d/robustness/m/seed0.csv"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    result = check("--baseline", base, "--results", new)
    assert result.exit_code == 2 and "seed0.csv is damaged" in result.stderr
    path.write_text(whole)
    beside = path.with_suffix(".json")
    vouch(path, cells={"clean 0": "../../../../etc/passwd"})
    result = check("--baseline", base, "--results", new)
    assert result.exit_code == 2 and "'clean 0' has no cell's key" in result.stderr
    beside.write_text("[" * 100_000)
    result = check("--baseline", base, "--results", new)
    assert result.exit_code == 2 and "seed0.json is damaged" in result.stderr
