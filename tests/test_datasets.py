import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.suites.datasets import load

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
    with pytest.raises(ValueError, match="incomplete or damaged. Remove them and run"):
        load("cifar10", train=False, root=tmp_path)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(LookupError, match="no data set called `cifar`. Did you mean `cifar10`?"):
        load("cifar", train=False, root=NOWHERE)


def picture(path: Path, width: int, height: int, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def test_a_folder_of_images_is_cropped_and_split(tmp_path: Path) -> None:
    for k, name in enumerate(("cat", "dog")):
        for i in range(10):
            picture(tmp_path / name / f"{i}.png", 48 + 8 * i, 40, 100 * k + i)
    train, test = (load(f"imagefolder:{tmp_path}", train=half, root=NOWHERE) for half in (1, 0))
    assert train.classes == ("cat", "dog") and train.images.shape == (16, 3, 40, 40)
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert test.images[:, 0, 0, 0].tolist() == [4, 9, 104, 109]


def test_a_folder_with_halves_keeps_them(tmp_path: Path) -> None:
    for half, count in (("train", 3), ("val", 2)):
        for i in range(count):
            picture(tmp_path / half / "only" / f"{i}.png", 32, 32, i)
    assert len(load(f"imagefolder:{tmp_path}", train=True, root=NOWHERE)) == 3
    assert len(load(f"imagefolder:{tmp_path}", train=False, root=NOWHERE)) == 2


def test_what_is_no_folder_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load(f"imagefolder:{tmp_path / 'none'}", train=True, root=NOWHERE)
    with pytest.raises(FileNotFoundError, match="holds no folders of images"):
        load(f"imagefolder:{tmp_path}", train=True, root=NOWHERE)
    picture(tmp_path / "cat" / "1.png", 28, 28, 0)
    with pytest.raises(ValueError, match="is 28 pixels; at least 32 are needed"):
        load(f"imagefolder:{tmp_path}", train=True, root=NOWHERE)
