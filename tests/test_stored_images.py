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
from harness.suites.stored_images import StoredImages, as_images, blocks, keep, take

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


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NHW"])
@pytest.mark.parametrize("mapped", [True, False])
def test_large_arrays_are_read_where_they_lie_or_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, mapped: bool
) -> None:
    shape = {"NCHW": (9, 3, 32, 32), "NHWC": (9, 32, 32, 3), "NHW": (9, 32, 32)}[layout]
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "images.npy", array)
    expected = as_images(array)
    monkeypatch.setattr("harness.suites.stored_images.LARGE", 1000)
    monkeypatch.setattr("harness.suites.stored_images.BLOCK", 10_000)
    given = np.load(tmp_path / "images.npy", mmap_mode="r") if mapped else array
    for part in (slice(None), slice(2, 7)):  # of a part of a map no one knows where it begins
        kept = keep(given[part] if part != slice(None) else given, tmp_path)
        assert isinstance(
            kept, Tensor if not mapped and layout == "NCHW" else StoredImages | Tensor
        )
        assert torch.equal(kept[:], expected[part])
        which = torch.tensor([4, 1, 2])
        assert torch.equal(take(kept, which)[:], expected[part][which])
        assert torch.equal(torch.cat(list(blocks(kept))), expected[part])
    if mapped and layout != "NHW":
        whole = keep(given, tmp_path)
        assert isinstance(whole, StoredImages)
        changed = np.load(tmp_path / "images.npy", mmap_mode="r+")
        changed[0] = 7
        changed.flush()
        assert int(whole[0].amax()) == int(whole[0].amin()) == 7, "it is the user's own file"


def test_a_users_mapped_array_is_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("train", 40), ("test", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
        np.save(tmp_path / f"{name}_labels.npy", np.arange(count) % 4)
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "HERE = Path(__file__).parent\n"
        "def pets(train, root):\n"
        "    half = 'train' if train else 'test'\n"
        "    images = np.load(HERE / f'{half}.npy', mmap_mode='r')\n"
        "    return images, np.load(HERE / f'{half}_labels.npy')\n"
    )
    spec = f"{tmp_path}/mine.py:pets"
    inside = {train: load(spec, train=train, root=tmp_path) for train in (True, False)}
    monkeypatch.setattr("harness.suites.stored_images.LARGE", 1000)
    for which in inside:
        outside = load(spec, train=which, root=tmp_path)
        half = inside[which]
        assert isinstance(half.images, Tensor) and isinstance(outside.images, StoredImages)
        assert torch.equal(outside.images[:], half.images)
        assert outside.fingerprint() == half.fingerprint() and outside.classes == half.classes
