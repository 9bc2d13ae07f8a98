"""Names of data sets in tables, however their paths are typed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.suites.dataset_names import TAKEN, check_datasets, dataset_name, parse_dataset
from harness.suites.datasets import adopt_dataset, load

NOWHERE = Path("/nonexistent")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(path: Path, value: int = 0) -> Path:
    """A folder of images of two classes, all of one value."""
    for k in (0, 1):
        (path / f"class {k}").mkdir(parents=True)
        for i in range(5):
            image = Image.fromarray(np.full((32, 32), value + 100 * k, np.uint8))
            image.save(path / f"class {k}" / f"{i}.png")
    return path


@pytest.mark.parametrize(
    "spec, name",
    [
        ("cifar10", "cifar10"),
        ("cifar10-c", "cifar10-c"),
        ("digits[image seed 3]", "digits[image seed 3]"),
        ("imagefolder:/data/pets", "pets"),
        ("imagefolder:/data/pets/", "pets"),
        ("imagefolder:/data/pets//.", "pets"),
        ("imagefolder:~/my pets", "my pets"),
        ("imagefolder:a=b/c", "c"),
        ("imagefolder:/data/Größe", "Größe"),
        ("birds=/data/pets", "birds"),
        ("birds=imagefolder:/data/pets", "birds"),
        ("birds=x=1", "birds"),
        ("some/file.py:stripes", "stripes"),
        ("birds=some/file.py:stripes", "birds"),
        ("./a=b/file.py:stripes", "stripes"),
    ],
)
def test_a_data_set_has_a_name(spec: str, name: str) -> None:
    assert dataset_name(spec) == name


def test_one_folder_is_one_data_set_however_it_is_typed(home: Path) -> None:
    folder(home / "here/pets")
    os.symlink(home / "here", home / "there")
    specs = [
        f"imagefolder:{home}/here/pets",
        f"imagefolder:{home}/here/pets/",
        "imagefolder:~/here/pets",
        "imagefolder:here/pets",
        "imagefolder:there/pets",
        "imagefolder:there/../here/pets",
        "pets=here/pets",
    ]
    check_datasets(specs)
    assert len({parse_dataset(spec) for spec in specs}) == 1
    assert len({load(spec, train=False, root=NOWHERE).fingerprint() for spec in specs}) == 1


def test_a_name_stands_for_what_was_loaded(home: Path) -> None:
    folder(home / "a/pets"), folder(home / "b/pets", 50)
    with pytest.raises(LookupError, match="There is no data set called `pets`"):
        load("pets", train=False, root=NOWHERE)
    for where, value in (("a", 0), ("b", 50)):
        assert adopt_dataset(f"imagefolder:{where}/pets") == "pets"
        assert load("pets", train=True, root=NOWHERE).images.min() == value
    assert load("other=a/pets", train=True, root=NOWHERE).images.min() == 0
    with pytest.raises(LookupError, match="`a/pets` is a folder. Write `--dataset imagefolder:a/p"):
        load("a/pets", train=True, root=NOWHERE)


def test_a_function_of_a_file_may_have_another_name(home: Path) -> None:
    (home / "mine.py").write_text(
        "import numpy as np\ndef cifar10(train, root):\n"
        "    return np.full((4, 32, 32), 7, np.uint8), np.arange(4) % 2\n"
    )
    with pytest.raises(ValueError, match="has the name of a registered data set, `cifar10`. Give"):
        load("mine.py:cifar10", train=True, root=NOWHERE)
    assert load("own=mine.py:cifar10", train=True, root=NOWHERE).images.max() == 7
    assert len(load("own", train=False, root=NOWHERE)) == 4
    with pytest.raises(FileNotFoundError, match="There is no file .*gone.py"):
        load("own=gone.py:f", train=True, root=NOWHERE)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("imagefolder:/", "has no name"),
        ("imagefolder:/data/svhn", "has the name of a registered data set, `svhn`"),
        ("CIFAR100=pets", "has the name of a registered data set"),
        ("imagefolder:cifar10-c", "has the name of a registered data set"),
        *((f"imagefolder:{name}", "have the name of a folder that results have") for name in TAKEN),
        ("Cells=pets", "have the name of a folder that results have, `Cells`"),
        ("mine.py:report", "have the name of a folder that results have"),
        ("imagefolder:a\nb", r"has a name that cannot be shown: 'a\\nb'"),
        ("imagefolder:/data/pets ", "has a name that cannot be shown"),
        ("a\x1b[1m=pets", "has a name that cannot be shown"),
        ("imagefolder:.hidden", "means something else in tables and paths"),
        ("-pets=/data/pets", "means something else in tables and paths"),
        ("imagefolder:digits[image seed 1]", "means something else in tables and paths"),
        ("imagefolder:cats, dogs", "means something else in tables and paths"),
        (f"{'n' * 101}=pets", "has a name of 101 characters, more than 100"),
    ],
)
def test_a_name_that_cannot_stand_in_a_table_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dataset_name(spec)
    assert "Give it another name with `--dataset NAME=PATH`." in str(caught.value)


@pytest.mark.parametrize("spec", ["=pets", "pets=", " = "])
def test_a_name_without_a_path_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="is not of the form NAME=PATH. Give both"):
        dataset_name(spec)


def test_two_data_sets_of_one_name_are_refused() -> None:
    check_datasets(["digits", "digits", "imagefolder:a/pets", "imagefolder:a/pets/"])
    for other in ("imagefolder:b/pets", "pets=a/cats", "file.py:pets"):
        with pytest.raises(ValueError, match="`imagefolder:a/pets` and .* have one name in tables"):
            check_datasets(["imagefolder:a/pets", other])


def test_names_need_nothing_heavy() -> None:
    code = (
        "import sys; from harness.suites.dataset_names import dataset_name; dataset_name('a=b');"
        "assert not {'torch', 'numpy', 'PIL'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
