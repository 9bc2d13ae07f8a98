import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.ops import philox
from harness.suites.catalog import COMMON, CORRUPTIONS, FAMILIES
from harness.suites.corruptions import contract, corrupt, external
from harness.suites.published import REPEATABLE

NAMES = list(CORRUPTIONS)
DRAWS_NOTHING = set(REPEATABLE)


def test_names_and_groups_are_the_published_ones_in_their_order() -> None:
    groups = {
        "noise": "gaussian_noise shot_noise impulse_noise",
        "blur": "defocus_blur glass_blur motion_blur zoom_blur",
        "weather": "snow frost fog brightness",
        "digital": "contrast elastic_transform pixelate jpeg_compression",
        "validation": "speckle_noise gaussian_blur spatter saturate",
    }
    assert {group: " ".join(names) for group, names in FAMILIES.items()} == groups
    assert len(COMMON) == 15 and len(CORRUPTIONS) == 19
    assert [CORRUPTIONS[name].__name__ for name in NAMES] == NAMES
    assert " ".join(groups.values()).split() == NAMES


@pytest.mark.parametrize("constants", contract.CONSTANTS)
@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_the_same_in_any_batch_and_order(
    name: Any, constants: Any, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "CACHED", 5 << 10)  # five images a block
    images = pictures.repeat(3, 1, 1, 1)[:26]
    indices = torch.arange(26) * 37 % 1000
    whole = corrupt(images, name, 3, seed=5, indices=indices, constants=constants)
    backwards = corrupt(
        images.flip(0), name, 3, seed=5, indices=indices.flip(0), constants=constants
    )
    assert torch.equal(backwards.flip(0), whole)
    for size in (1, 13):
        parts = [
            corrupt(i, name, 3, seed=5, indices=k, constants=constants)
            for i, k in zip(images.split(size), indices.split(size), strict=True)
        ]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_images_at_once_are_the_same_as_some_of_them(
    name: str, pictures: Tensor
) -> None:
    images = pictures.repeat(84, 1, 1, 1)[:1000]
    some = torch.tensor([0, 17, 500, 999])
    whole = corrupt(images, name, 4, indices=torch.arange(1000))
    assert torch.equal(corrupt(images[some], name, 4, indices=some), whole[some])


@pytest.mark.gpu
@pytest.mark.parametrize("constants", contract.CONSTANTS)
@pytest.mark.parametrize("name", NAMES)
def test_cuda_makes_the_same_images(name: str, constants: str, pictures: Tensor) -> None:
    images = pictures.repeat(20, 1, 1, 1)
    for severity in (1, 3, 5):
        here = corrupt(images, name, severity, constants=constants)
        there = corrupt(images.cuda(), name, severity, constants=constants).cpu()
        apart = (here.int() - there.int()).abs()
        assert apart.max() <= 1 and (apart > 0).double().mean() <= 1e-4


@pytest.mark.parametrize("constants", contract.CONSTANTS)
@pytest.mark.parametrize("name", NAMES)
def test_larger_and_oblong_images_work(name: str, constants: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 80, 100), dtype=torch.uint8, generator=generator)
    before = images.clone()
    for severity in (1, 5):
        y = corrupt(images, name, severity, constants=constants)
        assert y.shape == images.shape and y.dtype == torch.uint8 and not torch.equal(y, images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("constants", contract.CONSTANTS)
@pytest.mark.parametrize("name", NAMES)
def test_compiled_loops_make_the_images_of_torch(
    name: str, constants: str, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit; but for sums in float32, which round otherwise a step below an integer."""
    images = F.interpolate(pictures[:2].float(), (101, 70), mode="bicubic").clamp(0, 255).byte()
    assert contract.has_loops(images)
    for severity in (1, 3, 5):
        loops = corrupt(images, name, severity, seed=2, constants=constants)
        monkeypatch.setenv("HARNESS_OPS", "reference")
        assert not contract.has_loops(images)
        apart = (loops.int() - corrupt(images, name, severity, seed=2, constants=constants)).abs()
        monkeypatch.delenv("HARNESS_OPS")
        summed = name in ("defocus_blur", "motion_blur", "zoom_blur")
        assert apart.max() <= summed and (apart > 0).float().mean() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_only_what_draws_depends_on_seed_and_index(name: str, pictures: Tensor) -> None:
    pictures = pictures[:4]
    y = corrupt(pictures, name, 5)
    other_seed = corrupt(pictures, name, 5, seed=1)
    other_index = corrupt(pictures, name, 5, indices=torch.arange(4) + 100)
    for other in (other_seed, other_index):
        assert torch.equal(other, y) == (name in DRAWS_NOTHING)


def test_no_image_is_no_error() -> None:
    nothing = torch.empty((0, 3, 32, 32), dtype=torch.uint8)
    for name in NAMES:
        assert corrupt(nothing, name, 1).shape == nothing.shape


class Replay:
    """NumPy's global generator, from draws that ours made."""

    def __init__(self, draws: list[np.ndarray]) -> None:
        self.left = np.concatenate([d.ravel() for d in draws]).tolist()

    def take(self, size: Any) -> np.ndarray:
        count = 1 if size is None else int(np.prod(size))
        taken, self.left = np.array(self.left[:count]), self.left[count:]
        return taken[0] if size is None else taken.reshape(size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return loc + scale * self.take(size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return low + (high - low) * self.take(size)

    def randint(self, low: Any, high: Any = None) -> Any:
        # Of the six textures ours uses five.
        low, high = (0, min(low, 5)) if high is None else (low, high)
        return low + (int(self.take(None)) * (high - low) >> 32)


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize(
    "name",
    [
        "gaussian_noise",
        "speckle_noise",
        "motion_blur",
        "snow",
        "frost",
        "fog",
        "elastic_transform",
        "spatter",
    ],
)
def test_with_our_draws_the_package_makes_our_images(
    name: str, severity: int, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[np.ndarray] = []

    def recorded(draw: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            result = draw(*args, **kwargs)
            draws.append(result.double().numpy() if result.is_floating_point() else result.numpy())
            return result

        return call

    for draw in ("normal", "uniform", "words"):
        monkeypatch.setattr(philox, draw, recorded(getattr(philox, draw)))
    apart = []
    for i in (1, 4, 7):
        draws.clear()
        index = torch.tensor([i])
        ours = corrupt(pictures[i : i + 1], name, severity, indices=index, constants="imagenet_c")
        per_value = name in ("gaussian_noise", "speckle_noise")
        kept = [d.transpose(0, 2, 3, 1) for d in draws] if per_value else draws
        replay = Replay(kept)
        with monkeypatch.context() as patch:
            for function in ("normal", "uniform", "randint"):
                patch.setattr(np.random, function, getattr(replay, function))
            corrupt_one, _ = external._package(name)
            image = pictures[i].permute(1, 2, 0).contiguous().numpy()
            theirs = corrupt_one(image, severity=severity, corruption_name=name)
        assert not replay.left
        apart.append(np.abs(ours[0].permute(1, 2, 0).int().numpy() - theirs.astype(int)))
    assert np.max(apart) <= 1 and np.mean(np.array(apart) > 0) < 0.04


@pytest.mark.parametrize("name", NAMES)
def test_the_package_can_be_run_in_place_of_ours(name: str, pictures: Tensor) -> None:
    kind = external.external(CORRUPTIONS[name])
    state = np.random.get_state()[1].copy()  # noqa: NPY002  what the package could disturb
    y = kind(pictures[:2], torch.tensor([3, 8]), 0, 2)
    assert torch.equal(kind(pictures[1:2], torch.tensor([8]), 0, 2), y[1:])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert kind.__name__ == name and y.shape == pictures[:2].shape
    if name in DRAWS_NOTHING:
        ours = corrupt(pictures[:2], name, 2, constants="imagenet_c", exact=True)
        apart = (ours.int() - y.int()).abs()
        assert apart.max() <= 1 and (apart > 0).double().mean() < 0.01


def test_the_package_has_no_constants_of_cifar(pictures: Tensor) -> None:
    kind = external.external(CORRUPTIONS["gaussian_noise"])
    with pytest.raises(ValueError, match="has no constants of `cifar10_c`. Choose"):
        kind(pictures, torch.arange(len(pictures)), 0, 1, "cifar10_c")
    assert external.version().startswith("imagecorruptions-imaug ")


def test_what_cannot_be_corrupted_is_refused_with_the_cure(pictures: Tensor) -> None:
    with pytest.raises(LookupError, match="no corruption called `fogg`. Did you mean `fog`"):
        corrupt(pictures, "fogg", 1)
    with pytest.raises(LookupError, match="no set of severity constants called `cifar`. Did you"):
        corrupt(pictures, "fog", 1, constants="cifar")
    for severity in (0, 6, 2.5, True, math.nan, "3", None, np.float64(4.2), np.True_):
        with pytest.raises(ValueError, match="`severity` must be 1, 2, 3, 4 or 5; got"):
            corrupt(pictures, "fog", severity)
    with pytest.raises(ValueError, match=r"that of one image; got \(12, 1, 32, 32\). Expand gray"):
        corrupt(pictures[:, :1], "fog", 1)
    with pytest.raises(ValueError, match=r"shape \(N, 3, H, W\); got \(12, 32, 32, 3\). Put the"):
        CORRUPTIONS["fog"](pictures.permute(0, 2, 3, 1), torch.arange(12), 0, 1)
    with pytest.raises(ValueError, match="must be uint8 in 0..255; got torch.float32. Give"):
        corrupt(pictures / 255, "fog", 1)
    with pytest.raises(ValueError, match="at least 32 pixels high and wide; got 31 x 32. Enlarge"):
        corrupt(pictures[:, :, 1:], "fog", 1)
    with pytest.raises(ValueError, match=r"`indices` must be int64 of shape \(12,\); got"):
        corrupt(pictures, "fog", 1, indices=torch.arange(11))


def test_two_workers_make_what_one_makes(pictures: Tensor) -> None:
    alone = corrupt(pictures, "snow", severity=3, indices=range(12))
    halves = (pictures[:7], torch.arange(7)), (pictures[7:], torch.arange(7, len(pictures)))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        parts = [workers.submit(corrupt, p, "snow", 3, indices=i) for p, i in halves]
        together = torch.cat([part.result() for part in parts])
    assert torch.equal(together, alone)
