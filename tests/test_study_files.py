"""Studies as files: what may stand in one, and one of a newcomer from the file to the answer."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.cli import main
from harness.refusal import Refusal
from harness.running.finished import is_finished
from harness.running.options import Options
from harness.running.plan import plan
from harness.study import runs
from harness.study.design import Preset, Quantity
from harness.study.design_files import read_design
from harness.study.run import names_of
from harness.study.schema import read_study
from harness.suites import attack_cells
from harness.suites.attacks.ensembles import Entry

GOOD = """\
title = "Does my layer help on my pictures?"
dataset = "imagefolder:pictures"
seeds = 2
width = 8
epochs = 1

[[question]]
number = "1"
text = "Does my layer improve classification?"
kind = "gain"
model = "my_net.py:idea"
baseline = "my_net.py:plain"
nulls = ["my_net.py:null"]
rivals = ["resnet18"]
decides = { suite = "clean", metric = "accuracy" }
margin = 0.02

[[question]]
number = "2"
text = "Is it as good?"
kind = "match"
model = "my_net.py:idea"
baseline = "my_net.py:plain"
decides = { suite = "clean", metric = "accuracy", group = "clean" }
"""


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "my.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_study_is_read(tmp_path: Path) -> None:
    design = read_design(written(tmp_path, GOOD))
    first, second = design.questions
    assert (design.name, design.title) == ("my", "Does my layer help on my pictures?")
    assert design.preset == Preset(f"imagefolder:{tmp_path}/pictures", 2, 8, 1)
    assert first.model == f"{tmp_path}/my_net.py:idea" and first.margin == 0.02
    assert first.rivals == ("resnet18",) and first.against == (
        f"{tmp_path}/my_net.py:plain",
        f"{tmp_path}/my_net.py:null",
    )
    assert second.decides == first.decides == Quantity("clean", "accuracy", "clean")
    assert second.margin == 0.01


def test_the_example_of_the_readme_is_a_study(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (example,) = (b for b in re.findall(r"```toml\n(.*?)```", readme, re.S) if "[[question]]" in b)
    (tmp_path / "my_net.py").write_text(NET)
    (question,) = read_design(written(tmp_path, example)).questions
    names = names_of([question])
    assert list(names.values()) == ["idea", "plain", "null"] and question.kind == "gain"


def test_the_digest_is_of_what_is_asked(tmp_path: Path) -> None:
    digests = read_design(written(tmp_path, GOOD)).digests
    same = GOOD.replace("seeds = 2", "seeds = 5  # more").replace("[[question]]", "\n[[question]]")
    assert read_design(written(tmp_path, same)).digests == digests
    other = tmp_path / "elsewhere"
    other.mkdir()
    assert read_design(written(other, GOOD)).digests == digests
    changed = GOOD.replace("margin = 0.02", "margin = 0.03")
    after = read_design(written(tmp_path, changed)).digests
    assert after["1"] != digests["1"] and after["2"] == digests["2"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('kind = "gain"', 'kind = "gian"', "line 10: .*`gian`.*Did you mean `gain`"),
        ("seeds = 2", "sedes = 2", "line 3: .*`sedes`.*Did you mean `seeds`"),
        ("seeds = 2", "seeds = 0", "line 3: `seeds` must be a whole number >= 1; got 0"),
        ("seeds = 2", "seeds = true", "line 3: `seeds` must be a whole number"),
        ("margin = 0.02", "margin = 2", r"line 16: `margin` must be a number in \(0, 1\); got 2"),
        ('number = "2"', 'number = "1"', "line 19: there are two questions `1`"),
        ('number = "2"', 'number = "=1"', "line 19: `number` starts like a spreadsheet formula"),
        ('baseline = "my_net.py:plain"\nnulls', "nulls", "line 10: .*needs `baseline`"),
        ('kind = "match"\n', "", "line 18: the question lacks `kind`"),
        ('nulls = ["my_net.py:null"]', "nulls = 3", "line 13: `nulls` must be a list of texts"),
        ('metric = "accuracy" }', 'metrik = "accuracy" }', "line 15: `decides` names a quantity"),
        ('title = "Does my layer', 'title = "\\u001b', "line 1: `title` must be a line of text"),
        ("[[question]]\n", "[question]\n", "`question`|is no TOML"),
        ("seeds = 2", "seeds = = 2", r"is no TOML: .*line 3"),
        ("seeds = 2", "[preset.a]\nseed = 2", "line 4: .*`seed`.*Did you mean `seeds`"),
        ("seeds = 2", 'attack = ["linv 8"]', "line 3: There is no attack `linv 8`"),
        ("seeds = 2", 'attack = "linf"', "line 3: `attack` must be a list of texts"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(Refusal, match=f"my.toml.*{message}"):
        read_design(written(tmp_path, GOOD.replace(old, new, 1)))


def test_files_that_are_no_study(tmp_path: Path) -> None:
    for content, message in (
        (b"\xff\xfe", "no text in UTF-8"),
        (b"title = 'a'", "there is no question"),
        (b"a." * 50_000 + b"b = 1", "has 100,005 bytes"),
        (b"\n" + b"a." * 30_000 + b"b = 1", "line 2: a key has 16 parts or more"),
        (b"a" + b". 'b'" * 10_000 + b" = 1", "line 1: a key has 16 parts or more"),
        (b"a = " + b"[" * 20_000 + b"]" * 20_000, "nested too deep|is no TOML"),
    ):
        with pytest.raises(Refusal, match=message):
            read_design(written(tmp_path, content))
    with pytest.raises(Refusal, match="missing.toml cannot be read"):
        read_design(tmp_path / "missing.toml")


NET = """
from torch import nn

def plain(num_classes=10):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, num_classes))

def idea(num_classes=10):
    return nn.Sequential(nn.BatchNorm2d(3), plain(num_classes))

def null(num_classes=10):
    return nn.Sequential(plain(num_classes), nn.Identity())
"""


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.out, " ".join(told.err.split())


def pictures(folder: Path) -> None:
    """Two classes that a glance tells apart: bright and dark."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 70), ("test", 40)):
        for name, level in (("dark", 60), ("bright", 190)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                values = np.clip(generator.normal(level, 30, (32, 32, 3)), 0, 255)
                Image.fromarray(values.astype(np.uint8)).save(place / f"{i}.png")


def test_a_newcomers_study_from_the_file_to_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "pictures")
    (tmp_path / "my_net.py").write_text(NET)
    path, root = written(tmp_path, GOOD), tmp_path / "results"
    asked = ("study", str(path), "--workers", "1", "--results", str(root))
    code, out, err = command(capsys, *asked)
    assert code == 0, err
    assert "1  Does my layer improve classification?" in out and "8 of 8: resnet18" in err
    study = read_study(root / "pictures" / "study-my.json")
    assert [a.number for a in study.questions] == ["1", "2"] and study.looks == (2,)
    assert study.scale.startswith("pictures, 2 seeds") and study.notes == ()
    assert {e.against for e in study.questions[0].effects} == {"plain", "null", "resnet18"}
    assert study.stale(root) == [] and len(study.runs) == 8
    # The same again does no work; more seeds after a look, and another question, are said.
    code, _, err = command(capsys, *asked)
    assert code == 0 and "training" not in err
    written(tmp_path, GOOD.replace("margin = 0.02", "margin = 0.03"))
    code, out, _ = command(capsys, *asked, "--seeds", "3", "--question", "1")
    assert code == 0 and "changed after its first run" in out
    assert "with 2 and then 3 seeds" in out
    path = root / "pictures" / "study-my.json"
    study = read_study(path)
    assert study.looks == (2, 3) and [a.number for a in study.questions] == ["1", "2"]
    # The runs alone are enough, as in a clone: no weights, cells or pictures.
    for gone in (root / "checkpoints", root / "cells"):
        shutil.rmtree(gone)
    code, _, err = command(capsys, *asked, "--seeds", "3", "--question", "1")
    assert code == 0 and "training" not in err, err
    assert err.count("Its runs are there; its weights are not, and are not needed.") == 12
    code, out, err = command(
        capsys, *asked, "--seeds", "3", "--question", "1", "--dry-run", "--json"
    )
    assert code == 0 and json.loads(out) == [], out
    options = Options(root, tmp_path, width=8, epochs=1)
    spec = f"imagefolder:{tmp_path}/pictures"
    (job,) = plan(["resnet18"], [spec], [2], ["clean"], options)
    assert not job.trained and is_finished(job, options)
    for other in ({"epochs": 2}, {"recipe": "untrained", "epochs": None}, {"limit": 10}):
        assert not is_finished(job, replace(options, **other)), other
    for changed in (replace(job, width=4), replace(job, seed=3)):
        assert not is_finished(changed, options)
    assert not is_finished(replace(job, source=replace(job.source, code={"a": "b"})), options)
    run = root / "pictures" / "clean" / "resnet18" / "seed2.csv"
    whole = run.read_bytes()
    run.write_bytes(whole[:-9])
    assert not is_finished(job, options), "damaged"
    run.write_bytes(whole)
    shutil.rmtree(tmp_path / "pictures")
    code, _, err = command(capsys, *asked, "--no-run", "--seeds", "3", "--question", "1")
    assert code == 0 and "training" not in err, err
    again = read_study(path)
    assert (again.scale, again.runs, again.notes) == (study.scale, study.runs, study.notes)
    for was, now in zip(study.questions, again.questions, strict=True):
        assert (now.verdict, now.effects) == (was.verdict, was.effects)
    # Answers say whose runs are of another source code.
    monkeypatch.setattr(runs, "code_of", lambda suite: {"harness.suites.clean": "other"})
    code, out, err = command(capsys, *asked, "--no-run", "--seeds", "3", "--question", "1")
    told = " ".join(out.split())
    assert code == 0, err
    assert "12 of 12 runs were made by other source code than there is now (idea, seed" in told


def test_one_command_runs_answers_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], calibrated_on_few: None
) -> None:
    small = ("--question", "2a", "--seeds", "1", "--width", "8", "--epochs", "1", "--limit", "20")
    asked = ("study", *small, "--workers", "1", "--results", str(tmp_path))
    code, _, err = command(capsys, *asked, "--no-run")
    assert code == 2 and "without `--no-run`" in err
    code, out, err = command(capsys, *asked)
    assert code == 0, err
    assert "2a  Does training with" in out and "untrained" in err
    path = tmp_path / "quick" / "digits" / "study.json"
    told = json.loads(path.read_text())
    assert told["scale"] == "digits, 1 seed, width 8, 1 epoch, 20 of 355 test images"
    assert [q["number"] for q in told["questions"]] == ["2a"]
    runs = {file for question in told["questions"] for file in question["runs"]}
    assert any(file.startswith("untrained/quick/digits/attention/") for file in runs)
    assert all((tmp_path / file).is_file() for file in runs)
    before = path.read_bytes()
    code, _, err = command(capsys, *asked)
    assert code == 0 and "training" not in err and path.read_bytes() == before
    code, out, err = command(capsys, "study", "plan", *small, "--results", str(tmp_path))
    assert code == 0, err
    # Attention is not in the bits of a run: without its cells there is no interval, and no claim.
    shutil.rmtree(tmp_path / "cells")
    code, out, err = command(capsys, *asked, "--no-run")
    assert code == 0, err
    assert "cannot tell" in out and "Without an interval nothing is claimed" in " ".join(
        out.split()
    )


def test_several_processes_give_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = GOOD.replace('rivals = ["resnet18"]\n', "")
    pictures(tmp_path / "pictures")
    (tmp_path / "my_net.py").write_text(NET)
    path, files = written(tmp_path, content), []
    for workers in ("1", "2"):
        root = tmp_path / workers
        code, _, err = command(
            capsys, "study", str(path), "--workers", workers, "--results", str(root)
        )
        assert code == 0, err
        files.append(
            {
                found.relative_to(root): pd.read_csv(found).drop(columns="run")
                for found in sorted(root.rglob("seed*.csv"))
            }
        )
    assert files[0].keys() == files[1].keys() and len(files[0]) == 6
    for place, frame in files[0].items():
        pd.testing.assert_frame_equal(frame, files[1][place])


def test_chosen_attacks_are_made_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (Entry("apgd_ce", {"iterations": 2}),)
    monkeypatch.setattr(attack_cells, "standard", lambda classes: few)
    pictures(tmp_path / "pictures")
    (tmp_path / "my_net.py").write_text(NET)
    content = GOOD.replace('rivals = ["resnet18"]\n', "")
    content = content.replace("seeds = 2", 'seeds = 2\nattack = ["linf 1"]')
    quantity = '"adversarial", metric = "robust_accuracy", group = "linf 1" }'
    content = content.replace('"clean", metric = "accuracy" }', quantity)
    content = content[: content.index('[[question]]\nnumber = "2"')]
    asked = ("study", str(written(tmp_path, content)), "--results", str(tmp_path / "r"))
    for _ in range(2):
        code, out, err = command(capsys, *asked, "--workers", "1")
        assert code == 0, err
    assert "training" not in err
    (path,) = (tmp_path / "r").rglob("study-my.json")
    (answer,) = read_study(path).questions
    assert {effect.group for effect in answer.effects} == {"linf 1"} and len(answer.runs) == 6
    assert "not checked" not in answer.answer
    for run in answer.runs:
        table = pd.read_csv(tmp_path / "r" / run)
        assert set(table["dataset"].str.endswith("[linf 1]")) == {True}
        assert not table["condition"].str.startswith("l2").any()
        assert set(table.loc[table["metric"] == "robust_accuracy", "level"]) == {1.0}
    code, out, err = command(capsys, *asked, "--workers", "1", "--attack", "linf 2", "--dry-run")
    assert code == 0 and "[linf 2]" in out, err
    code, _, err = command(capsys, *asked, "--no-run", "--attack", "linf 2")
    assert code == 2 and "adversarial" in err


def test_a_plan_and_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "pictures")
    (tmp_path / "my_net.py").write_text(NET)
    content = GOOD.replace('rivals = ["resnet18"]\n', "")
    asked = (str(written(tmp_path, content)), "--workers", "1", "--results", str(tmp_path / "r"))
    code, out, err = command(capsys, "study", "plan", *asked)
    assert code == 0 and "run two seeds first" in out, err
    code, out, err = command(capsys, "study", "check", *asked)
    assert code == 0, err
    assert "untrained networks:" in out and "a clone of the baseline:" in out
    assert "shuffled labels:" in out and "not asked" not in out
    code, out, err = command(capsys, "study", "plan", *asked, "--json")
    assert code == 0 and json.loads(out), err


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (("--preset", "quik"), "Did you mean `quick`"),
        (("--question", "99"), "no question called `99`"),
        (("--seeds", "-1"), "`--seeds` must be at least 1"),
        (("--dataset", "cifr10"), "cifar10"),
        (("plan", "a.toml", "b.toml"), "A study is one file; got a.toml, b.toml"),
        (("pln",), "no study called `pln`. Did you mean `plan`?"),
        (("pln.toml",), "pln.toml cannot be read"),
    ):
        code, _, err = command(capsys, "study", *arguments, "--results", str(tmp_path))
        assert code == 2 and sentence in err, err
