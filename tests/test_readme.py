"""What the READMEs show is so: tables, names, links, commands, examples."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from harness.analysis import boards
from harness.analysis.groups import groups_of
from harness.analysis.leaderboard import KEY, leaderboard
from harness.cli import app
from harness.comparison.wording import bounds, signed
from harness.models.catalog import CATALOG
from harness.report.pictures import pictures
from harness.storage.results import read
from harness.study.claims import say
from harness.study.design_files import built_in
from harness.study.markdown import answer_rows
from harness.study.schema import read_study
from harness.study.stored import StoredEffect
from harness.suites.catalog import CORRUPTIONS, DATASETS, SUITES
from harness.suites.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
PATHS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("results/**/README.md")),
    *sorted(ROOT.glob(".github/*.md")),
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
PUBLISHED = ROOT / "results" / "published"
README = TEXTS["README.md"]
GUARD = ".github/workflows/guard.yml"
# Answers, how many there are, and where they are told.
STUDIES = {
    "digits/study.json": (6, "digits/README.md"),
    "digits/study-solvers.json": (2, "digits/generation/README.md"),
    "cifar10/study.json": (1, "cifar10/README.md"),
}
INTERVAL = re.compile(r"\d+\.\d-\d+\.\d")
# In a code block, or between backticks.
COMMAND = re.compile(r"(?:^ *(?:- run: )?|`|&& )(harness [a-z][^`\n]*)", re.MULTILINE)


def block(text: str, after: str) -> str:
    """The first fenced block after some words."""
    return text[text.index(after) :].split("```")[1].partition("\n")[2]


def rows_of(text: str, after: str) -> list[str]:
    """The rows of the first table after some words, without its head."""
    lines = text[text.index(after) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    return lines[first + 2 : lines.index("", first)]


def names_in(rows: list[str]) -> set[str]:
    """The words between backticks in the cells of a table, but for options and links."""
    return {name for row in rows for name in re.findall(r"`([^`-][^`]*)`", row)}


def marked(kind: str) -> list[tuple[str, str]]:
    """What follows the marks of a kind, with the README that it stands in."""
    return [
        (name, what)
        for name, text in TEXTS.items()
        for what in re.findall(rf"<!-- {kind}: (.*) -->", text)
    ]


def test_readmes_are_found() -> None:
    expected = {"README.md", "results/README.md", "results/published/cifar10/README.md"}
    assert expected | {"harness/README.md", "tests/README.md"} <= TEXTS.keys()
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("name", TEXTS)
def test_a_link_leads_to_a_file(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXTS[name])
    for link in links:
        if not link.startswith(("http", "#")):
            target = ((ROOT / name).parent / link.partition("#")[0]).resolve()
            assert target.exists(), link
            if target.suffix == ".png":
                assert target.read_bytes()[:4] == b"\x89PNG"


def test_the_models_are_those_of_the_catalog() -> None:
    rows = rows_of(README, "## Models")
    assert names_in(rows) == set(CATALOG)
    for row in rows:
        models, nulls = (names_in([cell]) for cell in (row.split("|")[1], row.split("|")[-2]))
        known = {null for model in models for null in CATALOG[model].nulls}
        assert not models or nulls <= known | {"resnet18_slot"}, row


def test_the_suites_and_data_sets_are_those_of_the_catalog() -> None:
    assert names_in(rows_of(README, "| suite |")) - set(CORRUPTIONS) == set(SUITES)
    shown = names_in([row.split("|")[1] for row in rows_of(README, "| data set |")])
    assert shown == {*DATASETS, "imagefolder:PATH"}


@pytest.mark.parametrize("name, command", marked("table"))
def test_a_table_is_the_one_that_the_program_makes(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    made = CliRunner().invoke(app, command.split()[1:]).stdout
    # The interval is narrower where the per-image answers are stored, which are not in git.
    made_words = [INTERVAL.sub("", line).split() for line in made.splitlines()]
    lines = block(TEXTS[name], f"<!-- table: {command} -->").splitlines()
    shown = [INTERVAL.sub("", line).split() for line in lines]
    assert len(shown) >= 4
    assert [line for line in shown if line not in made_words] == []


def describe_effect(effect: StoredEffect) -> str:
    """One difference as the short table has it."""
    metric, value = METRICS[effect.metric], signed(effect.metric, effect.effect)
    text = f"{metric.title} {value} {bounds(effect.metric, effect.low, effect.high)}"
    further = f", {effect.further}" if effect.further else ""
    against = f"`{effect.against}`" if effect.against in CATALOG else effect.against
    return (f"{text} against {against}" if against else text) + further


def test_all_published_studies_are_told() -> None:
    there = {path.relative_to(PUBLISHED).as_posix() for path in PUBLISHED.glob("*/study*.json")}
    assert {name for name in there if not name.endswith(".plan.json")} == STUDIES.keys()


@pytest.mark.parametrize("name", STUDIES)
def test_the_answers_are_those_of_the_study(name: str) -> None:
    (count, place), study = STUDIES[name], read_study(PUBLISHED / name)
    text = TEXTS[f"results/published/{place}"]
    expected = [
        f"| {q.number} | {q.question} | **{say(q.verdict, q.margin)}** | {q.answer} {q.power} | "
        f"{q.change} |"
        for q in study.questions
    ]
    assert len(expected) == count and rows_of(text, "<!-- study:") == expected
    assert study.scale in text and study.design.items() <= built_in(study.study).digests.items()
    assert study.stale(PUBLISHED) == [], "Run `harness study`: its runs have changed."
    for question in study.questions:
        assert question.checks and not any("does not ask" in said for said in question.checks)


@pytest.mark.parametrize("name, file", marked("answers"))
def test_the_short_answers_are_those_of_the_study(name: str, file: str) -> None:
    study = read_study(ROOT / file)
    expected = []
    for q in study.questions:
        # The strongest rival is the one with the smallest difference.
        deciding = [e for e in q.effects if e.decides]
        shown = describe_effect(min(deciding, key=lambda e: e.effect)) if deciding else ""
        assert q.change and q.power
        verdict = say(q.verdict, q.margin)
        expected.append(f"| {q.number} | {q.question} | {verdict} | {shown} | {q.change} |")
    assert rows_of(TEXTS[name], "<!-- answers:") == expected == list(answer_rows(study))
    assert study.scale in TEXTS[name]


def test_the_sentence_on_cifar10_is_of_its_study() -> None:
    study, text = read_study(PUBLISHED / "cifar10" / "study.json"), " ".join(README.split())
    (answer,) = study.questions
    assert f"question {answer.number} is *{say(answer.verdict, answer.margin)}*" in text
    deciding = [e for e in answer.effects if e.decides]
    (question,) = [q for q in built_in().questions if q.number == answer.number]
    words = ["none", "one", "two", "three", "four", "five"]
    assert f"{words[len(deciding)]} of {words[len(question.against)]} rivals are" in text
    for effect in deciding:
        accuracy = signed("accuracy", effect.effect), bounds("accuracy", effect.low, effect.high)
        assert f"{' '.join(accuracy)} against `{effect.against}`" in text
    assert study.scale.removeprefix("cifar10, ") in text


def test_the_words_on_a_learned_denoiser_are_its_rows() -> None:
    folder = PUBLISHED / "digits/generation"
    text = " ".join(TEXTS["results/published/digits/generation/README.md"].split())
    rows = pd.read_csv(folder / "flow_matching/seed0.csv", keep_default_na=False)
    rows = rows.set_index(["condition", "level", "metric", "variant"])["value"].sort_index()
    fine, drawn = (rows[where] for where in (("fine solution", 317.0), ("training images", 0.0)))
    for side in (fine, drawn):
        mmd = [side["feature_mmd2", end] for end in ("", "low", "high")]
        assert re.search(rf"\{mmd[0]:+.3f} \[{mmd[1]:+.3f}, \{mmd[2]:+.3f}\]", text), mmd
    for metric, said in (("sample_precision", "look real"), ("class_agreement", "are taken")):
        value, real = (100 * side[metric, ""] for side in (fine, drawn))
        assert re.search(rf"{value:.0f} % (of its samples )?{said}[^;,]*\({real:.0f} %\)", text)
    assert fine["memorized", ""] == 0 and drawn["memorized", ""] == 1
    euler, heun = (rows.xs(("path_rms", ""), level=(2, 3))[name] for name in ("euler", "heun"))
    assert heun[9] > euler[9] and heun[15] < euler[15]
    clean = pd.read_csv(PUBLISHED / "digits/clean/flow_matching/seed0.csv", keep_default_na=False)
    accuracy = clean[(clean["metric"] == "accuracy") & (clean["variant"] == "")]["value"]
    assert f"it has {100 * accuracy.item():.1f} % [92.1, 96.8] right" in text


def values(path: str) -> pd.Series:
    """The values of a published run by condition, level, metric and variant."""
    rows = pd.read_csv(PUBLISHED / path / "seed0.csv", keep_default_na=False)
    return rows.set_index(["condition", "level", "metric", "variant"])["value"].sort_index()


@pytest.mark.parametrize("name", ["edm_score", "edm_score-log_mean-0.2-5d2b2677"])
def test_the_words_on_levels_of_noise_are_their_rows(name: str) -> None:
    text = TEXTS["results/published/digits/generation/README.md"]
    text = " ".join(text[text.index("### Levels of noise") :].split())
    fine = values(f"digits/generation/{name}")["fine solution", 317.0]
    clean = values(f"digits/clean/{name}")["clean", 0.0]
    mmd = [fine["feature_mmd2", end] for end in ("", "low", "high")]
    assert f"{mmd[0]:+.3f} [{mmd[1]:+.3f}, {mmd[2]:+.3f}]" in text
    assert re.search(rf"{100 * fine['class_agreement', '']:.0f} %[ ,]", text)
    assert f"{100 * clean['accuracy', '']:.1f} % [" in text


def test_the_words_on_denoisers_as_classifiers_are_their_comparison() -> None:
    words = f"compare --results {PUBLISHED} --suite robustness --dataset digits --json --models"
    text = TEXTS["results/published/digits/generation/README.md"]
    for models in ("diffusion_classifier,nearest_neighbors", "flow_matching,diffusion_classifier"):
        made = CliRunner().invoke(app, [*words.split(), models])
        (row,) = [r for r in json.loads(made.stdout) if r.get("group") == "noise+blur"]
        low, high = 100 * row["low"], 100 * row["high"]
        number = f"{100 * row['difference']:+.2g} points ["
        where = text.index(number) + len(number)
        said = [float(x) for x in text[where : text.index("]", where)].split(",")]
        assert said == pytest.approx([low, high], abs=0.06)


def test_the_words_on_an_ode_block_and_one_step_are_their_comparison() -> None:
    words = f"compare --results {PUBLISHED} --suite robustness --dataset cifar10 --json --models"
    pair = "ode_block,ode_block(num_steps=1,solver='euler')"
    rows = json.loads(CliRunner().invoke(app, [*words.split(), pair]).stdout)
    rows = [row for row in rows if row.get("family") == "groups" and row["metric"] == "accuracy"]
    text = TEXTS["results/published/cifar10/README.md"]
    assert [row["group"] for row in rows] == ["clean", "noise", "blur", "noise+blur"]
    for row in rows:
        low, high = (100 * row[end] for end in ("low", "high"))
        assert f"{100 * row['difference']:+.2f} points [{low:.2f}, {high:.2f}]" in text
    assert [row["p_holm"] < 0.05 for row in rows] == [False, True, True, False]


def test_the_sentence_on_solvers_is_of_its_study() -> None:
    study = read_study(PUBLISHED / "digits" / "study-solvers.json")
    first, second = study.questions
    heun, euler = first.effects[-1], second.effects[0]
    assert (heun.against, euler.against) == ("heun 9", "euler 9")
    for answer, effect in ((first, heun), (second, euler)):
        number = signed(effect.metric, effect.effect)
        interval = bounds(effect.metric, effect.low, effect.high)
        pattern = rf"\*{say(answer.verdict, answer.margin)}\*, (path error )?"
        assert re.search(pattern + re.escape(f"{number} {interval}"), README)
        assert f"{effect.seeds} seeds" in README


@pytest.mark.parametrize("name", STUDIES)
def test_an_answer_can_be_traced_to_its_cells(name: str) -> None:
    """From the sentence to its effects, to rows, to their runs: command, commit, weights, cells."""
    study, table = json.loads((PUBLISHED / name).read_text()), read(PUBLISHED)
    assert study["dataset"] == name.partition("/")[0] and re.fullmatch(
        "[0-9a-f]{40}", study["commit"]
    )
    assert study["command"].startswith("harness study")
    checked = 0
    for question in study["questions"]:
        rows = []
        for file in question["runs"]:
            if file.startswith("untrained/"):
                assert read(PUBLISHED / "untrained")["model"].nunique() > 2
                continue
            made = json.loads((PUBLISHED / file).with_suffix(".json").read_text())
            assert re.fullmatch("[0-9a-f]{40}", made["environment"]["commit"])
            assert made["command"].startswith("harness ") and made["images"] > 0
            assert re.fullmatch("[0-9a-f]{64}", made["weights"])
            rows.append(
                pd.read_csv(
                    PUBLISHED / file, dtype={"level": float, "run": str}, keep_default_na=False
                )
            )
            where = rows[-1][["condition", "level"]].drop_duplicates().itertuples(index=False)
            assert {f"{c} {level:g}" for c, level in where} == set(made["cells"])
        frame = pd.concat(rows)
        # The rows of the answer are those of the whole table.
        both = frame.merge(table, how="inner", on=[c for c in table.columns if c != "value"])
        assert len(both) == len(frame) and (both["value_x"] == both["value_y"]).all()
        for effect in question["effects"]:
            assert effect["seeds"] == frame["seed"].nunique()
            if effect["metric"] not in ("accuracy", "path_rms") or effect["further"]:
                continue
            key = ["suite", "metric", "variant"]
            here = frame[(frame[key] == [effect[k] for k in key]).all(axis=1)]
            cells = groups_of(frozenset(zip(here["condition"], here["level"], strict=True)))
            here = here.set_index(["condition", "level"])
            sides = [(effect["model"], effect["group"]), (effect["against"], effect["group"])]
            if effect["against"] in cells:  # of one model
                sides[1] = effect["model"], effect["against"]
            one, other = (
                here[here["model"] == model].loc[pd.MultiIndex.from_tuples(cells[group])]["value"]
                for model, group in sides
            )
            assert effect["effect"] == pytest.approx(one.mean() - other.mean(), abs=2e-6)
            checked += 1
    assert checked >= (6 * STUDIES[name][0] if study["study"] == "study" else 3)


@pytest.mark.parametrize(
    "folder, training",
    [
        ("results/published", "10 epochs, 2 seeds"),
        ("results/published/baseline", "26 epochs, 1 seed"),
    ],
)
def test_the_baseline_is_compared_with_published_numbers(folder: str, training: str) -> None:
    table = read(ROOT / folder)
    key = {"model": "resnet18", "suite": "robustness", "dataset": "cifar10", "metric": "accuracy"}
    same = np.logical_and.reduce([table[column] == word for column, word in key.items()])
    table = table[same].assign(value=100 * table["value"])
    groups = groups_of(frozenset(zip(table["condition"], table["level"], strict=True)))
    cells = table.set_index(["condition", "level"])
    corrupted = cells.loc[pd.MultiIndex.from_tuples(groups["noise+blur"])].reset_index()
    assert len(corrupted) == 35 * table["seed"].nunique()
    numbers = [cells.loc["clean", "value"].mean(), *corrupted.groupby("level")["value"].mean()]
    shown = " | ".join(f"{x:.1f}" for x in (*numbers, corrupted["value"].mean()))
    row = f"| `resnet18`, width 16, {training} | {shown} |"
    assert row in rows_of(TEXTS["results/published/baseline/README.md"], "<!-- published -->"), row


def test_the_leaderboard_is_of_the_results_that_are_there() -> None:
    # Its intervals are narrower where the per-image answers are stored, which are not in git.
    same = [*KEY, "value", "seeds", "images", "runs"]
    written = boards.read(PUBLISHED / boards.FILE)[same]
    made = leaderboard(read(PUBLISHED, whole=True))[same]
    # Else: run `harness table --write` where the runs were made, and publish them again.
    pd.testing.assert_frame_equal(written, made, rtol=0, atol=1.1e-6)  # six decimals, once rounded


def commands() -> Iterator[tuple[str, str]]:
    """Every command that a README shows, with its name."""
    for name, text in {**TEXTS, GUARD: (ROOT / GUARD).read_text(encoding="utf-8")}.items():
        for line in COMMAND.findall(text.replace(">\n", "")):
            yield name, line


def problem(line: str) -> str:
    """What the program does not know of a command; "" if it knows all."""
    command: Any = typer.main.get_command(app)
    words = line.split()[1:]
    while hasattr(command, "commands") and words[0].islower():  # `harness COMMAND --help`
        if words[0] not in command.commands:
            return f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
    unknown = [o for o in re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(words)) if o not in known]
    return f"there is no option {unknown[0]}" if unknown else ""


def test_the_commands_and_their_options_exist() -> None:
    found = list(commands())
    assert len(found) > 30 and len({line.split()[1] for _, line in found}) >= 12
    assert [(name, line, problem(line)) for name, line in found if problem(line)] == []


@pytest.mark.parametrize(
    "line", ["harness rune", "harness run --modle a", "harness list kinds", "harness check --bar"]
)
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    assert problem(line)


def test_the_examples_in_python_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) >= 2
    names: dict = {}
    for example in examples:
        exec(example, names)
    assert set(names["table"]["model"]) == {"net"} and len(names["board"]) > 10
    assert names["corrupted"].shape == names["smoothed"].shape == names["images"].shape
    assert list(tmp_path.iterdir()) == []


def run(folder: Path, *arguments: str) -> str:
    """What a Python of its own prints: names of a user's file are kept out of other tests."""
    words = [sys.executable, *arguments]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name: str, number: int = 0) -> str:
    """A block of Python of a README."""
    return re.findall(r"```python\n(.*?)```", TEXTS[name], re.DOTALL)[number]


SMALL = ("--epochs", "1", "--width", "8", "--limit", "40")


def test_a_checkpoint_is_evaluated_as_the_example_says(tmp_path: Path) -> None:
    """On forty digits, in place of CIFAR-10, and against a baseline that is trained briefly."""
    text = block(README, "## Evaluate your own checkpoint").replace("cifar10", "digits")
    lines = [line.split() for line in text.splitlines() if line]
    assert lines.pop(0) == ["harness", "data", "digits"]  # the digits need no download
    net = (
        "from torch import nn\ndef net(num_classes):\n"
        "    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))\n"
    )
    (tmp_path / "my_net.py").write_text(net)
    save = "from my_net import net; from safetensors.torch import save_file; "
    run(tmp_path, "-c", save + "save_file(net(10).state_dict(), 'my_net.safetensors')")
    for words in lines:
        more = SMALL if "--weights" not in words else SMALL[-2:]  # its width is its own affair
        shown = run(tmp_path, "-m", *words, *(more if "run" in words else ["results/quick"]))
    assert "digits, robustness" in shown and "resnet18" in shown
    made = pd.read_csv(tmp_path / "results/quick/digits/robustness/net/seed0.csv")
    assert len(made[made["metric"] == "accuracy"]) == 36 and set(made["n"]) == {40}


def test_a_users_model_is_evaluated_as_the_example_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(example("models/README.md"))
    (command,) = [c for name, c in commands() if name == "models/README.md" and "mine.py" in c]
    shown = run(tmp_path, "-m", *command.split(), *SMALL)
    assert "shallow" in shown and (tmp_path / "results/quick/digits/clean/shallow").is_dir()


def test_a_model_is_added_as_the_example_says(tmp_path: Path) -> None:
    check = "\n\nimport torch\nmodel = MODELS['three_steps'](width=8).eval()\n"
    check += "print(tuple(model(torch.rand(2, 3, 32, 32)).shape), MODELS['three_steps'].card.nulls)"
    (tmp_path / "three.py").write_text(example("models/README.md", 1) + check)
    assert run(tmp_path, "three.py") == "(2, 10) ('resnet18_slot',)\n"


def test_a_users_suite_corruption_data_and_metric_work_as_the_example_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(example("suites/README.md"))
    (command,) = [c for name, c in commands() if name == "suites/README.md"]
    shown = run(tmp_path, "-m", *command.split(), *SMALL)
    assert "stripes" in shown and "doubt" in shown
    for suite, conditions in (("turned", {"turned"}), ("robustness", {"clean", "darker"})):
        path = tmp_path / "results/quick/stripes" / suite / "resnet18" / "seed0.csv"
        table = pd.read_csv(path)
        assert set(table["condition"]) == conditions
        assert {"accuracy", "doubt"} < set(table["metric"])
    shown = run(tmp_path, "-m", "harness", "table", "--results", "results/quick", "--json")
    assert {row["suite"] for row in json.loads(shown)} == {"turned", "robustness"}


def test_the_margins_of_the_example_are_read(tmp_path: Path) -> None:
    from harness.comparison.gate import read_margins

    text = TEXTS["harness/README.md"]
    (tmp_path / "check.toml").write_text(text[text.index("check.toml") :].split("`")[2])
    margins = read_margins([], tmp_path / "check.toml")
    assert sorted(margins.values()) == [0.01, 0.05]


def test_every_published_picture_is_of_the_published_results() -> None:
    found = pictures(PUBLISHED, (), budget=10**9)
    assert found.shown and not found.stale and not found.too_large
