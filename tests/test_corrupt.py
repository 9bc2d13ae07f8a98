"""`corrupt(...)` as other projects call it: batch by batch, in their layouts and types."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.suites.base import Setting
from harness.suites.catalog import COMMON, CORRUPTIONS
from harness.suites.corruptions import corrupt
from harness.suites.robustness import cells

NAMES = list(CORRUPTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_may_be_split_and_ordered_in_any_way(name: str, pictures: Tensor) -> None:
    whole = corrupt(pictures, name, 3, seed=7)
    for size in (1, 5):
        parts = [corrupt(part, name, 3, seed=7) for part in pictures.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(corrupt(pictures.flip(0), name, 3, seed=7).flip(0), whole)


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_different_images_never_share_their_noise(name: str) -> None:
    images = torch.full((300, 3, 32, 32), 128, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(300) % 256
    images[:, 0, 0, 1] = torch.arange(300) // 256
    y = torch.cat([corrupt(part, name, 3) for part in images.split(7)])
    assert len({image[1:].numpy().tobytes() for image in y}) == 300
    turned = torch.zeros(1, 3, 32, 64, dtype=torch.uint8), torch.zeros(1, 3, 64, 32).byte()
    a, b = (corrupt(x + 99, name, 3).flatten() for x in turned)
    assert not torch.equal(a, b), "of one content, but another shape"


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("size, constants", [(32, "cifar10_c"), (64, "cifar10_c"), (72, None)])
def test_positions_give_the_images_of_the_suite(
    name: str, size: int, constants: str | None
) -> None:
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=generator)
    where = torch.tensor([2, 0, 41])
    for cell in cells(Setting(size, 10, (name,)))[1::2]:
        expected = cell.prepare(images, where, 5)
        for indices in (where, where.numpy(), where.int(), [2, 0, 41]):
            found = corrupt(images, name, int(cell.level), seed=5, indices=indices)
            assert torch.equal(found, expected)
        other = corrupt(images, name, int(cell.level), 5, where, constants or "imagenet_c")
        assert torch.equal(other, expected)


def test_the_smaller_side_chooses_the_constants() -> None:
    for shape, constants in (((64, 200), "cifar10_c"), ((65, 65), "imagenet_c")):
        images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
        expected = corrupt(images, "contrast", 5, constants=constants)
        assert torch.equal(corrupt(images, "contrast", 5), expected)


@pytest.mark.parametrize("name", ["fog", "gaussian_noise", "jpeg_compression", "motion_blur"])
def test_images_come_back_as_they_were_given(name: str, pictures: Tensor) -> None:
    expected, last = corrupt(pictures, name, 2), pictures.permute(0, 2, 3, 1)
    given: list[tuple[Any, Tensor]] = [
        (pictures, expected),
        (last, expected.permute(0, 2, 3, 1)),
        (last.contiguous(), expected.permute(0, 2, 3, 1)),
        (pictures[4], expected[4]),
        (last[4], expected[4].permute(1, 2, 0)),
    ]
    for images, answer in given:
        before = images.clone()
        found = corrupt(images, name, 2)
        assert isinstance(found, Tensor) and torch.equal(found, answer)
        array = corrupt(images.numpy(), name, 2)
        assert isinstance(array, np.ndarray) and array.dtype == np.uint8
        np.testing.assert_array_equal(array, answer.numpy())
        assert torch.equal(images, before)


def test_views_of_arrays_are_taken(pictures: Tensor) -> None:
    bgr = pictures.permute(0, 2, 3, 1).numpy()[..., ::-1]
    expected = corrupt(pictures.flip(1), "brightness", 3).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(corrupt(bgr, "brightness", 3), expected.numpy())
    fixed = pictures.numpy().copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(
        corrupt(fixed, "brightness", 3), corrupt(pictures, "brightness", 3).numpy()
    )


@pytest.mark.parametrize(
    "three", [3.0, np.float64(3), np.float32(3), np.int64(3), np.array(3), torch.tensor(3.0)]
)
def test_whole_numbers_of_any_kind_are_taken(three: Any, pictures: Tensor) -> None:
    expected = corrupt(pictures, "snow", 3, seed=3)
    assert torch.equal(corrupt(pictures, "snow", three, seed=three), expected)
    assert torch.equal(CORRUPTIONS["fog"](pictures, torch.arange(12), 0, three)[:1],
                       corrupt(pictures[:1], "fog", 3, indices=[0]))  # fmt: skip
    assert torch.equal(corrupt(pictures[2], "snow", 3, indices=3),
                       corrupt(pictures[2:3], "snow", 3, indices=[3])[0])  # fmt: skip


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 32, 32, 3)), "must be uint8 in 0..255; got float64. Give images in"),
        (np.zeros((2, 32, 32, 3), np.uint16), "must be uint8 in 0..255; got uint16"),
        (np.zeros((2, 32, 32, 3), np.int8), "must be uint8 in 0..255; got int8"),
        (torch.zeros(2, 3, 32, 32), "must be uint8 in 0..255; got torch.float32"),
        (np.zeros((32, 32), np.uint8), r"that of one image; got \(32, 32\). Expand gray images"),
        (np.zeros((2, 32, 32, 4), np.uint8), r"got \(2, 32, 32, 4\). .* leave out transparency"),
        (np.zeros((5, 32, 32), np.uint8), r"got \(5, 32, 32\). Expand gray images"),
        (np.zeros((1, 2, 3, 32, 32), np.uint8), r"got \(1, 2, 3, 32, 32\)"),
        (np.zeros((2, 31, 40, 3), np.uint8), "32 pixels high and wide; got 31 x 40. Enlarge them"),
        ([np.zeros((32, 32, 3), np.uint8)], r"or a PyTorch tensor; got list. Give `np.asarray\("),
    ],
)
def test_what_is_no_image_is_refused_in_true_words(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(images, "fog", 3)


def test_seeds_and_indices_that_are_no_whole_numbers_are_refused(pictures: Tensor) -> None:
    for seed in (0.5, "0", None, True):
        with pytest.raises(ValueError, match="`seed` must be a whole number; got"):
            corrupt(pictures, "fog", 3, seed=seed)
    for indices in (np.arange(12) / 2, [True] * 12, range(11), torch.arange(12)[None]):
        with pytest.raises(ValueError, match=r"`indices` must be int64 of shape \(12,\); got"):
            corrupt(pictures, "fog", 3, indices=indices)
    with pytest.raises(ValueError, match="`indices` must be >= 0; got -1..10"):
        corrupt(pictures, "fog", 3, indices=range(-1, 11))


def test_no_image_is_no_error_in_any_layout() -> None:
    for shape in ((0, 3, 32, 32), (0, 40, 32, 3)):
        assert corrupt(np.zeros(shape, np.uint8), "fog", 1).shape == shape
