"""The page as a file: what it says, what it refuses, and that it needs nothing else."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lxml import html
from lxml.html import HtmlElement
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from harness.analysis import leaderboard
from harness.cli import app
from harness.refusal import Refusal
from harness.report import answers, libraries, page
from harness.report import html as markup
from harness.report.html import SCRIPTS, TEMPLATES, unpack
from harness.report.page import Content, facts
from harness.report.pictures import Pictures, pictures
from harness.storage.files import safe
from harness.storage.json_files import write_json
from harness.storage.published import publish
from harness.storage.results import COLUMNS
from harness.storage.sources import describe_source
from harness.study.stored import FILE

Folder = Callable[..., Path]  # writes a results folder
MODELS = ["resnet18", "pde_aug", "timm/some-net"]
HOSTILE = [
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=2">',
    "javascript:window.hacked=3",
    "../../../etc/passwd",
    "</script><script>window.hacked=4</script>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "__proto__",
    "x" * 180,
]


def parsed(path: Path) -> HtmlElement:
    return html.document_fromstring(path.read_text(encoding="utf-8"))


def text(element: HtmlElement) -> str:
    return " ".join(element.text_content().split())


def embedded(tree: HtmlElement) -> dict:
    return unpack(tree.get_element_by_id("facts").text)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def effect(**changed: object) -> dict:
    made = {"model": "a", "against": "b", "suite": "robustness", "metric": "accuracy"}
    made |= {"group": "noise+blur", "effect": 0.034, "low": 0.021, "high": 0.047, "p": 0.012}
    return made | {"seeds": 5, "images": 10_000, "decides": True} | changed


def write_study(results: Path, *effects: list[dict], dataset: str = "d", **changed: object) -> None:
    """A study of a question for each list of effects."""
    questions = [
        {"number": str(i), "question": f"Question {i}?", "answer": "So.", "effects": of}
        | {"verdict": ("cannot tell", "yes", "no relevant gain")[i % 3]}
        | {"runs": [f"{dataset}/robustness/{m}/seed{s}.csv" for m in "ab" for s in (0, 1)]}
        | changed
        for i, of in enumerate(effects)
    ]
    told = {
        "scale": "d, 5 seeds",
        "command": "harness study --preset quick",
        "commit": "c0ffee, changed",
    }
    paths: set[str] = set()
    for question in questions:
        paths.update(question["runs"])
    there = {path: results / path for path in paths}
    hashes = {p: digest(at.read_bytes() if at.is_file() else b"") for p, at in there.items()}
    told |= {"dataset": dataset, "questions": questions, "runs": hashes}
    write_json(results / dataset / FILE, told)


@pytest.fixture(scope="module")
def results(told_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = told_folder(tmp_path_factory.mktemp("r") / "results", MODELS)
    picture(folder, "corruptions-d-7.png")
    return folder


@pytest.fixture(scope="module")
def tree(results: Path) -> HtmlElement:
    return parsed(page.write(results))


def test_the_table_has_the_rows_of_the_leaderboard(results: Path, tree: HtmlElement) -> None:
    board = pd.read_csv(results / "leaderboard.csv")
    opening = board[(board["metric"] == "accuracy") & (board["group"] == "clean")]
    opening = opening.sort_values("value", ascending=False)
    rows = tree.xpath("//table[@id='board']/tbody/tr")
    assert [text(row.xpath("th")[0]).removesuffix(" baseline") for row in rows] == MODELS
    for row, known in zip(rows, opening.to_dict("records"), strict=True):
        cells = [text(cell) for cell in row.xpath("td")]
        assert cells[0].startswith(f"{100 * known['value']:.1f}"), cells
        assert cells[1] == f"{100 * known['low']:.1f} to {100 * known['high']:.1f}"
        assert cells[3] == f"{known['rank_low']}–{known['rank_high']}"
        assert cells[5:] == [f"{100 * known['mde']:.1f}", "2", "1,000"]


def test_the_scripts_have_all_rows_of_the_leaderboard(results: Path, tree: HtmlElement) -> None:
    path = results / "leaderboard.csv"
    board, found = pd.read_csv(path, keep_default_na=False), embedded(tree)
    names = [model["name"] for model in found["models"]]
    assert names == MODELS and [m["baseline"] for m in found["models"]] == [True, False, False]
    rows = {
        (*(c[name] for name in leaderboard.KEY[:5]), names[row[0]], row[4], row[5])
        for c in found["boards"]
        for row in c["rows"]
    }
    key = ["dataset", "suite", "metric", "variant", "group", "model", "seeds", "images"]
    assert rows == set(board[key].itertuples(index=False, name=None)) and len(rows) == len(board)


def test_what_made_each_number_is_there(results: Path, tree: HtmlElement) -> None:
    found = embedded(tree)
    assert len(found["runs"]) == 6 and len(found["shared"]) == 1
    assert found["shared"][0]["command"] == "harness run --suite robustness"
    run = found["runs"][1]
    assert (found["models"][run["model"]]["name"], run["seed"]) == ("pde_aug", 1)
    assert run["own"]["cells"] == 11 and run["own"]["weights"] == f"{1:032x}{1:032x}"
    assert (results / f"{run['path']}.csv").is_file()
    assert len(tree.xpath("//table[@id='runs-table']/tbody/tr//button[@data-run]")) == 6
    for button in tree.xpath("//table[@id='board']//tbody//button"):
        of = [found["runs"][int(number)] for number in button.get("data-runs").split()]
        assert {found["models"][r["model"]]["name"] for r in of} == {button.get("data-model")}
        assert [r["seed"] for r in of] == [0, 1]


def test_a_number_names_the_runs_that_it_is_of_and_no_others(
    told_folder: Folder, tmp_path: Path, vouch: Callable[..., None]
) -> None:
    told_folder(tmp_path, ["a", "b"], seeds=(0, 1, 2))
    path = tmp_path / "d/robustness/a/seed1.csv"  # this seed lacks a severity of fog
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if ",fog,2," not in line))
    vouch(path)
    found = embedded(parsed(page.write(tmp_path)))
    seeds = {
        (column["group"], found["models"][row[0]]["name"]): [
            found["runs"][i]["seed"] for i in row[10]
        ]
        for column in found["boards"]
        for row in column["rows"]
    }
    assert seeds["fog", "a"] == [0, 2] and seeds["snow", "a"] == seeds["fog", "b"] == [0, 1, 2]
    (curves,) = found["curves"]
    at = curves["cells"].index([0, 2])
    for metric in curves["metrics"]:
        assert set(metric["runs"]) == {"0"}
        assert [found["runs"][i]["seed"] for i in metric["runs"]["0"][str(at)]] == [0, 2]


def test_a_leaderboard_that_is_older_than_its_rows_never_shows(
    told_folder: Folder, tmp_path: Path, vouch: Callable[..., None]
) -> None:
    told_folder(tmp_path, ["a", "b"])
    for seed in (0, 1):
        path = tmp_path / f"d/robustness/a/seed{seed}.csv"
        path.write_text(
            re.sub(r"clean,0,accuracy,,0\.\d+", "clean,0,accuracy,,0.5", path.read_text())
        )
        vouch(path)
    found = embedded(parsed(page.write(tmp_path)))
    (clean,) = [c for c in found["boards"] if (c["metric"], c["group"]) == ("accuracy", "clean")]
    shown = {found["models"][row[0]]["name"]: row[1] for row in clean["rows"]}
    assert shown == {"a": 50.0, "b": 89.1}


def test_ids_are_unique_and_all_that_is_referred_to_is_there(tree: HtmlElement) -> None:
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    referred = [name for value in tree.xpath("//@aria-labelledby") for name in value.split()]
    referred += [link[1:] for link in tree.xpath("//a/@href | //use/@href") if link[0] == "#"]
    assert len(referred) > 8 and set(referred) <= set(ids)
    source = "".join((TEMPLATES / name).read_text() for name in SCRIPTS)
    assert set(re.findall(r'byId\("([\w-]+)"\)', source)) <= set(ids)


def test_tables_pictures_and_controls_say_what_they_are(tree: HtmlElement) -> None:
    assert len(tree.xpath("//table")) == len(tree.xpath("//table/caption[normalize-space()]")) == 3
    assert tree.xpath("//th[not(@scope)]") == [] and tree.xpath("//img[not(@alt)]") == []
    assert tree.xpath("//img/@alt") == [
        "Image 7 of d under corruption: a row for each kind, a column for each severity."
    ]
    for control in tree.xpath("//select | //input"):
        assert text(control.getparent()), "a label holds its control"
        assert control.getparent().tag == "label"
    for button in tree.xpath("//body//button[not(ancestor::template)]"):
        assert text(button) or button.get("aria-label")
    levels = [int(h.tag[1]) for h in tree.xpath("//main//*[self::h1 or self::h2 or self::h3]")]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert tree.get("lang") == "en" and tree.xpath("//a[@class='skip']/@href") == ["#main"]


def test_nothing_is_loaded(tree: HtmlElement) -> None:
    loaded = tree.xpath("//@src | //link/@href | //@srcset | //@poster | //object/@data")
    assert all(url.startswith("data:") for url in loaded)
    assert "@import" not in (style := text(tree.xpath("//style")[0])) and "url(" not in style
    assert tree.xpath("//iframe | //embed | //base | //meta[@http-equiv='refresh']") == []


def test_nothing_runs_but_what_the_policy_names(tree: HtmlElement) -> None:
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert re.search("script-src[^;]*unsafe-inline", policy) is None
    named = set(re.findall("'sha256-([^']+)'", policy))
    scripts = tree.xpath("//script[not(@type) or @type='module']")
    hashes = {
        base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
        for script in scripts
    }
    assert hashes == named and len(scripts) == 3
    assert tree.xpath("//@*[starts-with(name(), 'on')]") == []
    assert [url for url in tree.xpath("//@href") if "script:" in url] == []


def test_the_same_results_give_the_same_page(results: Path, tree: HtmlElement) -> None:
    before = (results / page.PATH).read_bytes()
    assert page.write(results).read_bytes() == before


def test_the_leaderboard_needs_no_file(told_folder: Folder, tmp_path: Path) -> None:
    with_file, without = (
        embedded(parsed(page.write(told_folder(tmp_path / str(board), MODELS, board=board))))
        for board in (True, False)
    )
    assert with_file["boards"] == without["boards"] != []


def test_the_page_says_whether_its_results_are_the_published_ones(
    told_folder: Folder, tmp_path: Path, tree: HtmlElement
) -> None:
    published = tmp_path / "results" / "published"
    publish(told_folder(tmp_path / "made", MODELS), published)
    result = CliRunner().invoke(app, ["report", "--results", str(tmp_path / "results")])
    assert "There are no runs of your own in" in result.stderr
    page_of = tmp_path / "results" / page.PATH
    assert result.stdout.split() == [str(page_of)] and not (published / "report").exists()
    shown = parsed(page_of)
    assert "Published results. They come with harness" in text(shown.get_element_by_id("main"))
    assert "(published results)" in text(shown.xpath("//title")[0])
    for part in ("//title", "//main"):
        assert "ublished" not in text(tree.xpath(part)[0]).replace("they are not the published", "")


def test_what_weakens_the_numbers_is_said(told_folder: Folder, tmp_path: Path) -> None:
    made = {"limit": 50, "environment": {"commit": "abc", "dirty": True}}
    tree = parsed(page.write(told_folder(tmp_path, MODELS, seeds=(0,), made=made)))
    limits = text(tree.get_element_by_id("methods"))
    assert "3 of the (data set, suite, model) have one training seed" in limits
    assert "3 of 3 runs come from source code with uncommitted changes" in limits
    assert "3 of 3 runs used a part of the test images" in text(tree.get_element_by_id("main"))


def test_what_keeps_models_from_being_compared_is_said(
    told_folder: Folder, tmp_path: Path, tree: HtmlElement
) -> None:
    told_folder(tmp_path, ["a", "b"])
    told_folder(tmp_path, ["c"], made={"images": 50, "behavior": ["random"]})
    notes = [text(p) for p in parsed(page.write(tmp_path)).xpath("//main/p[@class='note']")]
    assert "Measured on different numbers of images (d, robustness): 1,000 (a, b); 50 (c)." in notes
    assert "c (d): random." in notes
    assert tree.xpath("//main/p[@class='note']") == []


def test_only_metrics_that_occur_are_explained(tree: HtmlElement) -> None:
    terms = [text(term) for term in tree.xpath("//*[@id='glossary']//dt")]
    assert terms == ["accuracy, %", "NLL, nats"]


def test_a_run_without_json_is_refused(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    next(tmp_path.rglob("seed0.json")).unlink()
    with pytest.raises(Refusal, match="no file .*seed0.json"):
        page.write(tmp_path)


def test_what_a_run_does_not_say_is_shown_as_not_known(told_folder: Folder, tmp_path: Path) -> None:
    tree = parsed(page.write(told_folder(tmp_path, ["a"], made={"environment": {}})))
    assert "not known" in text(tree.get_element_by_id("runs-table"))


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_damaged_json_is_named(told_folder: Folder, tmp_path: Path, content: str) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    next(tmp_path.rglob("seed0.json")).write_text(content)
    with pytest.raises(Refusal, match="seed0.json is damaged: "):
        page.write(tmp_path)


# Hostile names


def test_hostile_names_are_text(told_folder: Folder, tmp_path: Path) -> None:
    made = {"command": HOSTILE[5], "environment": {"commit": HOSTILE[0], "device": HOSTILE[1]}}
    told_folder(tmp_path, HOSTILE, dataset=HOSTILE[1], kinds=("fog", HOSTILE[0]), made=made)
    names = {"model": HOSTILE[5], "against": HOSTILE[1], "metric": HOSTILE[0], "group": HOSTILE[6]}
    names |= {"suite": HOSTILE[2], "variant": HOSTILE[4]}
    write_study(tmp_path, [effect(**names)], question=HOSTILE[0], answer=HOSTILE[5])
    write_history(tmp_path, HOSTILE[0], 0, [1.0, 0.5])
    tree = parsed(page.write(tmp_path))
    assert len(tree.xpath("//script")) == 4 and tree.xpath("//img") == []
    assert tree.xpath("//@*[starts-with(name(), 'on')]") == []
    names = [text(row) for row in tree.xpath("//table[@id='board']/tbody//th")]
    assert names == HOSTILE
    assert [model["name"] for model in embedded(tree)["models"]] == sorted(HOSTILE)
    assert text(tree.xpath("//ol[@class='answers']//h3")[0]) == HOSTILE[0]


LONG = "d/robustness/a/seed0.csv"


@pytest.mark.parametrize(
    "old, new, says",
    [
        (b"a,robustness,d,0,fog,1,", b"=1+1,robustness,d,0,fog,1,", "line 4: `model` starts like"),
        (b",clean,0,accuracy,,0.9,", b",clean,0,accuracy,,x,", "line 2: `value` must be a number"),
        (b",clean,0,accuracy,,0.9,", b",clean,0,accuracy,,1.9,", "line 2: `accuracy` must lie in"),
        (b",1000,run0\n", b",1000.5,run0\n", "line 2: `n` must be a whole number"),
        (b",fog,2,", b",fog,1,", "lines 4 and 6 are of the same"),
        (b"a,robustness,d,0,clean,0,nll", b"b,robustness,d,0,clean,0,nll", "several of `model`"),
        (b"a,robustness,d,0,", b"\xff,robustness,d,0,", "line 2 is not UTF-8"),
        (b"model,suite", b"model,model", "has the column 'model' twice"),
        (b"a,robustness,", b"..,robustness,", "was moved or edited"),
    ],
)
def test_a_damaged_table_is_refused_and_no_page_made(
    told_folder: Folder, tmp_path: Path, old: bytes, new: bytes, says: str
) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    path = tmp_path / LONG
    path.write_bytes(path.read_bytes().replace(old, new, -1 if new[:1] == b"." else 1))
    assert refusal(tmp_path).startswith(str(path)) and says in refusal(tmp_path)


def test_a_table_that_was_cut_off_is_refused(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    whole = (tmp_path / LONG).read_bytes()
    for kept, says in ((whole[:-3], "line 23 is cut off"), (whole[:-30], "line 23 has 3 fields")):
        (tmp_path / LONG).write_bytes(kept)
        assert says in refusal(tmp_path)


def test_a_number_that_is_none_is_shown_as_not_known(
    told_folder: Folder, tmp_path: Path, vouch: Callable[..., None]
) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    path = tmp_path / LONG
    path.write_bytes(path.read_bytes().replace(b",fog,1,accuracy,,0.85,", b",fog,1,accuracy,,nan,"))
    vouch(path)
    line = embedded(parsed(page.write(tmp_path)))["curves"][0]["metrics"][0]["models"]["0"]
    assert line[:6] == [90.0, 88.0, 91.7, None, None, None]


def refusal(results: Path) -> str:
    """What the command says, which makes no page."""
    result = CliRunner().invoke(app, ["report", "--results", str(results)])
    assert result.exit_code == 2 and not (results / page.PATH).exists()
    return result.stderr


def test_a_name_that_is_no_unicode_does_no_harm(told_folder: Folder, tmp_path: Path) -> None:
    made = {"environment": {"commit": "\ud800", "device": "\udfff"}}
    assert page.write(told_folder(tmp_path, ["a"], made=made)).stat().st_size > 10**6


# Answers


def test_answers_come_first_and_are_short(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a", "b"])
    lost = effect(metric="nll", effect=-0.0123, low=None, high=None, p=None, decides=False)
    write_study(tmp_path, [effect(), lost, effect(effect=0.0, low=-0.01, p=1e-9)], [])
    tree = parsed(page.write(tmp_path))
    assert tree.xpath("//main//section/@id")[0] == "answers"
    assert [text(v) for v in tree.xpath("//strong[contains(@class, 'verdict')]")] == [
        "? Cannot tell",
        "✓ Yes",
    ]
    assert [text(n) for n in tree.xpath("//span[@class='headline']")] == [
        "+0.00 points [-1.0, 4.7] against b",
        "",
    ]
    rows = [[text(c) for c in row.xpath("td")] for row in tree.xpath("//ol//tbody/tr")]
    assert rows[0] == [
        "b",
        "accuracy under noise and blur",
        "+3.4 points[2.1, 4.7]",
        "[2.1, 4.7]",
        "",
        "0.012",
        "5",
        "10,000",
    ]
    assert rows[1][1:6] == ["NLL under noise and blur less is better", "-0.0123", "–", "", "–"]
    assert rows[2][2].startswith("+0.00 points") and rows[2][5] == "< 0.0001"
    said = text(tree.xpath("//section[@id='answers']/p")[0])
    assert said.startswith("From harness study --preset quick: d, 5 seeds; commit c0ffee, changed.")


def test_an_effect_knows_its_own_runs(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a", "b", "c"], seeds=(0, 1, 2))
    write_study(tmp_path, [effect(), effect(suite="nfe"), effect(against="")])
    tree = parsed(page.write(tmp_path))
    runs = embedded(tree)["runs"]
    of = [
        [runs[int(n)]["path"] for n in button.get("data-runs").split()]
        for button in tree.xpath("//ol//button")
    ]
    # Of the first two seeds, as the study says, though there are three.
    own = [f"d/robustness/{model}/seed{seed}" for model in "ab" for seed in (0, 1)]
    assert of == [own, [], own[:2]]
    button = tree.xpath("//ol//button")[0]
    assert button.get("data-title") == "a against b"
    assert button.get("data-says") == (
        "accuracy under noise and blur: a less b is +3.4 points (95 % [2.1, 4.7]; p = 0.012), over "
        "5 training seeds and 10,000 images."
    )


def test_the_headline_is_the_least_gain_of_those_that_decide(tmp_path: Path) -> None:
    def headline(*effects: dict) -> str | None:
        write_study(tmp_path, list(effects))
        (question,) = answers.questions(answers.read(tmp_path)[0][0], [])
        return question["headline"] and question["headline"]["value"]

    other = effect(effect=-0.5, low=-0.6, high=-0.4, decides=False)
    assert headline(effect(), effect(effect=0.022), other) == "+2.2 points"
    loss = {"metric": "nll", "low": -1, "high": 1}
    assert headline(effect(effect=-0.1, **loss), effect(effect=0.1, **loss)) == "+0.1"
    assert headline(other) is None and headline(effect(effect=None)) is None


def test_differences_are_rounded_as_in_the_answers_of_the_study(tmp_path: Path) -> None:
    write_study(tmp_path, [effect(effect=0.0225), effect(effect=-0.00845, low=-0.03)])
    (question,) = answers.questions(answers.read(tmp_path)[0][0], [])
    values = [e["value"] for e in question["effects"]]
    assert values == ["+2.3 points", "-0.85 points"]


def test_nothing_is_open_but_the_first_curves(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a", "b"])
    write_study(tmp_path, [effect()])
    tree = parsed(page.write(tmp_path))
    assert [d.get("id") for d in tree.xpath("//details[@open]")] == ["suite-0"]
    for section in tree.xpath("//section"):
        assert len(section.xpath("./*[not(self::h2)]")) > 0, "no section is empty"


def test_the_study_of_most_images_comes_first(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a", "b"])
    write_study(tmp_path, [effect(images=355)], dataset="a_toy")
    write_study(tmp_path, [effect()], [effect()])
    tree = parsed(page.write(tmp_path))
    section = tree.xpath("//section[@id='answers']")[0]
    assert [text(h) for h in section.xpath("h3")] == ["On d", "On a_toy"]
    assert [len(of.xpath("li")) for of in section.xpath("ol")] == [2, 1]
    labels = section.xpath(".//@aria-label")
    assert len(set(labels)) == len(labels)


def test_effects_of_one_metric_share_a_scale_with_zero(tmp_path: Path) -> None:
    write_study(tmp_path, [effect(), effect(effect=-0.01, low=-0.02, high=0.0)])
    (question,) = answers.questions(answers.read(tmp_path)[0][0], [])
    one, other = question["effects"]
    assert one["scale"] == other["scale"] and one["scale"][0] <= -2 and one["scale"][1] >= 4.7
    assert one["numbers"] == [3.4, 2.1, 4.7] and other["numbers"] == [-1.0, -2.0, 0.0]


def test_a_variant_is_part_of_what_is_compared(tmp_path: Path) -> None:
    write_study(tmp_path, [effect(metric="nfe_rho", variant="loss", group="dopri5 0.001")])
    (question,) = answers.questions(answers.read(tmp_path)[0][0], [])
    assert question["effects"][0]["metric"] == "rank correlation of NFE (loss)"


def test_a_folder_without_a_study_has_no_answers(tmp_path: Path) -> None:
    assert answers.read(tmp_path) == []


def test_a_damaged_study_is_refused_and_no_page_made(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a"])
    write_study(tmp_path, [effect(p=1.5)])
    assert "question 1: effect 1: `p` must lie in [0, 1]; got 1.5" in refusal(tmp_path)


# Training


def write_history(results: Path, model: str, seed: int, losses: list[float]) -> None:
    path = results / "checkpoints" / "d" / safe(model) / f"seed{seed}.json"
    history = [{"epoch": i, "loss": v, "accuracy": 0.5} for i, v in enumerate(losses, 1)]
    write_json(path, {"dataset": "d", "model": model, "seed": seed, "history": history})


def test_training_curves_are_means_over_seeds(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a", "b"])
    for seed, losses in enumerate(([2.0, 1.0], [4.0, 2.0, 0.5])):
        write_history(tmp_path, "b", seed, losses)
    write_history(tmp_path, "never measured", 0, [1.0])
    tree = parsed(page.write(tmp_path))
    (found,) = embedded(tree)["training"]
    loss, accuracy = found["metrics"]
    assert found["cells"] == [[0, 1], [0, 2], [0, 3]] and found["x"] == "epoch"
    assert loss["models"] == {"1": [3.0, 2.0, 4.0, 1.5, 1.0, 2.0, 0.5, 0.5, 0.5]}
    assert accuracy["models"]["1"][:3] == [50.0, 50.0, 50.0]
    assert "on d" in text(tree.xpath("//section[@id='training']//summary")[0])


def test_without_weights_there_is_no_training_section(tree: HtmlElement) -> None:
    assert tree.xpath("//*[@id='training']") == [] and embedded(tree)["training"] == []


# Pictures


def picture(
    folder: Path,
    name: str,
    size: tuple[int, int] = (40, 30),
    of: Sequence[Path] = (),
    **words: str,
) -> Path:
    """A picture that says that it was drawn from the files `of`."""
    path = folder / "figures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngImagePlugin.PngInfo()
    for key, value in ({"Source": describe_source(path.name, folder, of)} | words).items():
        info.add_text(key, value)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, pnginfo=info)
    return path


def test_a_picture_says_what_it_shows(tmp_path: Path) -> None:
    picture(tmp_path, "attention-vit.png")
    picture(tmp_path, "b.png", Title="Attention", Description="Where the model looks.")
    found = pictures(tmp_path, (), 10**6)
    assert [(p.title, p.alt) for p in found.shown] == [
        ("attention, vit", "Picture: attention, vit."),
        ("Attention", "Where the model looks."),
    ]


def test_pictures_shrink_until_they_fit(tmp_path: Path) -> None:
    picture(tmp_path, "a.png", (2000, 500))
    (one,) = pictures(tmp_path, (), 10**9).shown
    assert (one.width, one.height) == (1600, 400)
    (one,) = pictures(tmp_path, (), 200_000).shown
    assert one.width < 1600 and len(one.source) <= 200_000
    assert one.height == round(one.width / 4)
    assert pictures(tmp_path, (), 1000) == Pictures([], ["figures/a.png"], [])


def test_figures_of_a_run_are_told_by_its_path(tmp_path: Path) -> None:
    for folder in ("d/attention/vit", "d/attention/vit/seed0", "cells/a/b", "quick/d/clean"):
        picture(tmp_path, f"../{folder}/seed0-overlay.png")
    found = pictures(tmp_path, (), 10**6)
    assert [p.name for p in found.shown] == [
        "d/attention/vit/seed0/seed0-overlay.png",
        "d/attention/vit/seed0-overlay.png",
    ]
    assert found.shown[0].title == "attention, vit on d: seed0, overlay"
    assert found.too_large == found.stale == []


def test_a_page_has_so_many_pictures_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path, name)
    monkeypatch.setattr("harness.report.pictures.MOST", 2)
    found = pictures(tmp_path, (), 10**6)
    assert [p.name for p in found.shown] == ["figures/a.png", "figures/b.png"]
    assert found.too_large == ["figures/c.png"]


def test_a_picture_of_other_results_is_left_out_and_named(
    told_folder: Folder, tmp_path: Path, vouch: Callable[..., None]
) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    path = tmp_path / LONG
    picture(tmp_path, "of-a.png", of=[path])
    shown = picture(tmp_path, "of-b.png")
    shutil.copy(shown, shown.with_name("renamed.png"))
    picture(tmp_path, "silent.png", Source="")
    picture(tmp_path, "strange.png", Source='{"figure": "strange.png", "files": {"../x": ""}}')
    found = pictures(tmp_path, (), 10**6)
    assert [p.name for p in found.shown] == ["figures/of-a.png", "figures/of-b.png"]
    assert found.stale == [f"figures/{name}.png" for name in ("renamed", "silent", "strange")]
    path.write_text(path.read_text().replace("0.9,1000", "0.8,1000"))
    vouch(path)
    tree = parsed(page.write(tmp_path))
    said = text(tree.xpath("//section[@id='pictures']/p")[0])
    assert said.startswith("4 pictures are left out: drawn from other results than those that are")
    assert "figures/of-a.png" in said and said.endswith("harness plot draws figures again.")


def test_a_flipped_bit_of_a_picture_shows_nowhere(tmp_path: Path) -> None:
    path = picture(tmp_path, "a.png", Title="Title", Description="Words.")
    whole, (before,) = path.read_bytes(), pictures(tmp_path, (), 10**6).shown
    for at in np.random.default_rng(0).integers(0, len(whole), 200):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert pictures(tmp_path, (), 10**6).shown in ([], [before])
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    assert pictures(tmp_path, (), 10**6) == Pictures([], [], ["figures/a.png"])


def test_what_is_left_out_is_said(
    told_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_folder(tmp_path, ["a"], seeds=(0,))
    for i in range(10):
        picture(tmp_path, f"../d/robustness/a/{i}.png")
    monkeypatch.setattr("harness.report.pictures.MOST", 1)
    said = text(parsed(page.write(tmp_path)).xpath("//section[@id='pictures']/p")[0])
    assert said.startswith("9 pictures are left out to keep this page small: d/robustness/a/1.png")
    assert said.endswith("d/robustness/a/8.png and 1 more.")


def test_what_is_no_picture_of_ours_is_not_shown(tmp_path: Path) -> None:
    kept = picture(tmp_path, "kept.png")
    picture(tmp_path, "curves.png")
    (tmp_path / "figures" / "text.png").write_text("<script>")
    (tmp_path / "figures" / "cut.png").write_bytes(kept.read_bytes()[:500])
    secret = picture(tmp_path / "elsewhere", "secret.png")
    (tmp_path / "figures" / "link.png").symlink_to(secret)
    (tmp_path / "figures" / "folder").symlink_to(secret.parent)
    found = pictures(tmp_path, {"curves.png"}, 10**6)
    assert [p.name for p in found.shown] == ["figures/kept.png"]
    assert found.stale == ["figures/cut.png", "figures/text.png"] and found.too_large == []


def test_a_picture_of_too_many_pixels_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path, "bomb.png")
    monkeypatch.setattr("harness.report.pictures.LARGEST", 1000)
    assert pictures(tmp_path, (), 10**6) == Pictures([], [], ["figures/bomb.png"])


# Libraries


def test_a_script_cannot_end_before_its_end() -> None:
    given = "a = '</script>'; b = /<script/; c = '<!--'; d = 1 < 2;\r\ne = '</SCRIPT'"
    made = libraries.inline(given)
    assert made == (
        "a = '\\x3C/script>'; b = /\\x3Cscript/; c = '\\x3C!--'; d = 1 < 2;\ne = '\\x3C/SCRIPT'"
    )


def test_a_bundle_that_is_not_what_it_was_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "itables" / "html" / "dt_bundle.js"
    bundle.parent.mkdir(parents=True)
    (tmp_path / "itables" / "__init__.py").write_text("")
    bundle.write_text("var a=1;export{a as default,a as b};")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert libraries.tables() == "var a=1;\nwindow.DataTable=a;"
    bundle.write_text("var a=1;")
    with pytest.raises(Refusal, match="exports no DataTable"):
        libraries.tables()


@pytest.mark.parametrize("name", libraries.NEEDED)
def test_a_library_that_is_not_there_is_named_with_its_cure(
    told_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told_folder(tmp_path, ["a"])
    known = libraries.find_spec
    monkeypatch.setattr(libraries, "find_spec", lambda one: None if one == name else known(one))
    cure = rf"needs `{libraries.NEEDED[name]}`. Run `pip install itables jinja2 vl-convert-python`."
    with pytest.raises(Refusal, match=cure):
        page.write(tmp_path)
    assert not (tmp_path / page.PATH).exists()


# Size and color


def test_two_hundred_models_fit_into_five_megabytes() -> None:
    random = np.random.default_rng(0)
    models = np.array([f"timm/some_network_{i}.of_a_long_name" for i in range(200)])
    kinds = [f"kind_{k}" for k in range(19)]
    cells = [(kind, level) for kind in kinds for level in range(1, 6)]
    parts = []
    for metric in ("accuracy", "nll", "brier", "ece"):
        for seed in range(5):
            which = np.repeat(models, len(cells))
            part = pd.DataFrame(cells * 200, columns=["condition", "level"])
            part = part.assign(
                model=which, metric=metric, variant="", seed=seed, value=random.random(19000)
            )
            parts.append(part)
    table = pd.concat(parts).assign(suite="robustness", dataset="d", n=10_000, run="r")
    rows = [
        (
            "d",
            "robustness",
            metric,
            "",
            group,
            model,
            *random.random(3),
            5,
            10_000,
            1,
            200,
            0.1,
            "x",
            "r0 r1 r2 r3 r4",
        )
        for metric in ("accuracy", "nll", "brier", "ece")
        for group in kinds
        for model in models
    ]
    own = {"weights": "0" * 64, "finished": "2026-01-01T00:00:00", "wall_s": 1.0, "cells": 95}
    runs = [
        {"dataset": "d", "suite": "robustness", "model": model, "seed": seed, "path": f"d/{model}"}
        | {"shared": 0, "own": own | {"weights": random.bytes(32).hex(), "run": f"r{seed}"}}
        for model in models
        for seed in range(5)
    ]
    content = Content(
        table=table[list(COLUMNS)],
        leaderboard=pd.DataFrame(rows, columns=list(leaderboard.COLUMNS)),
        made={"runs": runs, "shared": [{"images": 10_000, "environment": {}}]},
    )
    assert len(markup.html(content, facts(content))) < page.LARGEST


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_a_known_pair() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_text_and_marks_stand_out_on_their_ground() -> None:
    style = (TEMPLATES / "style.css").read_text()
    grounds = [dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", part)) for part in style.split("{")]
    themes = [colors for colors in grounds if "ground" in colors]
    assert len(themes) == 3 and themes[1] == themes[2]
    for colors in themes:
        for ground in (colors["ground"], colors["raised"]):
            for name in ("ink", "muted", "accent", "yes", "no", "unsure"):
                assert contrast(colors[name], ground) >= 4.5, (name, ground)
            for i in range(8):
                assert contrast(colors[f"c{i}"], ground) >= 3, (i, ground)


# The command


def test_the_command_says_where_the_page_is(told_folder: Folder, tmp_path: Path) -> None:
    told_folder(tmp_path, ["a"])
    result = CliRunner().invoke(app, ["report", "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "report" / "index.html")


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", "--results", str(tmp_path)])
    assert result.exit_code == 2 and "There are no results in" in result.stderr


def test_a_report_imports_no_library_of_networks_or_figures(
    told_folder: Folder, tmp_path: Path
) -> None:
    told_folder(tmp_path, ["a"])
    heavy = "{'torch', 'timm', 'torchvision', 'matplotlib'}"
    code = "import sys; from pathlib import Path; from harness.report import page; "
    code += f"page.write(Path({str(tmp_path)!r})); sys.exit(str({heavy} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert ran.stderr.strip() == "set()"


def test_the_command_line_starts_without_the_pages_libraries() -> None:
    heavy = "{'jinja2', 'vl_convert', 'itables', 'pandas', 'torch'}"
    code = f"import sys, harness.cli; sys.exit(str({heavy} & set(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert told.stderr.strip() == "set()"
