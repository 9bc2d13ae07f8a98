import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.storage.files import data_folder
from harness.suites import datasets
from harness.suites.datasets import OFFICIAL, load, training_fingerprint

NOWHERE = Path("/nonexistent")


def test_digits_are_split_for_good() -> None:
    train, test = (load("digits", train=half, root=NOWHERE) for half in (True, False))
    assert (len(train), len(test)) == (1442, 355)
    assert train.images.shape[1:] == (3, 32, 32) and train.images.dtype == torch.uint8
    assert train.labels.bincount().min() >= 139 and test.labels.bincount().min() >= 34
    assert torch.equal(test.images[:, 0], test.images[:, 2])
    # The same pixels on every machine and in every version of scikit-learn, or numbers move.
    assert train.fingerprint()[:16] == "a9d0dd1314e4cab3"
    assert test.fingerprint()[:16] == "0fd9573adabc3f52"


def test_a_fingerprint_sees_images_and_labels() -> None:
    split = load("digits", train=False, root=NOWHERE)
    before = split.fingerprint()
    split.images[0, 0, 0, 0] ^= 1
    assert split.fingerprint() != before
    split.images[0, 0, 0, 0] ^= 1
    split.labels[0] += 1
    assert split.fingerprint() != before


def test_missing_files_bring_the_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Run `harness data cifar10`, or set `HARNESS_DATA"):
        load("cifar10", train=False, root=tmp_path)


def test_files_that_are_not_the_official_ones_are_never_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.zeros((2, 3072))}))
    with pytest.raises(ValueError, match="incomplete or damaged. Run `harness data cifar"):
        load("cifar10", train=False, root=tmp_path)


@pytest.mark.parametrize(
    "place, root",
    [
        ("cifar-10-batches-py/cifar-10-batches-py", ""),
        ("cifar10/cifar-10-batches-py", ""),
        ("cifar10/cifar-10-batches-py/cifar-10-batches-py", ""),
        ("cifar-10-batches-py", "cifar-10-batches-py"),
    ],
)
def test_files_are_found_a_folder_further(tmp_path: Path, place: str, root: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"at {tmp_path / place} are incomplete or damaged"):
        load("cifar10", train=False, root=tmp_path / root)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no data set called `cifar`. Did you mean `cifar10`?"):
        load("cifar", train=False, root=NOWHERE)


def test_the_fingerprint_of_a_training_half_is_that_of_its_images(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\ndef dots(train, root):\n"
        "    return np.full((4, 32, 32), 9 * train, np.uint8), np.arange(4) % 2\n"
    )
    for spec in ("digits", f"{file}:dots"):
        found = training_fingerprint(spec, NOWHERE)
        assert found == load(spec, train=True, root=NOWHERE).fingerprint()
        assert found != load(spec, train=False, root=NOWHERE).fingerprint()


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_the_recorded_fingerprints_are_those_of_the_official_files(name: str) -> None:
    root = data_folder(None)
    try:
        split = load(name, train=True, root=root)
    except (FileNotFoundError, ValueError):
        pytest.skip(f"{name} is not at {root}, or not all of it")
    assert split.fingerprint() == training_fingerprint(name, NOWHERE)


def test_the_labelled_part_of_stl10_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, draw = tmp_path / "stl10_binary", np.random.default_rng(0)
    folder.mkdir()
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    sizes = {"train": 5, "test": 3}
    lists = {}
    for half, count in sizes.items():
        images = draw.integers(0, 256, (count, 3, 96, 96), np.uint8)
        images.tofile(folder / f"{half}_X.bin")
        (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{half}_y.bin")
        names = [f"{half}_X.bin", f"{half}_y.bin"]
        lists[half] = [[n, hashlib.md5((folder / n).read_bytes()).hexdigest()] for n in names]
    monkeypatch.setattr(datasets._Labelled, "train_list", lists["train"])
    monkeypatch.setattr(datasets._Labelled, "test_list", lists["test"])
    for half, count in sizes.items():
        split = load("stl10", train=half == "train", root=tmp_path)
        raw = np.fromfile(folder / f"{half}_X.bin", np.uint8).reshape(count, 3, 96, 96)
        assert np.array_equal(split.images[:].numpy(), raw.transpose(0, 1, 3, 2)), "by columns"
        assert split.labels.tolist() == list(range(count))
    (folder / "test_X.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="incomplete or damaged"):
        load("stl10", train=False, root=tmp_path)


def test_a_first_prediction_waits_for_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys, harness.running.items; from pathlib import Path; "
        "from harness.suites.datasets import load; load('digits', train=False, root=Path()); "
        "print([m for m in ('pandas', 'sklearn', 'matplotlib', 'scipy.special') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    read = load("digits", train=True, root=Path())
    monkeypatch.setattr("harness.suites.datasets.find_spec", lambda name: None)
    again = load("digits", train=True, root=Path())
    assert torch.equal(read.images, again.images) and torch.equal(read.labels, again.labels)
