"""Images in a file are indexed, trained on and evaluated as those in memory."""

import dataclasses
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from harness.models.resnet import resnet18
from harness.running.evaluate import Evaluated, observe
from harness.running.halves import count_seen
from harness.running.initial import initialize
from harness.running.recipes import Recipe
from harness.running.train import train
from harness.suites import folder_reading
from harness.suites.base import Setting
from harness.suites.datasets import Split, load
from harness.suites.lookup import suite_of
from harness.suites.stored_images import StoredImages, blocks, take

CPU = torch.device("cpu")


def stored(images: Tensor, folder: Path) -> StoredImages:
    found = StoredImages.create(len(images), images.shape[-1], folder)
    for i in range(0, len(images), 7):
        found.write(i, images[i : i + 7].numpy())
    return found


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize(
    "which",
    [
        0,
        np.int64(49),
        -1,
        slice(None),
        slice(3, 40, 5),
        slice(45, 99),
        slice(0, 0),
        torch.tensor([7, 8, 9, 3, 3, 49, 0]),
        torch.tensor([], dtype=torch.long),
        torch.arange(50) % 3 == 0,
    ],
    ids=str,
)
def test_it_is_indexed_as_a_tensor(images: Tensor, which: object, tmp_path: Path) -> None:
    found = stored(images, tmp_path)
    assert found.shape == images.shape and len(found) == 50 and found.ndim == 4
    assert torch.equal(found[which], images[which])
    some = torch.tensor([4, 2, 40, 41, 42])
    assert torch.equal(take(found, some)[torch.tensor([1, 4, 0])], images[[2, 42, 4]])
    assert torch.equal(take(take(found, some), torch.tensor([3, 1]))[:], images[[41, 2]])
    with pytest.raises(IndexError):
        found[50]


def test_blocks_and_items_are_all_of_it(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.suites.stored_images.BLOCK", 20_000)
    found = stored(images, tmp_path)
    assert len(list(blocks(found))) == 9
    assert torch.equal(torch.cat(list(blocks(found))), images)
    assert torch.equal(torch.stack(list(found)), images)


def test_the_file_has_no_name_and_goes_with_the_images(images: Tensor, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    found = stored(images, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    del found
    gc.collect()
    assert before is None or len(os.listdir("/proc/self/fd")) == before
    assert len(stored(images, Path("/proc/nowhere"))) == 50  # where nothing can be made


def halves(folder: Path) -> tuple[Split, Split]:
    whole = load("digits", train=True, root=folder)
    few = dataclasses.replace(whole, images=whole.images[:160], labels=whole.labels[:160])
    assert isinstance(few.images, Tensor)
    return few, dataclasses.replace(few, images=stored(few.images, folder))


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_training_is_bit_for_bit_that_of_images_in_memory(tmp_path: Path, held_out: float) -> None:
    recipe = Recipe(1, 32, 0.05, 0.9, 5e-4, 4, True, "float32", held_out=held_out)
    ends = [
        train(initialize(lambda: resnet18(width=8), 0), half, recipe, seed=0, device=CPU)
        for half in halves(tmp_path)
    ]
    (one, told), (other, again) = ends
    assert told == again
    states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_evaluation_and_fingerprint_are_those_of_images_in_memory(tmp_path: Path) -> None:
    inside, outside = halves(tmp_path)
    assert inside.fingerprint() == outside.fingerprint()
    _, suite = suite_of("robustness")
    cells = suite.cells(Setting(32, 10, ("gaussian_noise",)))
    subject = Evaluated(initialize(lambda: resnet18(width=8), 0), CPU)
    for cell in cells[-2:]:
        one, other = (
            observe(suite, cell, subject, half, batch_size=50) for half in (inside, outside)
        )
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert count_seen("x", inside, outside) == 160


def test_a_large_folder_is_read_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            for i in range(12):
                pixels = draw.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / half / name / f"{i:02}.png")
    inside = load(f"imagefolder:{tmp_path}", train=False, root=tmp_path / "data")
    assert isinstance(inside.images, Tensor)
    folder_reading._KEPT.clear()
    monkeypatch.setattr(folder_reading, "LARGE", 1000)
    outside = load(f"imagefolder:{tmp_path}", train=False, root=tmp_path / "data")
    assert isinstance(outside.images, StoredImages)
    assert torch.equal(outside.images[:], inside.images)
    assert inside.fingerprint() == outside.fingerprint()
