"""What a stranger adds: from a file of their own, from an installed package, and inside."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from harness.cli import app
from harness.models import user_code
from harness.models.lookup import source
from harness.models.registry import Registry
from harness.models.source_code import code_of, digest
from harness.models.user_code import adopt, check_names, load_code
from harness.suites.base import Setting, Suite
from harness.suites.catalog import CORRUPTIONS, DATASETS, SUITES
from harness.suites.clean import clean
from harness.suites.corruptions import corrupt, corruption_of
from harness.suites.datasets import Split, load
from harness.suites.lookup import metric_of, suite_of, with_metrics
from harness.suites.metrics import METRICS, TOP5
from harness.suites.robustness import cells, select_corruptions

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("--model", "resnet18", "--width", "8", "--epochs", "1", "--limit", "20")


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Forget the modules, names and metrics of a test, which works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_code, "_FILES", {})
    for name in ("mine", "helper", "models", "suites"):  # of the files of other tests
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules, metrics = set(sys.modules), dict(METRICS)
    yield
    for registry in (SUITES, DATASETS, CORRUPTIONS):
        for name in list(registry._users):
            registry._users.remove(name)
            registry._entries.pop(name, None), registry._hashes.pop(name, None)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    METRICS.clear()
    METRICS.update(metrics)


def write(path: str | Path, text: str = "") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def command(*arguments: str, path: str | Path = "", cwd: str | Path = ".") -> str:
    """What a command of the package, or of the copy of it at `path`, prints."""
    env = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=env, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def measured(results: str | Path = "results") -> pd.DataFrame:
    files = Path(results).glob("quick/*/*/*/seed*.csv")
    return pd.concat([pd.read_csv(f, keep_default_na=False) for f in files], ignore_index=True)


def examples(folder: str) -> list[str]:
    """The blocks of Python in a folder's README."""
    parts = (ROOT / folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    return [part.partition("```")[0] for part in parts]


class TestFiles:
    """A user's file, whatever it holds."""

    def test_it_imports_its_neighbors_and_packages_of_any_name(self, tmp_path: Path) -> None:
        write("project/models/__init__.py")
        write("project/models/layers.py", "WIDTH = 7")
        write("project/scripts/helper.py", "DEPTH = 3")
        write("suites.py", "NUMBER = 5")  # in the current folder
        file = write(
            "project/models/net.py",
            "from .layers import WIDTH\nfrom models.layers import WIDTH as AGAIN\nimport suites\n"
            "def net(): return WIDTH + AGAIN + suites.NUMBER\n",
        )
        assert load_code(f"{file}:net", "model").value() == 19
        script = write(
            "project/scripts/train.py", "from helper import DEPTH\nnet = lambda: DEPTH\n"
        )
        assert load_code(f"{script}:net", "model").value() == 3
        import harness.models.resnet

        assert harness.models.resnet.resnet18.__name__ == "resnet18", "ours is still found"

    def test_its_classes_can_be_pickled_and_are_of_one_module(self) -> None:
        file = write(
            "shapes.py",
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@dataclass\nclass Shape:\n    side: int\n"
            "def shape(): return Shape(2)\ndef other(): return Shape(3)\n",
        )
        shape = load_code(f"{file}:shape", "model").value()
        assert dataclasses.asdict(pickle.loads(pickle.dumps(shape))) == {"side": 2}
        assert type(load_code(f"{file}:other", "model").value()) is type(shape), "it is read once"

    def test_its_hash_is_that_of_the_file(self) -> None:
        file = write("mine.py", "def net(): pass\n")
        expected = hashlib.sha256(file.read_bytes()).hexdigest()
        assert load_code(f"{file}:net", "model").sha256 == expected

    @pytest.mark.parametrize("stem", ["statistics", "json", "torch", "a b", "not-a-name"])
    def test_a_name_that_is_taken_or_is_none_takes_nothing_away(self, stem: str) -> None:
        file = write(f"folder/{stem}.py", "def net(): return __name__\n")
        assert load_code(f"{file}:net", "model").value() != stem
        import json
        import statistics

        assert json.dumps([1]) == "[1]" and statistics.mean([1, 3]) == 2

    @pytest.mark.parametrize(
        "text, message",
        [
            ("def net(:\n", r"mine.py, line 1: invalid syntax. Correct it and run it again"),
            ("\nimport nowhere\n", r"mine.py, line 2: ModuleNotFoundError: No module named 'now"),
            ("x = 1\ny = z\n", r"mine.py, line 2: NameError: name 'z' is not defined. Correct"),
            ("raise SystemExit(3)\n", r"mine.py, line 1: SystemExit: 3. Correct it"),
            ("import helper\n", r"helper.py, line 1: "),
        ],
    )
    def test_its_errors_are_told_with_file_and_line(self, text: str, message: str) -> None:
        write("helper.py", "def broken(:\n")
        with pytest.raises(ValueError, match=message):
            load_code(f"{write('mine.py', text)}:net", "model")
        assert "mine" not in sys.modules

    def test_what_is_not_there_brings_the_cure(self) -> None:
        file = write("mine.py", "from pathlib import Path\ndef net(): pass\nNUMBER = 3\n")
        with pytest.raises(LookupError, match=r"no suite in .*mine.py called `nett`. Did you mean"):
            load_code(f"{file}:nett", "suite")
        with pytest.raises(FileNotFoundError, match="There is no file gone.py for the suite"):
            load_code("gone.py:net", "suite")
        with pytest.raises(ValueError, match="is no function: it is a int. Name the function"):
            adopt(f"{file}:NUMBER", Registry("suite"))

    def test_neighbors_of_one_name_are_refused_rather_than_mixed_up(self) -> None:
        for folder in ("old", "new"):
            write(f"{folder}/layers.py", f"NAME = '{folder}'")
            write(f"{folder}/blocks.py", "import layers\nNAME = layers.NAME")
            write(f"{folder}/{folder}net.py", "from blocks import NAME\ndef net(): return NAME\n")
        assert load_code("old/oldnet.py:net", "model").value() == "old"
        with pytest.raises(ValueError, match=r"imports `blocks`, and means .*new/blocks.py; but"):
            load_code("new/newnet.py:net", "model")

    def test_a_file_that_changed_meanwhile_is_refused(self) -> None:
        file = write("mine.py", "def net(): pass\n")
        load_code(f"{file}:net", "model")
        write("mine.py", "def net(): return 1\n")
        with pytest.raises(ValueError, match="has changed since it was read. Start Python again"):
            load_code(f"{file}:net", "model")

    def test_two_files_with_one_name_are_refused(self) -> None:
        check_names(["a.py:net", "a.py:net", "resnet18", object()], ["a.py:net"])
        with pytest.raises(ValueError, match="`a.py:net` and `b.py:net` have one name in tables"):
            check_names(["resnet18"], ["a.py:net", "b.py:net"])

    def test_names_of_ours_are_refused(self) -> None:
        text = "def clean(): pass\ndef fog(images, indices, seed, severity): return images\n"
        file = write("mine.py", text + "def cifar10(train, root): pass\ndef noise(): pass\n")
        for call, name in ((suite_of, "clean"), (corruption_of, "fog")):
            with pytest.raises(ValueError, match="has the name of a registered .*. Rename it"):
                call(f"{file}:{name}")
        with pytest.raises(
            ValueError, match="the name of a registered data set, `cifar10`. Give it"
        ):
            load(f"{file}:cifar10", train=True, root=Path())


class TestMetric:
    def test_a_function_is_a_metric_by_its_docstring(self) -> None:
        file = write(
            "mine.py",
            'def top_logit(logits, labels):\n    """Largest\n    logit.\n\n    More."""\n'
            "    return logits.max(1)\n",
        )
        metric = metric_of(f"{file}:top_logit")
        assert (metric.title, metric.meaning, metric.sign) == ("top logit", "Largest logit.", 0)
        suite = with_metrics(clean(), [metric, metric_of("error"), TOP5])
        assert suite.metrics == (*clean().metrics, metric, METRICS["error"]), "top5 it has already"
        logits = np.array([[1.0, 2], [5, 3]], np.float32)
        arrays = {"logits": logits, "labels": np.array([0, 0])}
        (cell,) = suite.cells(Setting(32, 2))
        rows = {m.metric: (m.value, m.n) for m in suite.measure(cell, arrays) if not m.variant}
        assert rows["top_logit"] == (3.5, 2) and rows["error"] == (0.5, 2)
        assert not [m for m in with_metrics(clean(), []).metrics if m not in clean().metrics]

    def test_a_value_says_which_way_is_better(self) -> None:
        file = write(
            "mine.py",
            "from harness.suites.metrics import Metric\n"
            "SURE = Metric('sure', 'sureness', 'Largest logit.', 'up',\n"
            "    of_images=lambda logits, labels: logits.max(1))\n",
        )
        assert metric_of(f"{file}:SURE").sign == 1 and METRICS["sure"].title == "sureness"

    @pytest.mark.parametrize(
        "text, message",
        [
            ("def m(logits, labels): return logits.mean()", r"one number for each image: \(4,\)"),
            ("m = 3", "is no metric and no function: int"),
            ("def accuracy(logits, labels): return labels", "`accuracy` is defined twice. Rename"),
        ],
    )
    def test_what_is_none_is_refused(self, text: str, message: str) -> None:
        name = "accuracy" if "accuracy" in text else "m"
        with pytest.raises(ValueError, match=message):
            metric_of(f"{write('mine.py', text)}:{name}")

    def test_an_unknown_one_brings_the_nearest(self) -> None:
        with pytest.raises(
            LookupError, match="no metric of logits called `eror`. Did you mean `er"
        ):
            metric_of("eror")
        with pytest.raises(LookupError, match="no metric of logits called `gini`"):
            metric_of("gini")


class TestCorruption:
    ROLL = "def roll(images, indices, seed, severity):\n    return images.roll(severity, 3)\n"

    def test_it_stands_beside_ours_and_its_file_is_in_the_cells(self) -> None:
        file = write("mine.py", self.ROLL)
        kinds = select_corruptions(("fog", f"{file}:roll", "fog"))
        assert [kind.__name__ for kind in kinds] == ["fog", "roll"]
        found = cells(Setting(32, 10, (f"{file}:roll",)))
        assert [(c.condition, c.level) for c in found[1:3]] == [("roll", 1), ("roll", 2)]
        code = digest(code_of(load_code(f"{file}:{found[1].condition}", "corruption").value))
        assert found[1].constants["code"] == code
        images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        rolled = found[2].prepare(images, torch.arange(4), 0)
        assert torch.equal(rolled, images.roll(2, 3))
        assert torch.equal(corrupt(images, "roll", 2), rolled), "by its name from now on"

    def test_constants_are_its_own_affair(self) -> None:
        text = "def shade(images, indices, seed, severity, constants):\n"
        file = write(
            "mine.py", text + "    return images // (2 if constants == 'imagenet_c' else 1)\n"
        )
        images = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
        assert corrupt(images, f"{file}:shade", 1, constants="imagenet_c").max() == 100
        assert corrupt(images, f"{file}:shade", 1).max() == 200

    @pytest.mark.parametrize(
        "text, message",
        [
            ("def m(images, severity): return images", "takes no `indices`. Define it as"),
            ("def m(images, indices, seed, severity): return images / 255", r"must return uint8"),
            ("def m(images, indices, seed, severity): return images[:, :1]", r"\(3, 1, 32, 32\)"),
            (
                "import torch\ndef m(images, indices, seed, severity):\n"
                "    return torch.randint_like(images, 255)",
                "changes an image otherwise when it is alone. Row i may depend on",
            ),
            (
                "def m(images, indices, seed, severity): return images - images.min()",
                "changes an image otherwise when it is alone",
            ),
        ],
    )
    def test_what_breaks_the_contract_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            corruption_of(f"{write('mine.py', text)}:m")

    def test_the_name_of_a_list_is_refused(self) -> None:
        file = write("mine.py", self.ROLL.replace("roll(images,", "weather(images,"))
        with pytest.raises(ValueError, match="has the name of a list. Rename it"):
            select_corruptions((f"{file}:weather",))


class TestDataset:
    def test_arrays_of_any_layout_become_a_split(self) -> None:
        file = write(
            "mine.py",
            "import numpy as np\n"
            "def last(train, root):\n"
            "    return np.full((6, 40, 40, 3), 7, np.uint8), np.arange(6) % 2\n"
            "def gray(train, root):\n"
            "    return np.full((6, 32, 32), 7, np.uint8), [0, 1, 2 if train else 0] * 2\n"
            "def named(train, root):\n"
            "    return np.full((6, 3, 32, 32), 7, np.uint8), np.arange(6) % 2, ['a', 'b', 'c']\n",
        )
        last = load(f"{file}:last", train=True, root=Path())
        assert last.images.shape == (6, 3, 40, 40) and last.classes == ("0", "1")
        gray = load(f"{file}:gray", train=False, root=Path())
        assert gray.images.shape == (6, 3, 32, 32) and gray.labels.dtype == torch.int64
        assert gray.classes == ("0", "1", "2"), "as the other half has three"
        assert load(f"{file}:named", train=False, root=Path()).classes == ("a", "b", "c")
        assert len(load("last", train=False, root=Path())) == 6, "by its name from now on"

    def test_a_split_is_taken_as_it_is(self, tmp_path: Path) -> None:
        file = write(
            "mine.py",
            "import torch\nfrom harness.suites.datasets import Split\n"
            "def half(train, root):\n"
            "    n = len(list(root.iterdir()))\n"
            "    images = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)\n"
            "    return Split(images, torch.zeros(n).long(), ('a',), flip=True, width=8)\n",
        )
        split = load(f"{file}:half", train=True, root=tmp_path)
        assert isinstance(split, Split) and split.flip and split.width == 8 and len(split) >= 1

    @pytest.mark.parametrize(
        "made, message",
        [
            ("np.zeros((2, 3, 32, 32)), [0, 1]", r"must be uint8 \(N, 3, H, H\), H >= 32"),
            ("np.zeros((2, 28, 28), np.uint8), [0, 1]", r"got torch.uint8 \(2, 3, 28, 28\)"),
            ("np.zeros((2, 32, 40), np.uint8), [0, 1]", r"got torch.uint8 \(2, 3, 32, 40\)"),
            ("np.zeros((2, 32, 32), np.uint8), [0, 1], 'a'", "2 numbers from 0 to 0, one for each"),
            ("np.zeros((2, 32, 32), np.uint8), [0]", "must be 2 numbers from 0 to 0"),
            ("np.zeros((2, 32, 32), np.uint8)", "must return a Split, or"),
        ],
    )
    def test_what_is_no_data_set_is_refused(self, made: str, message: str) -> None:
        text = f"import numpy as np\ndef mine(train, root):\n    return {made}\n"
        with pytest.raises(ValueError, match=message):
            load(f"{write('mine.py', text)}:mine", train=False, root=Path())


def test_a_suite_is_a_function_that_returns_one() -> None:
    file = write("mine.py", "def mine(): return 3\nfrom harness.suites.clean import clean as own\n")
    with pytest.raises(ValueError, match="mine.py:mine` must return a Suite; got int"):
        suite_of(f"{file}:mine")
    name, suite = suite_of(f"{file}:own")
    assert name == "own" and isinstance(suite, Suite) and isinstance(SUITES["own"](), Suite)


def test_the_example_of_models_runs(tmp_path: Path) -> None:
    file = write("mine.py", examples("models")[0])
    found = source(f"{file}:shallow")
    assert found.name == "shallow" and found.scalable
    assert found.build(num_classes=5)(torch.rand(2, 3, 32, 32)).shape == (2, 5)


PROJECT = {
    "models/__init__.py": "",
    "models/blocks.py": """from torch import nn

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
""",
    "suites/__init__.py": "WIDTH = 8",
    "net.py": """from torch import nn
from models.blocks import block
import suites

def net(num_classes=10):
    return nn.Sequential(block(3, suites.WIDTH), nn.Flatten(), nn.Linear(8, num_classes))
""",
    "parts/helper.py": "STEP = 5",
    "parts/mine.py": """import numpy as np
from helper import STEP
from harness.suites.base import Cell, Suite
from harness.suites.observe import classification, logits

def steps(logits, labels):
    return np.full(len(labels), STEP)

def darker(images, indices, seed, severity):
    import helper  # where it is called
    return (images.int() - helper.STEP * severity).clamp(0).byte()

def grain(train, root):
    from helper import STEP
    return np.random.default_rng(STEP).integers(0, 256, (40, 32, 32), np.uint8), np.arange(40) % 2

def mirrored():
    cells = (Cell("clean"), Cell("mirrored", 1, lambda x, *_: x.flip(STEP - 2)))
    return Suite(1, lambda setting: cells, logits, classification)
""",
}


@pytest.mark.parametrize("place", ["project", "elsewhere"])
def test_a_project_with_packages_and_parts_of_its_own_is_evaluated_from_anywhere(
    place: str,
) -> None:
    for name, text in PROJECT.items():
        write(f"project/{name}", text)
    Path("elsewhere").mkdir()
    root = os.path.relpath("project", place)
    parts = f"{root}/parts/mine.py"
    suites = ("--suite", "robustness", "--suite", f"{parts}:mirrored")
    own = ("--corruption", f"{parts}:darker", "--metric", f"{parts}:steps")
    model = ("--model", f"{root}/net.py:net", "--dataset", f"{parts}:grain")
    command("harness", "run", *suites, *own, *model, "--recipe", "untrained", cwd=place)
    files = Path(place, "results").glob("grain/*/net/seed0.csv")
    frame = pd.concat([pd.read_csv(f) for f in files])
    assert set(frame["condition"]) == {"clean", "darker", "mirrored"}
    assert set(frame[frame["metric"] == "steps"]["value"]) == {5.0}
    told = json.loads(Path(place, "results/grain/robustness/net/seed0.json").read_text())
    assert {"net.py", "blocks.py"} <= told["code"]["model"].keys(), "a change is noticed"


def test_a_script_may_try_a_relative_import_first() -> None:
    write("blocks.py", "WIDTH = 48")
    file = write(
        "net.py",
        "from torch import nn\ntry:\n    from .blocks import WIDTH\nexcept ImportError:\n"
        "    from blocks import WIDTH\ndef net(num_classes=10): return nn.Linear(WIDTH, 10)\n",
    )
    found = source(f"{file}:net")
    assert {"net.py", "blocks.py"} <= found.code.keys()


@pytest.mark.parametrize("folder", ["home/lib/python3.11/site-packages", "usr/dist-packages"])
def test_packages_that_are_installed_elsewhere_are_no_code_of_the_user(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"{folder}/wares_elsewhere/__init__.py", "from . import parts\nWIDTH = parts.WIDTH\n")
    write(f"{folder}/wares_elsewhere/parts.py", "WIDTH = 3")
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    file = write(
        "net.py", "from wares_elsewhere import WIDTH\ndef net(num_classes=10): return WIDTH\n"
    )
    found = source(f"{file}:net")
    assert found.code.keys() == {"net.py", "package wares_elsewhere"}


def test_a_suite_brings_its_table_and_its_figure() -> None:
    write("mine.py", INSIDE["suite"][1].replace("@SUITES.register\n", ""))
    shown = CliRunner().invoke(app, ["run", "--suite", "mine.py:mirrored", *QUICK]).stdout
    assert "mean of both" in shown and Path("results/quick/figures/digits-mirrored.png").is_file()
    again = command("harness", "table", "--suite", "mine.py:mirrored", "--results", "results/quick")
    assert "mean of both" in again


def test_installed_packages_add_names() -> None:
    write("site/wares.py", examples("suites")[0] + examples("models")[0])
    groups = {
        "models": "shallow", "suites": "turned", "corruptions": "darker", "datasets": "stripes",
        "metrics": "doubt",
    }  # fmt: skip
    points = "".join(
        f"[harness.{group}]\n{name} = wares:{name}\n" for group, name in groups.items()
    )
    write("site/wares-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: wares\nVersion: 1.0\n")
    write("site/wares-1.0.dist-info/entry_points.txt", points)
    site = Path("site").resolve()
    names = ("--suite", "turned", "--suite", "robustness", "--dataset", "stripes")
    more = ("--corruption", "darker", "--metric", "doubt", "--model", "shallow")
    command("harness", "run", *names, *more, "--epochs", "1", "--limit", "20", path=site)
    frame = measured()
    assert {"darker", "turned", "clean"} == set(frame["condition"])
    assert set(frame["model"]) == {"shallow"} and "doubt" in set(frame["metric"])
    log = json.loads(next(Path("results/quick").glob("*/turned/*/seed0.json")).read_text())
    assert "wares.py" in log["code"]["model"], "another version of the package is another model"
    assert log["origin"]["model"] == {"of": "package wares"}
    for kind in ("suites", "corruptions", "datasets"):
        assert groups[kind] in command("harness", "list", kind, path=site)


def test_an_installed_name_of_ours_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from importlib.metadata import EntryPoint

    points = (
        EntryPoint("ours", "wares:x", "harness.things"),
        EntryPoint("gone", "nowhere:x", "harness.things"),
    )
    monkeypatch.setattr("harness.models.registry.entry_points", lambda group: points)
    registry: Registry[Any] = Registry(
        "thing", {"ours": "harness.suites.clean"}, (), "harness.things"
    )
    assert list(registry) == ["ours", "gone"] and len(registry) == 2
    assert "`ours` of wares:x has the name of a registered one and is left out" in caplog.text
    with pytest.raises(ValueError, match="`gone` cannot be loaded from nowhere:x: No module named"):
        registry["gone"]


# What a stranger writes inside: its file, and one line that names it.
INSIDE: dict[str, tuple[str, str, str, str, str]] = {
    "suite": (
        "suites/mirrored.py",
        '''"""Accuracy on mirrored images."""

import pandas as pd
from matplotlib.figure import Figure

from harness.suites.base import Cell, Suite
from harness.suites.catalog import SUITES
from harness.suites.observe import classification, logits

CELLS = (Cell("clean"), Cell("mirrored", 1, lambda images, indices, seed: images.flip(3)))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    kept = rows[(rows["metric"] == "accuracy")]
    return kept.groupby("model")["value"].mean().rename("mean of both").reset_index()


def figure(rows: pd.DataFrame) -> Figure:
    drawn = Figure()
    drawn.subplots().plot(rows["level"], rows["value"], "o")
    return drawn


@SUITES.register
def mirrored() -> Suite:
    """Accuracy on images and on their mirror images."""
    return Suite(1, lambda setting: CELLS, logits, classification, table=table, figure=figure)
''',
        "suites/catalog.py",
        '        "clean": "harness.suites.clean",\n',
        '        "mirrored": "harness.suites.mirrored",\n',
    ),
    "corruption": (
        "suites/corruptions/darkness.py",
        '''"""Darkness."""

from torch import Tensor

from harness.suites.catalog import CORRUPTIONS
from harness.suites.corruptions.contract import corruption, pick


@CORRUPTIONS.register
@corruption
def darkness(
    images: Tensor, indices: Tensor, seed: int, severity: int, constants: str, exact: bool
) -> Tensor:
    """u - c, not below 0."""
    c = pick(constants, severity, (5, 10, 15, 20, 25), (10, 20, 30, 40, 50))
    return images.clamp(min=c) - c
''',
        "suites/catalog.py",
        '    ("validation", "noise", "speckle_noise"),\n',
        '    ("validation", "darkness", "darkness"),\n',
    ),
    "data set": (
        "suites/halves.py",
        '''"""Images whose upper or lower half is bright."""

from pathlib import Path

import torch

from harness.suites.catalog import DATASETS
from harness.suites.datasets import Split


@DATASETS.register
def halves(train: bool, root: Path) -> Split:
    """Forty images of two classes: bright above, bright below."""
    images, labels = torch.zeros(40, 3, 32, 32, dtype=torch.uint8), torch.arange(40) % 2
    images[labels == 0, :, :16], images[labels == 1, :, 16:] = 200, 200
    return Split(images, labels, ("above", "below"), flip=True)
''',
        "suites/catalog.py",
        '        "cifar10": "harness.suites.datasets",\n',
        '        "halves": "harness.suites.halves",\n',
    ),
    "model": (
        "models/three_steps.py",
        "",  # the README's
        "models/catalog.py",
        '    "harness.models.slots",\n',
        '    "harness.models.three_steps",\n',
    ),
    "metric": (
        "suites/metrics.py",
        "",
        "suites/metrics.py",
        "SCORES = (ACCURACY, NLL, BRIER, ECE, SQUARED_CALIBRATION_ERROR)",
        "",
    ),
}


def hashes(root: Path) -> dict[str, str]:
    files = (f for d in ("harness", "models", "suites") for f in (root / d).rglob("*"))
    return {
        str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in files
        if f.is_file() and "__pycache__" not in f.parts and "harness/models" not in str(f)
    }


def test_adding_inside_touches_a_file_and_one_line(tmp_path: Path) -> None:
    """Each thing in a copy of the package: the files touched; then all are listed and run."""
    copy = tmp_path / "copy"
    for folder in ("harness", "models", "suites"):
        shutil.copytree(
            ROOT / folder,
            copy / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for kind, (path, text, catalog, before, line) in INSIDE.items():
        was = hashes(copy)
        registry = (copy / catalog).read_text(encoding="utf-8")
        assert registry.count(before) == 1
        if kind == "metric":  # its file is where it is registered
            registry = registry.replace(
                before,
                "SURENESS = Metric(\n    'sureness', 'sureness', 'Largest logit.', 'up',\n"
                "    of_images=lambda logits, labels: logits.max(axis=1),\n)\n"
                "SCORES = (ACCURACY, NLL, BRIER, ECE, SURENESS)",
            )
        else:
            write(copy / path, text or examples("models")[1])
            registry = registry.replace(before, before + line)
        write(copy / catalog, registry)
        now = hashes(copy)
        assert {p for p in now if now[p] != was.get(p)} == {path, catalog}, kind
    was = hashes(copy)
    command("harness.models", path=copy)
    now = hashes(copy)
    assert {p for p in now if now[p] != was.get(p)} == {"models/catalog.json"}
    for kind, name in (
        ("suites", "mirrored"), ("corruptions", "darkness"), ("datasets", "halves"),
        ("models", "three_steps"), ("metrics", "sureness"),
    ):  # fmt: skip
        assert name in command("harness", "list", kind, path=copy)
    suites = ("--suite", "mirrored", "--suite", "robustness", "--corruption", "darkness")
    model = ("--model", "three_steps", "--dataset", "halves", *QUICK[2:])
    shown = command("harness", "run", *suites, *model, path=copy)
    assert "mean of both" in shown and "darkness" in shown
    frame = measured()
    assert {"clean", "mirrored", "darkness"} == set(frame["condition"])
    assert set(frame["model"]) == {"three_steps"} and "sureness" in set(frame["metric"])
    again = command("harness", "table", "--results", "results/quick", path=copy)
    assert "mean of both" in again
    assert Path("results/quick/figures/halves-mirrored.png").is_file()
