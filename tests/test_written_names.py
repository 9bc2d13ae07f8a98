"""What can be written can be read: names and numbers are refused before work, or come back."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from harness import evaluate
from harness.cli.app import app
from harness.progress import Progress
from harness.refusal import Failure, Refusal
from harness.running.execute import execute
from harness.running.options import Options
from harness.running.plan import plan
from harness.storage import results
from harness.storage.spelling import DIGITS, problem_of_name, problem_of_whole
from harness.suites.base import Measurement
from harness.suites.dataset_names import dataset_name
from harness.suites.metrics import METRICS

QUIET = Progress(Console(quiet=True))
NAMED = ("model", "suite", "dataset", "condition", "metric", "variant")
NET = """
from torch import nn
def net(num_classes):
    head = nn.Linear(12, num_classes)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)
Net = net
"""
SUITE = """
from harness.suites.base import Cell, Suite
from harness.suites.metric import Metric
from harness.suites.metrics import ACCURACY
from harness.suites.observe import logits
MINE = Metric({metric})
def measure(cell, arrays):
    yield cell.row(ACCURACY, {value}, len(arrays["labels"]), {variant!r})
    yield cell.row(MINE, {value}, len(arrays["labels"]))
def odd():
    return Suite(1, lambda setting: ({cells}), observe=logits, measure=measure, metrics=(MINE,))
"""
TEXT = st.text(max_size=210) | st.text(st.sampled_from("aZ9_-=@+ .\t\n\u00e9\u6c49\u0301/$<\"'\\,"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    folder(Path("pets"))
    return tmp_path


@pytest.fixture(autouse=True)
def forget_metrics() -> Any:
    known = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(known)


def folder(path: Path, value: int = 0) -> None:
    for k in (0, 1):
        (path / f"class {k}").mkdir(parents=True, exist_ok=True)
        for i in range(5):
            pixels = np.full((32, 32), value + 100 * k + i, np.uint8)
            Image.fromarray(pixels).save(path / f"class {k}" / f"{i}.png")


def options(**given: Any) -> Options:
    return Options(results=Path("results"), data=Path("data"), epochs=1, **given)


def suite(
    cells: str = 'Cell("clean"),',
    metric: str = '"mine", "mine"',
    value: str = "0.5",
    variant: str = "",
    file: str = "odd.py",
) -> str:
    Path(file).write_text(SUITE.format(cells=cells, metric=metric, value=value, variant=variant))
    return f"{file}:odd"


def run(*suites: str, seed: int = 0, spec: str = "imagefolder:pets", **given: Any) -> list[Path]:
    own = options(**given)
    jobs = plan(["net.py:net"], [spec], [seed], suites, own)
    return [file.path for file in execute(jobs, own, QUIET)]


def write(root: Path, seed: int = 0, **names: str) -> Path:
    key = {k: names.get(k, k) for k in ("model", "suite", "dataset")} | {"seed": seed, "run": "r"}
    path = results.csv_path(root, key["dataset"], key["suite"], key["model"], seed)
    row = Measurement(
        names.get("condition", "clean"), 0, names.get("metric", "m"), names.get("variant", ""), 1, 2
    )
    told = {"version": 1, "limit": 0, "data": "images", "image_seed": 0, "cells": {}}
    results.write(path, key, [row], told)
    return path


@given(column=st.sampled_from(NAMED), name=TEXT)
@settings(max_examples=300, deadline=None)
def test_a_name_is_refused_or_comes_back(
    tmp_path_factory: pytest.TempPathFactory, column: str, name: str
) -> None:
    root = tmp_path_factory.mktemp("store")
    if problem_of_name(name) and (column, name) != ("variant", ""):
        with pytest.raises((Failure, UnicodeEncodeError)):
            write(root, **{column: name})
        assert results.read(root).empty and not list(root.rglob("seed*"))
        return
    write(root, **{column: name})
    (row,) = results.read(root).to_dict("records")
    assert row[column] == name


@given(seed=st.integers(-(10**24), 10**24) | st.integers(-2, 20) | st.integers(10**14, 10**16))
@settings(max_examples=100, deadline=None)
def test_a_seed_is_refused_or_comes_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    root = tmp_path_factory.mktemp("store")
    if problem_of_whole(seed, 0):
        with pytest.raises(Failure, match="`seed` must be a whole number >= 0"):
            write(root, seed)
        with pytest.raises(Refusal, match="`--seed` must be at (least 0|most 999999999999999); "):
            plan(["resnet18"], ["digits"], [seed], ["clean"], options())
        assert not list(root.rglob("seed*"))
        return
    write(root, seed)
    assert results.read(root)["seed"].tolist() == [seed]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"image_seed": -1}, "`--image-seed` must be at least 0; got -1"),
        ({"image_seed": 10**DIGITS}, "`--image-seed` must be at most 999999999999999; got 1000"),
        ({"batch_size": int("1" * 23)}, "`--batch-size` must be at most"),
        ({"limit": int("1" * 23)}, "`--limit` must be at most"),
        ({"width": 10**5000}, "`--width` must be at most .* more than 30 digits"),
        ({"width": 1.5}, "`--width` must be a whole number; got 1.5"),
    ],
)
def test_a_number_that_cannot_be_used_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        run("clean", **given)


@pytest.mark.parametrize(
    "brought, message",
    [
        ({"cells": ""}, "`odd` lists no conditions here"),
        ({"cells": "Cell('a\\nb'),"}, "A condition of `odd` has characters that cannot be shown"),
        ({"cells": "Cell('=a'),"}, "A condition of `odd` starts like a spreadsheet formula"),
        ({"cells": "Cell('a' * 201),"}, "A condition of `odd` has 201 characters, more than 200"),
        ({"cells": "Cell('a', float('inf')),"}, "The level of `a` in `odd` is inf"),
        ({"cells": "Cell('a', 1), Cell('a', 1.0000001)"}, "has the condition `a` at level 1 twice"),
        ({"metric": "'', 'mine'"}, "A metric of `odd` has no name"),
        ({"metric": "'mine', ''"}, "A metric of `odd` has no title"),
        ({"metric": "'@mine', 'mine'"}, "A metric of `odd` has a name that starts like a"),
        ({"metric": "'mine', 'a\\tb'"}, "A metric of `odd` has a title that has characters"),
        ({"metric": "'mine', 'mine', unit='a\\nb'"}, "has a unit with characters that cannot be"),
        ({"metric": "'mine', 'mine', better='sideways'"}, "is better 'sideways', not up, down"),
        ({"metric": "'mine', 'mine', low=float('nan')"}, "A metric of `odd` has the low nan"),
    ],
)
def test_what_a_suite_brings_is_checked_before_training(
    brought: dict[str, str], message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        run(suite(**brought))
    assert not Path("results").exists()


@pytest.mark.parametrize(
    "brought, message",
    [
        ({"variant": "a\nb"}, "`variant` has characters that cannot be shown: 'a.nb'. Nothing was"),
        ({"value": "1.5"}, r"`accuracy` must lie in \[0, 1\]; got 1.5"),
    ],
)
def test_what_a_suite_measures_never_takes_the_others_along(
    brought: dict[str, str], message: str
) -> None:
    run("clean")
    with pytest.raises(Failure, match=message):
        run(suite(**brought))
    assert set(results.read(Path("results"))["suite"]) == {"clean"}


def test_a_metric_is_described_alike_in_all_runs_of_a_folder() -> None:
    run(suite(metric="'mine', 'mine', better='up'"))
    METRICS.pop("mine")
    other = suite(metric="'mine', 'mine', better='down'", file="other.py")
    Path("other.py").write_text(Path("other.py").read_text().replace("def odd", "def even"))
    with pytest.raises(Refusal, match="`mine` has better 'down', and 'up' in .*seed0.json. Rename"):
        run(other.replace("odd", "even"), seed=1)
    assert len(results.read(Path("results"))) == 2


def test_images_are_the_same_under_all_image_seeds() -> None:
    run("clean")
    folder(Path("pets"), 50)
    with pytest.raises(Refusal, match="is of other test images than `pets` has now.*NAME=PATH"):
        run("clean", image_seed=1)
    assert len(set(results.read(Path("results"))["dataset"])) == 1


@pytest.mark.parametrize("name", ["NET", "Net"])
def test_names_that_differ_in_capitals_alone_are_refused(name: str) -> None:
    run("clean")
    with pytest.raises(Refusal, match=f"{name} differs from `net` beside it in capital letters"):
        run("clean", name=name)
    with pytest.raises(Refusal, match="PETS differs from `pets` beside it in capital letters"):
        run("clean", spec="PETS=pets")
    with pytest.raises(Refusal, match="Net differs from `net` beside it in capital letters"):
        plan(["net.py:net", "net.py:Net"], ["other=pets"], [0], ["clean"], options())


def test_letters_and_their_accents_make_one_name() -> None:
    apart, whole = (unicodedata.normalize(form, "\u1eb9\u0301t\u00e9") for form in ("NFD", "NFC"))
    assert apart != whole and dataset_name(f"{apart}=pets") == dataset_name(f"{whole}=pets")
    run("clean", spec=f"{apart}=pets", name=apart)
    (path,) = run("clean", spec=f"{whole}=pets", name=whole)
    table = results.read(Path("results"))
    assert set(table["model"]) == set(table["dataset"]) == {whole} and path.is_file()
    shown = CliRunner().invoke(app, ["table", "--model", apart, "--dataset", apart])
    assert shown.exit_code == 0 and whole in shown.stdout


def test_a_users_function_of_any_alphabet_is_found() -> None:
    Path("net.py").write_text(NET.replace("def net", "def \u00e9t\u00e9").replace("Net = net", ""))
    name = unicodedata.normalize("NFD", "\u00e9t\u00e9")
    (job,) = plan([f"net.py:{name}"], ["imagefolder:pets"], [0], ["clean"], options())
    assert job.source.name == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("seed", ["-1", "1" * 23])
def test_the_seed_of_a_picture_is_checked(seed: str) -> None:
    shown = CliRunner().invoke(app, ["show", "corruptions", "--image-seed", seed])
    assert shown.exit_code == 2 and "`--image-seed` must be at" in shown.stderr


def test_a_suite_of_any_alphabet_has_figures() -> None:
    name = "\u6c49\u5b57" * 50
    suite()
    Path("odd.py").write_text(Path("odd.py").read_text().replace("odd", name))
    words = ["run", "--suite", f"odd.py:{name}", "--model", "net.py:net", "--epochs", "1"]
    shown = CliRunner().invoke(app, [*words, "--dataset", "imagefolder:pets"])
    assert shown.exit_code == 0 and len(list(Path("results/figures").glob("pets-name-*.png"))) == 1
    assert set(results.read(Path("results"))["suite"]) == {name}


@pytest.mark.parametrize("seeds", [0, -1, 10**9])
def test_a_number_of_seeds_is_checked(seeds: int, answered: Callable[..., Path]) -> None:
    with pytest.raises(Refusal, match="`seeds` must be at (least 1|most 1000); got"):
        evaluate("resnet18", seeds=seeds, results="results")
    answered(Path("results"), "net")
    words = ["check", "--plan", "--baseline", "results", "--seeds", str(seeds or 1001)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and "`--seeds` must be at" in refused.stderr
    for flag in ("--seeds", "--workers"):
        value = str(seeds or -1)
        refused = CliRunner().invoke(app, ["study", "--dry-run", flag, value])
        assert refused.exit_code == 2 and f"`{flag}` must be at" in refused.stderr
